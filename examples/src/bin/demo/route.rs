//! Routes: paths and their methods.

use hyper::Method;

use crate::input;

/// The route of a path. Keys are as in the path, still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    Home,
    Count,
    Login,
    Logout,
    WhoAmI,
    Hello,
    Private,
    Values,
    Value(&'p str),
    Add(&'p str),
    Slow(&'p str),
    Flash,
    Regenerate,
    Remember,
    Sessions,
    EndSession(&'p str),
    EndOthers,
    Stats,
}

impl<'p> Route<'p> {
    /// Returns the route of a path, or `None` if there is none.
    pub(crate) fn of(path: &'p str) -> Option<Self> {
        Some(match path {
            "/" => Self::Home,
            "/count" => Self::Count,
            "/login" => Self::Login,
            "/logout" => Self::Logout,
            "/whoami" => Self::WhoAmI,
            "/hello" => Self::Hello,
            "/private" => Self::Private,
            "/values" => Self::Values,
            "/flash" => Self::Flash,
            "/regenerate" => Self::Regenerate,
            "/remember" => Self::Remember,
            "/sessions" => Self::Sessions,
            "/sessions/end-others" => Self::EndOthers,
            "/stats" => Self::Stats,
            _ => {
                let (route, key) = path.strip_prefix('/')?.split_once('/')?;
                if route == "sessions" {
                    let key = key.strip_suffix("/end").filter(|key| !key.contains('/'))?;
                    return Some(Self::EndSession(key));
                }
                if key.contains('/') {
                    return None;
                }
                match route {
                    "values" => Self::Value(key),
                    "add" => Self::Add(key),
                    "slow" => Self::Slow(key),
                    _ => return None,
                }
            }
        })
    }

    /// Returns the route's name for the log. Paths are not logged, because they may contain an id.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Home => "/",
            Self::Count => "/count",
            Self::Login => "/login",
            Self::Logout => "/logout",
            Self::WhoAmI => "/whoami",
            Self::Hello => "/hello",
            Self::Private => "/private",
            Self::Values => "/values",
            Self::Value(_) => "/values/{key}",
            Self::Add(_) => "/add/{key}",
            Self::Slow(_) => "/slow/{key}",
            Self::Flash => "/flash",
            Self::Regenerate => "/regenerate",
            Self::Remember => "/remember",
            Self::Sessions => "/sessions",
            Self::EndSession(_) => "/sessions/{key}/end",
            Self::EndOthers => "/sessions/end-others",
            Self::Stats => "/stats",
        }
    }

    /// Returns the route's methods as the `Allow` header lists them. HEAD comes with GET.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::Home
            | Self::Count
            | Self::WhoAmI
            | Self::Hello
            | Self::Private
            | Self::Values
            | Self::Sessions
            | Self::Stats => "GET, HEAD",
            Self::Login | Self::Flash => "GET, HEAD, POST",
            Self::Value(_) => "GET, HEAD, PUT, DELETE",
            Self::Logout
            | Self::Add(_)
            | Self::Slow(_)
            | Self::Regenerate
            | Self::Remember
            | Self::EndSession(_)
            | Self::EndOthers => "POST",
        }
    }

    /// Returns whether the route has this method.
    pub(crate) fn allows(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

/// Decodes a key in a path, where `+` is not a blank (RFC 3986, section 2.1).
pub(crate) fn key(encoded: &str) -> Result<String, crate::reply::Failure> {
    input::percent_decode(encoded, input::Plus::IsItself).ok_or(crate::reply::Failure::bad_request(
        "the key in the path is not percent-encoded UTF-8",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_count() {
        assert_eq!(Route::of("/"), Some(Route::Home));
        assert_eq!(Route::of("/values"), Some(Route::Values));
        assert_eq!(Route::of("/values/"), Some(Route::Value("")));
        assert_eq!(Route::of("/values/a%2Fb"), Some(Route::Value("a%2Fb")));
        assert_eq!(Route::of("/sessions/x/end"), Some(Route::EndSession("x")));
        assert_eq!(Route::of("/sessions/end-others"), Some(Route::EndOthers));
        for path in ["", "*", "//", "/count/", "/Count", "/values/a/b", "/count;sid=x", "/%63ount"]
        {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}

//! A manager's configuration, as files hold it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transport::{CookieOptions, HeaderOptions, UrlOptions};
use crate::{Lifetime, Limits};

/// Which of the built-in transports carries ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// A cookie. The default.
    #[default]
    Cookie,
    /// The URL's query.
    Url,
    /// A cookie where the client returns one, the URL until then.
    Auto,
    /// A header of its own.
    Header,
}

/// Everything that can be configured, for serde: TOML, JSON, YAML or whatever a program uses.
///
/// Durations are written as people do (`"30m"`, `"12h"`, `"1day 6h"`). An unknown key is an error
/// that names it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The provider's registered name. Defaults to `memory`.
    pub provider: String,
    /// The provider's own source string. Defaults to the empty one. It may hold a password, so
    /// `Debug` doesn't show it.
    pub source: String,
    /// How ids travel. Defaults to `cookie`.
    pub transport: TransportKind,
    /// How long a session lives without use. Defaults to 30 minutes.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How long a session lives at all. Defaults to 12 hours.
    #[serde(with = "humantime_serde")]
    pub absolute: Duration,
    /// How often expired sessions are collected, give or take a tenth. Defaults to 1 minute; zero
    /// leaves collection to others.
    #[serde(with = "humantime_serde")]
    pub gc_every: Duration,
    /// How much idle time may pass before a mere read tells the store that the session is in use.
    /// Defaults to a tenth of `idle`, and is a quarter of it at most.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub touch_every: Option<Duration>,
    /// The cookie of the transports `cookie` and `auto`.
    pub cookie: CookieOptions,
    /// The query argument of the transports `url` and `auto`.
    pub url: UrlOptions,
    /// The header of the transport `header`.
    pub header: HeaderOptions,
    /// How much a session may hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: "memory".into(),
            source: String::new(),
            transport: TransportKind::default(),
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 60 * 60),
            gc_every: Duration::from_secs(60),
            touch_every: None,
            cookie: CookieOptions::default(),
            url: UrlOptions::default(),
            header: HeaderOptions::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The default lifetime of sessions.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { idle: self.idle, absolute: self.absolute }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("provider", &self.provider)
            .field("transport", &self.transport)
            .field("idle", &self.idle)
            .field("absolute", &self.absolute)
            .field("gc_every", &self.gc_every)
            .field("touch_every", &self.touch_every)
            .field("cookie", &self.cookie)
            .field("url", &self.url)
            .field("header", &self.header)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_humane_and_the_rest_has_defaults() {
        let config: Config = toml::from_str(
            "provider = \"file\"\nidle = \"45m\"\n[cookie]\nname = \"id\"\nsame_site = \"strict\"",
        )
        .unwrap();
        assert_eq!(config.provider, "file");
        assert_eq!(config.idle, Duration::from_secs(45 * 60));
        assert_eq!(config.absolute, Duration::from_secs(12 * 60 * 60));
        assert_eq!(config.cookie.same_site, crate::transport::SameSite::Strict);
        let all = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&all).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for (text, key) in [
            ("idel = \"1m\"", "idel"),
            ("[cookie]\nnames = \"x\"", "names"),
            ("[url]\nargument = \"x\"", "argument"),
            ("[header]\nx = 1", "x"),
            ("[limits]\nsize = 1", "size"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err();
            assert!(error.message().contains(key), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_source() {
        let config = Config { source: "mongodb://u:hunter2@h".into(), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

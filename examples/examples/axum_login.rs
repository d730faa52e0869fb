//! Logins in axum: a form, hashed passwords, "remember me", the page that was wanted, a message after the redirect,
//! "your sessions", logout.
//!
//!     cargo run -p examples --example axum_login
//!
//! Then open http://127.0.0.1:8080/ in a browser. The user is `ada`, the password `hunter42`.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use axum::extract::{Form, Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::header::USER_AGENT;
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use session_core::{Error, Manager, SessionKey};
use session_tower::SessionLayer;
use session_tower::axum::{Failed, LoginPage, Owner, ReturnTo, Session};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

#[derive(Clone)]
struct App {
    manager: Manager,
    users: Arc<Users>,
}

/// Who may log in, as a database would have it.
struct Users {
    /// By name, the passwords' hashes.
    hashes: HashMap<&'static str, String>,
    /// What the password for an unknown name is compared with, so that the time it takes tells nothing.
    nobodys: String,
    /// Limits concurrent comparisons, because each takes a processor and 19 MiB.
    turns: Arc<Semaphore>,
}

impl Users {
    fn new() -> Self {
        let hash = password_auth::generate_hash;
        Self {
            hashes: [("ada", hash("hunter42"))].into(),
            nobodys: hash("no password"),
            turns: Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get))),
        }
    }

    /// Takes a while, as it has to: not for the threads that serve.
    async fn have(self: Arc<Self>, given: &LoginForm) -> Result<bool, Failed> {
        let LoginForm { username, password, .. } = given.clone();
        let turn = Arc::clone(&self.turns).acquire_owned().await?;
        let checked = tokio::task::spawn_blocking(move || {
            let hash = self.hashes.get(&*username);
            let is_right = password_auth::verify_password(password, hash.unwrap_or(&self.nobodys));
            drop(turn); // Only now, because a comparison goes on if its request is dropped.
            hash.is_some() && is_right.is_ok()
        });
        Ok(checked.await?)
    }
}

#[derive(Clone, Deserialize)]
struct LoginForm {
    username: String,
    password: String,
    remember: Option<String>,
}

/// The way to the page that was wanted is in the query, and the form posts to its own URL.
const LOGIN: &str = "<!doctype html><title>Log in</title><form method=post>\
    <p><label>Name <input name=username required></label> \
    <label>Password <input name=password type=password required></label> \
    <label><input name=remember type=checkbox> Remember me</label> <button>Log in</button></form>";

async fn login_form() -> Html<&'static str> {
    Html(LOGIN)
}

async fn log_in(
    State(app): State<App>,
    session: Session,
    back: ReturnTo,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failed> {
    if !app.users.have(&form).await? {
        let again = Html(format!("{LOGIN}<p>This is not the name, or not its password."));
        return Ok((StatusCode::UNAUTHORIZED, again).into_response());
    }
    let device = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("unknown");
    session.log_in(&form.username)?; // a new id, in the save at the end of the request
    session.remember(form.remember.is_some())?;
    session.label(&device.chars().take(100).collect::<String>())?;
    session.add_flash("notices", "Welcome back.").await?;
    Ok(back.into_response())
}

async fn log_out(session: Session) -> Result<Redirect, Failed> {
    session.destroy().await?; // ends the session at once; the response clears the cookie
    Ok(Redirect::to("/"))
}

/// A page of a user's own: a stranger is sent to the login page.
async fn home(State(app): State<App>, user: Owner) -> Result<Html<String>, Failed> {
    let session = user.session();
    let mut page = format!("<!doctype html><title>Home</title><h1>Hello, {}</h1>", escaped(&user));
    for notice in session.take_flash::<String>("notices").await? {
        page += &format!("<p class=notice>{}", escaped(&notice));
    }
    page += "<h2>Your sessions</h2>";
    for one in app.manager.sessions_beside(session).await? {
        let (key, label) = (one.key, escaped(&one.label));
        page += &match one.current {
            true => format!("<p>{label}, this one"),
            false => format!(
                "<form method=post action=/sessions/{key}/end>{label} <button>End</button></form>"
            ),
        };
    }
    page += "<form method=post action=/logout><button>Log out</button></form>";
    Ok(Html(page))
}

/// Ends a session of the user's; a key of somebody else's ends nothing.
async fn end(
    State(app): State<App>,
    user: Owner,
    Path(key): Path<String>,
) -> Result<Redirect, Failed> {
    if let Some(key) = SessionKey::parse(&key) {
        app.manager.end(&user, key).await?;
    }
    user.session().add_flash("notices", "It has ended.").await?;
    Ok(Redirect::to("/"))
}

/// Text in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn app(manager: Manager) -> Result<Router, Error> {
    let app = App { manager: manager.clone(), users: Arc::new(Users::new()) };
    Ok(Router::new()
        .route("/", get(home))
        .route("/login", get(login_form).post(log_in))
        .route("/logout", post(log_out))
        .route("/sessions/{key}/end", post(end))
        .with_state(app)
        .layer(Extension(LoginPage::new("/login")?))
        .layer(SessionLayer::new(manager)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let app = app(Manager::open("memory", "")?)?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app).await?)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use hyper::Request;
    use hyper::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
    use tower::ServiceExt as _;

    use super::*;

    /// A browser: what it is called, and the cookie it has.
    struct Browser(&'static str, String);

    impl Browser {
        /// Sends a form, or asks for a page; returns the status, what the response sets or where it leads, the text.
        async fn send(&mut self, app: &Router, path: &str, form: Option<&str>) -> (u16, String) {
            let mut request = Request::builder().uri(path).header(USER_AGENT, self.0);
            request = request.header(COOKIE, &self.1);
            if form.is_some() {
                request = request
                    .method("POST")
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            }
            let body = Body::from(form.unwrap_or_default().to_owned());
            let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            if let Some(set) = parts.headers.get(SET_COOKIE) {
                self.1 = set.to_str().unwrap().split(';').next().unwrap().to_owned();
                let is_kept = set.to_str().unwrap().contains("Max-Age");
                let is_cleared = self.1.ends_with('=');
                let is_remembered = form.is_some_and(|form| form.ends_with("remember=on"));
                assert_eq!(is_kept, is_remembered || is_cleared, "{set:?}");
            }
            let text = match parts.headers.get(LOCATION) {
                Some(location) => location.to_str().unwrap().to_owned(),
                None => String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap(),
            };
            (parts.status.as_u16(), text)
        }
    }

    #[tokio::test]
    async fn a_user_logs_in_sees_the_sessions_ends_one_and_logs_out() {
        session_memory::init();
        let app = app(Manager::open("memory", "").unwrap()).unwrap();
        let (mut phone, mut laptop) =
            (Browser("Phone", String::new()), Browser("Lap<top", String::new()));
        let to_login = (303, "/login?next=%2F".to_owned());
        let right = Some("username=ada&password=hunter42");
        assert_eq!(phone.send(&app, "/", None).await, to_login);
        for wrong in ["username=ada&password=hunter43", "username=bob&password=no+password"] {
            let (status, page) = phone.send(&app, "/login?next=%2F", Some(wrong)).await;
            assert!(status == 401 && page.contains("not its password"), "{page}");
        }
        assert_eq!(phone.send(&app, "/login?next=%2F", right).await, (303, "/".to_owned()));
        let remembered = Some("username=ada&password=hunter42&remember=on");
        assert_eq!(laptop.send(&app, "/login", remembered).await, (303, "/".to_owned()));
        let (_, page) = laptop.send(&app, "/", None).await;
        for part in ["Hello, ada", "<p class=notice>Welcome back.", "Lap&lt;top, this one", "Phone"]
        {
            assert!(page.contains(part), "no {part}: {page}");
        }
        let (_, page) = laptop.send(&app, "/", None).await;
        assert!(!page.contains("Welcome back."), "{page}");
        // The phone is lost.
        let end = page.split("action=").find(|part| part.starts_with("/sessions/")).unwrap();
        let end = end.split('>').next().unwrap();
        assert_eq!(laptop.send(&app, end, Some("")).await, (303, "/".to_owned()));
        assert_eq!(phone.send(&app, "/", None).await, to_login);
        let (_, page) = laptop.send(&app, "/", None).await;
        assert!(page.contains("It has ended.") && !page.contains("Phone"), "{page}");
        let old = laptop.1.clone();
        assert_eq!(laptop.send(&app, "/logout", Some("")).await, (303, "/".to_owned()));
        laptop.1 = old;
        assert_eq!(laptop.send(&app, "/", None).await, to_login);
    }
}

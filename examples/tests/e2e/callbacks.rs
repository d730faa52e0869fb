//! Logins at an identity provider on another site, which sends the visitor back by a link or by a form.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{COOKIE, HeaderValue, REFERRER_POLICY};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use session_core::{Error, Manager, SessionService};

use crate::foreign::refused;
use crate::site::{BoxError, Site, html, manager, see_other, session};
use crate::webdriver::Browser;

/// An identity provider (OAuth 2.0, RFC 6749, section 4.1), with one account. It sends the browser back with a
/// code by a redirect, or by a form that posts itself ("OAuth 2.0 Form Post Response Mode"). Its pages have this
/// `Referrer-Policy`.
fn identity_provider(policy: &'static str) -> Site {
    Site::start(service_fn(move |request: Request<Incoming>| {
        let query = request.uri().query().expect("what the application wants");
        let [back, mode, state] = ["redirect_uri", "response_mode", "state"]
            .map(|name| argument(query, name).unwrap_or_else(|| panic!("no {name} in {query}")));
        let mut response = match (request.uri().path(), &*mode) {
            ("/authorize", _) => html(format!(
                "<form method=post action='/signed-in?{query}'><button>I am Ada</button></form>"
            )),
            ("/signed-in", "query") => see_other(&format!("{back}?code={CODE}&state={state}")),
            ("/signed-in", "form_post") => html(format!(
                "<form method=post action='{back}'><input name=code value={CODE}>
                 <input name=state value={state}></form>
                 <script>document.forms[0].submit()</script>"
            )),
            other => unreachable!("{other:?}"),
        };
        let policy = HeaderValue::from_static(policy);
        response.headers_mut().insert(REFERRER_POLICY, policy);
        std::future::ready(Ok::<_, BoxError>(response))
    }))
}

/// The browser's default policy.
const OPEN: &str = "strict-origin-when-cross-origin";

/// The code with which the provider identifies Ada.
const CODE: &str = "code-of-ada";

/// Returns an argument of a query or a form.
fn argument(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(urlencoding::decode(value).expect("UTF-8").into_owned())
}

/// An application whose visitors log in at a provider.
fn application(manager: Manager, provider: SocketAddr) -> Site {
    let handler = service_fn(move |request| sign_in(request, provider));
    Site::start(SessionService::new(manager, handler))
}

async fn sign_in(
    request: Request<Incoming>,
    provider: SocketAddr,
) -> Result<Response<String>, BoxError> {
    let session = session(&request).await?;
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(html(format!(
            "<p id=owner>{}</p><p id=cart>{}</p>",
            session.owner().as_deref().unwrap_or("nobody"),
            session.get::<String>("cart")?.as_deref().unwrap_or("nothing"),
        ))),
        (&Method::GET, "/start") => {
            // The state can't be guessed.
            let state = format!("{:x}", RandomState::new().hash_one(0));
            session.set("state", &state)?;
            session.set("cart", "tea")?;
            let host = request.headers()["host"].to_str()?;
            let (callback, mode) = match query {
                "form" => ("callback-form", "form_post"),
                _ => ("callback", "query"),
            };
            Ok(see_other(&format!(
                "http://localhost:{}/authorize?redirect_uri=http://{host}/{callback}\
                 &response_mode={mode}&state={state}",
                provider.port()
            )))
        }
        (&Method::GET, "/callback") => {
            // The state is valid once, even if two requests bring it.
            let state = argument(query, "state");
            let redeem = |kept: Option<String>| match kept == state {
                true if kept.is_some() => Ok(None),
                _ => Err(BoxError::from("this login was not begun here")),
            };
            session.try_update("state", redeem).await?;
            // A real application asks the provider here whose code this is.
            if argument(query, "code").as_deref() != Some(CODE) {
                return Err("the provider does not know this code".into());
            }
            session.log_in("ada")?;
            Ok(see_other("/"))
        }
        (&Method::POST, "/callback-form") => {
            // This cross-site request came without the cookie; the next one has it.
            assert_eq!((request.headers().get(COOKIE), session.is_new()), (None, true));
            let form = request.into_body().collect().await?.to_bytes();
            Ok(see_other(&format!("/callback?{}", str::from_utf8(&form)?)))
        }
        _ => {
            let mut response = Response::new("not found\n".to_owned());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

/// Returns the provider's origin, which is another site than the application's.
fn origin(provider: &Site) -> String {
    format!("http://localhost:{}", provider.address.port())
}

/// Returns a configuration that trusts an origin for a path.
fn trust(origin: &str, path: &str) -> String {
    format!("[cross_site.trusted]\n\"{origin}\" = [\"{path}\"]")
}

/// Referrer policies under which forms are sent with `Origin: null`.
const HIDING: [&str; 2] = ["no-referrer", "same-origin"];

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_login_at_an_identity_provider_comes_back_by_a_link_or_by_a_form() {
    let open = identity_provider(OPEN);
    let hiding = HIDING.map(identity_provider);
    let trusting = trust(&origin(&open), "/callback-form");
    let trusting_hidden = trust("null", "/callback-form");
    for (provider, query, configuration) in [
        (&open, "", ""),
        (&open, "", &trusting),
        (&open, "form", &trusting),
        (&hiding[0], "", ""),
        (&hiding[0], "form", &trusting_hidden),
        (&hiding[1], "form", &trusting_hidden),
    ] {
        let manager = manager(configuration);
        let app = application(manager.clone(), provider.address);
        let browser = Browser::start("provider", true);
        let home = format!("http://{}/", app.address);
        browser.open(&format!("{home}start?{query}"));
        browser.click("button");
        browser.wait_for("owner", "ada");
        assert_eq!(browser.url(), home);
        // The session that started the login continues under a new id.
        assert_eq!(browser.text("#cart"), "tea");
        let stats = manager.stats();
        assert_eq!((stats.created, stats.regenerated, stats.cross_site), (1, 1, 0));
    }
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_form_of_an_identity_provider_that_is_not_trusted_is_refused() {
    let open = identity_provider(OPEN);
    let hiding = HIDING.map(identity_provider);
    for (provider, configuration) in [
        (&open, ""),
        (&open, &trust(&origin(&open), "/callback")),
        (&open, &trust("null", "/callback-form")),
        (&hiding[0], &trust(&origin(&hiding[0]), "/callback-form")),
        (&hiding[1], &trust(&origin(&hiding[1]), "/callback-form")),
    ] {
        let manager = manager(configuration);
        let app = application(manager.clone(), provider.address);
        let browser = Browser::start("untrusted", true);
        browser.open(&format!("http://{}/start?form", app.address));
        browser.click("button");
        browser.wait_for_element("pre", Error::CrossSite.visitor_text());
        assert_eq!(browser.url(), format!("http://{}/callback-form", app.address));
        browser.open(&format!("http://{}/", app.address));
        browser.wait_for("owner", "nobody");
        assert_eq!(browser.text("#cart"), "tea");
        assert_eq!(manager.stats().cross_site, 1);
    }
}

/// Another site sends a visitor to the callback with the attacker's code. It fails, because the attacker
/// doesn't know the `state`.
#[test]
fn a_callback_that_was_not_begun_here_logs_nobody_in() {
    let manager = manager("[cross_site.trusted]\n\"http://idp.example\" = [\"/callback-form\"]");
    // The provider is not asked.
    let app = application(manager.clone(), ([127, 0, 0, 1], 1).into());
    let callback = |state: &str| format!("/callback?code={CODE}&state={state}");
    for target in [callback(""), callback("guessed"), format!("/callback?code={CODE}")] {
        app.visitor().get(&target).expect(500).no_cookie();
        let mut visitor = app.visitor();
        visitor.get("/start").expect(303);
        visitor.get(&target).expect(500).no_cookie();
        assert!(visitor.get("/").body.contains("nobody"));
    }
    let mut visitor = app.visitor();
    let start = visitor.get("/start").expect(303);
    let location = start.header("location").expect("the provider");
    let state = argument(location, "state").expect("it is sent along");
    // This is a form post by the provider, which changes nothing by itself.
    let form = format!("code={CODE}&state={state}");
    let headers = "Origin: http://idp.example\r\nSec-Fetch-Site: cross-site\r\n";
    let answer =
        visitor.send_with("POST", "/callback-form", headers, &form).expect(303).no_cookie();
    assert_eq!(answer.header("location"), Some(&*callback(&state)));
    refused(visitor.send_with("POST", "/callback-form", "Origin: http://evil.example\r\n", &form));
    assert_eq!(manager.stats().logins, 0);
    // The state is valid once.
    visitor.get(&callback(&state)).expect(303);
    visitor.get(&callback(&state)).expect(500).no_cookie();
    assert!(visitor.get("/").body.contains("ada"));
    assert_eq!(manager.stats().logins, 1);
}

//! Several sessions in one request: sealed and in memory, with different names and transports.

use futures_lite::future::block_on;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use session_core::conformance::{Fault, Faulty};
use session_core::transport::TransportKind;
use session_core::{Config, Error, Manager, Managers};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::site::key_option;

fn config(name: &str, provider: &str, source: &str) -> Config {
    session_cookie::init();
    session_memory::init();
    let mut config = Config::default();
    config.cookie.name = name.into();
    config.provider = provider.into();
    config.source = source.into();
    config
}

fn opened(config: &Config) -> Manager {
    Manager::from_config(config).expect("the configuration is right")
}

fn managers() -> Managers {
    let mut api = config("unused", "signed+memory", &key_option(1));
    api.transport = TransportKind::Header;
    let managers = [
        opened(&config("login", "memory", "")),
        opened(&config("prefs", "cookie", &key_option(1))),
        opened(&api),
    ];
    Managers::new(managers).expect("the names differ")
}

/// Returns the names of the cookies and headers that a response sets, sorted.
fn announced(response: &Response<()>) -> Vec<String> {
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    let mut names: Vec<String> = cookies
        .map(|cookie| cookie.to_str().unwrap().split('=').next().unwrap().to_owned())
        .chain(response.headers().get("x-session-id").map(|_| "x-session-id".to_owned()))
        .collect();
    names.sort();
    names
}

/// Returns the next request of the client that got this response.
fn returned(response: &Response<()>) -> Request<()> {
    let mut request = Request::new(());
    for cookie in response.headers().get_all(SET_COOKIE) {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        request.headers_mut().append(COOKIE, pair.parse().unwrap());
    }
    if let Some(token) = response.headers().get("x-session-id") {
        request.headers_mut().insert("x-session-id", token.clone());
    }
    request
}

#[test]
fn they_are_independent_and_finished_together() {
    let managers = managers();
    block_on(async {
        let sessions = managers.start(&Request::new(()));
        let mut response = Response::new(());
        sessions.get("login").unwrap().load().await?.set("user", "ada")?;
        sessions.get("prefs").unwrap().load().await?.set("theme", "dark")?;
        sessions.get("x-session-id").unwrap().load().await?.set("scope", "read")?;
        sessions.finish(&mut response).await.unwrap();
        assert_eq!(announced(&response), ["login", "prefs", "x-session-id"]);

        let request = returned(&response);
        let sessions = managers.start(&request);
        let mut response = Response::new(());
        let login = sessions.get("login").unwrap().load().await?;
        let prefs = sessions.get("prefs").unwrap().load().await?;
        let api = sessions.get("x-session-id").unwrap().load().await?;
        assert_eq!(login.get::<String>("user")?.as_deref(), Some("ada"));
        assert_eq!(prefs.get::<String>("theme")?.as_deref(), Some("dark"));
        assert_eq!(api.get::<String>("scope")?.as_deref(), Some("read"));
        assert_eq!(login.get::<String>("theme")?, None);
        prefs.set("theme", "light")?;
        sessions.finish(&mut response).await.unwrap();
        assert_eq!(announced(&response), ["prefs"], "what changed, and no other");
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn asking_twice_gives_the_same_session() {
    let managers = managers();
    block_on(async {
        let sessions = managers.start(&Request::new(()));
        let clone = sessions.clone();
        for name in ["login", "prefs", "x-session-id"] {
            let once = sessions.get(name).unwrap().load().await?;
            once.set("n", &1)?;
            let twice = clone.get(name).unwrap().load().await?;
            assert_eq!(twice.get::<u64>("n")?, Some(1), "{name}");
            assert_eq!(*twice.id()?.text(), *once.id()?.text(), "{name}");
        }
        assert!(sessions.get("nobody").is_none());
        let mut response = Response::new(());
        sessions.finish(&mut response).await.unwrap();
        assert_eq!(announced(&response).len(), 3, "each is announced once");
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn the_errors_of_all_are_kept_and_the_others_are_finished() {
    let memory = || MemoryProvider::new(MemoryConfig::default());
    let faulty = std::sync::Arc::new(Faulty::new(memory()));
    let down = Manager::builder()
        .with_config(config("down", "memory", ""))
        .with_provider(faulty.clone())
        .build()
        .unwrap();
    let sealed = opened(&config("sealed", "cookie", &key_option(1)));
    let fine = opened(&config("fine", "memory", ""));
    faulty.fail_after(0, Fault::NotDone);
    block_on(async {
        let request = Request::new(());
        let managers = Managers::new([&down, &sealed, &fine].map(Manager::clone)).unwrap();
        let sessions = managers.start(&request);
        let sealed = sessions.get("sealed").unwrap();
        for handle in sessions.iter() {
            handle.load().await?.set("text", "x")?;
        }
        // More than fits into a cookie.
        sealed.load().await?.set("large", &"x".repeat(5000))?;
        let mut response = Response::new(());
        let errors = sessions.finish(&mut response).await.unwrap_err();
        let names: Vec<&str> = errors.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["down", "sealed"]);
        assert_eq!(errors.first().status(), 503, "a store that is down says most");
        let (_, too_large) = errors.iter().nth(1).unwrap();
        assert!(
            matches!(too_large, Error::TooLarge { what: "cookie bytes", limit: 4096 }),
            "{too_large:?}"
        );
        assert_eq!(announced(&response), ["fine"]);
        // Both sessions can still be finished.
        sealed.load().await?.delete("large")?;
        sessions.finish(&mut response).await.unwrap();
        assert_eq!(announced(&response), ["down", "fine", "sealed"]);
        Ok::<_, Error>(())
    })
    .unwrap();
}

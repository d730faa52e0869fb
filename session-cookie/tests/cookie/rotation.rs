//! Key rotation: a new key before the old ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::SET_COOKIE;
use session_cookie::{KeyRing, SignedProvider};
use session_core::clock::TestClock;
use session_core::{Error, Manager};

use crate::shelf::Shelf;
use crate::site::{START, Site, Visitor, key, key_option};

fn source(keys: &[u8]) -> String {
    keys.iter().map(|key| key_option(*key)).collect::<Vec<_>>().join("&")
}

/// Returns the second byte of a visitor's cookie, which identifies the key.
fn key_of(visitor: &Visitor) -> String {
    visitor.text()[1..3].to_owned()
}

#[test]
fn an_old_keys_session_is_sealed_anew_at_its_next_response() {
    let shelf = Arc::new(Shelf::default());
    let sealed = |keys: &[u8]| Site::open("cookie", &source(keys));
    let signed = |keys: &[u8]| {
        let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
        Site::over(SignedProvider::new(Arc::clone(&shelf), KeyRing::new(&keys).unwrap()))
    };
    let rings: [&[u8]; 3] = [&[1], &[2, 1], &[2]];
    for (provider, sites) in [("cookie", rings.map(sealed)), ("signed", rings.map(signed))] {
        let [before, during, after] = sites;
        let old = before.enter("ada");
        assert_eq!(after.user(&old).0, None, "{provider}: the new key alone doesn't open it");
        let (user, newer) = during.user(&old);
        assert_eq!(user.as_deref(), Some("ada"), "{provider}: with the old one it opens");
        assert_ne!(newer, old, "{provider}: a mere read announces the new seal");
        assert_ne!(key_of(&newer), key_of(&old));
        let (user, same) = after.user(&newer);
        assert_eq!(user.as_deref(), Some("ada"), "{provider}: which the new key opens");
        assert_eq!(same, newer, "{provider}: once");
        assert_eq!(before.user(&newer).0, None, "{provider}: and the old one does not");
        let ((), newest) = during.request(&old, async |session| session.log_in("ada")).unwrap();
        assert_eq!(after.user(&newest).0.as_deref(), Some("ada"), "{provider}: a login, too");
    }
}

#[test]
fn an_untouched_session_of_an_old_key_stays_as_it_is() {
    let (before, during) =
        (Site::open("cookie", &source(&[1])), Site::open("cookie", &source(&[2, 1])));
    let old = before.enter("ada");
    let handle = during.manager.start(&old.request());
    let mut response = http::Response::new(());
    futures_lite::future::block_on(handle.finish(&mut response)).unwrap();
    assert!(response.headers().is_empty());
}

/// A cookie that was sealed or signed for an old name opens, and is replaced by one for the new name.
#[test]
fn a_session_of_an_old_name_is_sealed_anew_at_its_next_response() {
    let named = |provider: &str, name: &str, also: &[&str]| {
        Site::with_config(|config| {
            config.provider = provider.into();
            config.source = source(&[1]);
            config.cookie.name = name.into();
            config.cookie.also = also.iter().map(|name| (*name).to_owned()).collect();
        })
    };
    for provider in ["cookie", "signed+memory"] {
        let before = named(provider, "old", &[]);
        let during = named(provider, "new", &["other", "old"]);
        let after = named(provider, "new", &[]);
        let old = before.enter("ada");
        let handle = during.manager.start(&old.request());
        let mut response = http::Response::new(());
        let user = futures_lite::future::block_on(async {
            let user = handle.load().await.unwrap().get::<String>("user").unwrap();
            handle.finish(&mut response).await.unwrap();
            user
        });
        // In memory, each site has its own sessions.
        let is_sealed = provider == "cookie";
        assert_eq!(user.is_some(), is_sealed, "{provider}");
        let renewed = during.manager.stats().malformed == 0;
        assert!(renewed, "{provider}: the text is well formed");
        let cookies = response.headers().get_all(SET_COOKIE).iter();
        let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
        if is_sealed {
            let [new, removed] = cookies[..] else { panic!("{} cookies", cookies.len()) };
            assert!(removed.starts_with("old=; "), "{removed}");
            let (pair, _) = new.split_once(';').unwrap();
            let (name, text) = pair.split_once('=').unwrap();
            let newer = Visitor::with(name, text);
            assert_eq!(after.user(&newer), (Some("ada".into()), newer), "once");
        }
        let moved = Visitor::with("new", old.text());
        after.user(&moved);
        assert_eq!(after.manager.stats().malformed, 1, "{provider}: not without the old name");
    }
}

/// Keys with the same short id, as one pair in 256 has.
#[test]
fn keys_of_one_short_id_rotate_as_well() {
    let short = |n: u8| key_of(&Site::open("cookie", &source(&[n])).enter("ada"));
    let ids: Vec<(u8, String)> = (1..=255).map(|n| (n, short(n))).collect();
    let pair = ids.iter().enumerate().find_map(|(at, (one, id))| {
        let (other, _) = ids[at + 1..].iter().find(|(_, other)| other == id)?;
        Some((*one, *other))
    });
    let (one, two) = pair.expect("of 255 keys two share one of 256 ids");
    let before = Site::open("cookie", &source(&[one]));
    let during = Site::open("cookie", &source(&[two, one]));
    let after = Site::open("cookie", &source(&[two]));
    let old = before.enter("ada");
    let (user, newer) = during.user(&old);
    assert_eq!(user.as_deref(), Some("ada"));
    assert_eq!(after.user(&newer).0.as_deref(), Some("ada"), "sealed anew");
    assert_eq!(during.user(&newer).1, newer, "once");
}

/// Visitors on several threads, while servers change from the old key over both keys to the new one:
/// nobody is logged out, and nothing is lost.
#[test]
fn rotation_under_load_logs_nobody_out() {
    const THREADS: u64 = 4;
    session_cookie::init();
    let clock = Arc::new(TestClock::at(START));
    let site = |keys: &[u8]| {
        let config = cookie_config(&source(keys));
        let manager = Manager::builder().with_config(config).with_clock(clock.clone()).build();
        manager.expect("the configuration is right")
    };
    // Two servers; at each step one is ahead of the other.
    let rings: [&[u8]; 5] = [&[1], &[1, 2], &[2, 1], &[2, 1], &[2]];
    let servers: Vec<Manager> = rings.into_iter().map(site).collect();
    let (stage, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (requests, logouts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (servers, stage, over) = (&servers, &stage, &over);
            let (requests, logouts) = (&requests, &logouts);
            scope.spawn(move || {
                let mut visitor = counted(&servers[0], &Visitor::default()).1;
                let mut wanted = 1;
                while !over.load(Ordering::SeqCst) {
                    let step = stage.load(Ordering::SeqCst);
                    let server = &servers[step + (wanted as usize + thread as usize) % 2];
                    let (count, newer) = counted(server, &visitor);
                    wanted += 1;
                    if count != wanted {
                        logouts.fetch_add(1, Ordering::SeqCst);
                        wanted = count;
                    }
                    visitor = newer;
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for step in 0..rings.len() - 1 {
            stage.store(step, Ordering::SeqCst);
            // Each step lasts for a number of requests, not for a time.
            let until = requests.load(Ordering::SeqCst) + 2_000;
            while requests.load(Ordering::SeqCst) < until {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(requests.into_inner() >= 8_000);
    assert_eq!(logouts.into_inner(), 0, "logouts");
}

fn cookie_config(source: &str) -> session_core::Config {
    let mut config = session_core::Config::default();
    config.provider = "cookie".into();
    config.source = source.into();
    config.gc_every = std::time::Duration::ZERO;
    config
}

/// Performs a request that counts.
fn counted(manager: &Manager, visitor: &Visitor) -> (u64, Visitor) {
    futures_lite::future::block_on(async {
        let handle = manager.start(&visitor.request());
        let session = handle.load().await?;
        let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
        session.set("count", &count)?;
        let mut response = http::Response::new(());
        handle.finish(&mut response).await?;
        Ok::<_, Error>((count, visitor.after(&response)))
    })
    .expect("counting works")
}

/// A directory that is removed when dropped.
pub(crate) struct Scratch(pub(crate) std::path::PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = session_core::SessionId::generate().expect("generates").text()[..16].to_owned();
        let path = std::env::temp_dir().join(format!("session-cookie-{name}"));
        std::fs::create_dir(&path).expect("makes a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("removes its directory");
    }
}

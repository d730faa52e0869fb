//! What is sent to the server: how many commands, in how many round trips, and what it keeps.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::provider::{Changes, ExpiryChange, Page, Provider, Record, Token, Touch};
use session_core::{Error, SessionId};

use crate::faults::{EXPIRES, NOW, create, log_in, login, record, set};
use crate::server::Server;

/// Passes on what a provider and the server say, and counts how often the turn goes from the one to the
/// other.
struct Turns(Arc<AtomicUsize>);

impl Turns {
    /// A provider whose only connection is counted; `None` if there are several servers.
    fn provider(server: &Server) -> Option<(Arc<dyn Provider>, Self)> {
        let host = Server::host()?;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let turns = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&turns);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("it is accepted");
                let server = TcpStream::connect(&host).expect("the server is there");
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("it is a socket");
                }
                // The server's turn begins with what comes after an answer.
                let is_clients = Arc::new(AtomicUsize::new(1));
                for (from, to, by_client) in [(&client, &server, true), (&server, &client, false)] {
                    let mut from = from.try_clone().expect("it is a socket");
                    let mut to = to.try_clone().expect("it is a socket");
                    let (turns, is_clients) = (Arc::clone(&counted), Arc::clone(&is_clients));
                    thread::spawn(move || {
                        let mut bytes = [0; 65_536];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            match by_client {
                                true => turns.fetch_add(
                                    is_clients.swap(0, Ordering::SeqCst),
                                    Ordering::SeqCst,
                                ),
                                false => is_clients.swap(1, Ordering::SeqCst),
                            };
                            if to.write_all(&bytes[..read]).is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        let provider = server.provider_at(&Server::url_at(address), "");
        // Connected and prepared.
        create(&*provider, record());
        Some((provider, Self(turns)))
    }

    /// How many round trips this takes.
    fn of<T>(&self, what: impl FnOnce() -> T) -> (usize, T) {
        let before = self.0.load(Ordering::SeqCst);
        let done = what();
        (self.0.load(Ordering::SeqCst) - before, done)
    }
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn an_operation_is_one_round_trip() {
    let server = Server::new();
    let Some((provider, turns)) = Turns::provider(&server) else {
        return; // Whose turn it is can't be told of several connections.
    };
    let (count, token) = turns.of(|| create(&*provider, record()));
    assert_eq!(count, 1, "create");
    let (count, owned) =
        turns.of(|| create(&*provider, Record { login: login("ada"), ..record() }));
    assert_eq!(count, 1, "create with an owner");
    let (count, loaded) = turns.of(|| block_on(provider.load(&token, NOW)));
    assert_eq!((count, loaded.unwrap()), (1, Some(record())), "load");

    let holder = record().holder;
    let save = |token: &Token, changes: Changes| {
        turns.of(|| block_on(provider.save(token, &holder, &changes, NOW)).map(drop))
    };
    let touch = Touch { used: NOW, expires: EXPIRES.saturating_add(Duration::from_secs(1)) };
    let expiry = ExpiryChange::Extend(touch);
    for (what, changes) in [
        ("save", set("a", 9).with_expiry(expiry)),
        (
            "save of many",
            (0..200).fold(Changes::new(), |mut changes, n| {
                changes.set(&format!("key{n}"), [n]);
                changes
            }),
        ),
        ("a deletion of all", Changes::new().replacing()),
        ("save where the value is as expected", set("a", 5).expecting("a", None)),
    ] {
        let (count, saved) = save(&token, changes);
        saved.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(count, 1, "{what}");
    }
    let (count, saved) = save(&token, set("a", 9).expecting("a", Some(&[1])));
    assert!(count == 1 && matches!(saved, Err(Error::Conflict)), "{count}, {saved:?}");
    let (count, saved) = save(&SessionId::generate().unwrap().into(), set("a", 9));
    assert!(count == 1 && matches!(saved, Err(Error::Gone)), "{count}, {saved:?}");
    let (count, saved) = save(&token, log_in(&token, "ada"));
    saved.unwrap();
    assert_eq!(count, 1, "a login");
    let (count, touched) = turns.of(|| block_on(provider.touch(&token, touch, NOW)));
    touched.unwrap();
    assert_eq!(count, 1, "touch");

    let page = Page { after: None, limit: 10 };
    let (count, listed) = turns.of(|| block_on(provider.list("ada", page, NOW)));
    assert_eq!((count, listed.unwrap().sessions.len()), (2, 2), "list");
    let anonymous = create(&*provider, record());
    for (token, wanted) in [(&anonymous, 1), (&owned, 2), (&token, 2)] {
        let (count, ended) = turns.of(|| block_on(provider.destroy(&token.key(), EXPIRES, NOW)));
        ended.unwrap();
        assert_eq!(count, wanted, "destroy");
    }
    let (count, listed) = turns.of(|| block_on(provider.list("ada", page, NOW)));
    assert_eq!((count, listed.unwrap().sessions.len()), (1, 0), "an empty list");
}

/// The server removes a session, an owner's list, and nothing before its time.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn everything_expires_after_its_margin() {
    let server = Server::new();
    let provider = server.provider("ttl_margin=1m");
    let token = create(&*provider, Record { login: login("ada"), ..record() });
    let left = |name: &str| -> u64 {
        let left: i64 = server.ask(redis::cmd("PTTL").arg(name));
        u64::try_from(left).expect("it is there, and expires")
    };
    let near = |left: u64, wanted: u64| {
        assert!((wanted - 30_000..=wanted).contains(&left), "{left} for {wanted}");
    };
    let (session, list) = (server.name(&token.key()), format!("{}owner:ada", server.prefix));
    let (hour, day) = (3_600_000, 86_400_000);
    near(left(&session), hour + 60_000);
    near(left(&list), hour + day + 60_000);
    // A session that outlives its list by far has that prolonged, with each touch.
    let touch = |days: u64| {
        let expires = NOW.saturating_add(Duration::from_millis(days * day));
        block_on(provider.touch(&token, Touch { used: NOW, expires }, NOW)).unwrap();
    };
    touch(1);
    near(left(&list), hour + day + 60_000);
    touch(30);
    near(left(&session), 30 * day + 60_000);
    near(left(&list), 31 * day + 60_000);
    server.ask::<u64>(redis::cmd("DEL").arg(&list));
    touch(31);
    let page = Page { after: None, limit: 10 };
    let listed = block_on(provider.list("ada", page, NOW)).unwrap();
    assert_eq!(listed.sessions.len(), 1, "the list is made again");
    block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
    assert_eq!(server.ask::<u64>(redis::cmd("EXISTS").arg(&list)), 0, "nothing is left");
}

/// An owner who only ever logs in, and never out, keeps no more entries than sessions and a few.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn logins_alone_keep_a_list_short() {
    let server = Server::new();
    let provider = server.provider("ttl_margin=1s");
    for hour in 0..400 {
        let now = NOW.saturating_add(Duration::from_secs(hour * 7200));
        let expires = now.saturating_add(Duration::from_secs(3600));
        let record = Record { login: login("ada"), ..Record::new(record().holder, now, expires) };
        block_on(provider.create(&SessionId::generate().unwrap(), record, now)).unwrap();
    }
    let list = format!("{}owner:ada", server.prefix);
    let entries = server.ask::<u64>(redis::cmd("ZCARD").arg(&list));
    assert!(entries <= 20, "{entries} entries of one session");
}

/// What a leaked dump shows: a digest of the secret, never that itself.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn no_key_has_a_secret() {
    let server = Server::new();
    let provider = server.provider("");
    let id = SessionId::generate().unwrap();
    let holder = provider.verifier(&id.into(), "");
    let record = Record { holder, login: login("ada"), ..record() };
    block_on(provider.create(&id, record, NOW)).unwrap();
    let bytes: Vec<u8> = server.ask(redis::cmd("GET").arg(server.name(&id.key())));
    let secret = id.secret().as_bytes();
    assert!(bytes.windows(32).any(|window| window == holder.as_bytes()));
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let text = id.text();
    for key in server.keys() {
        assert!(!key.contains(&text[16..]), "{key}");
    }
}

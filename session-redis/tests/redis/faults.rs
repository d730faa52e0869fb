//! Servers that fail, refuse, or are not what they were.
//!
//! What would be in the way of other tests happens to a server of the test's own.

use std::time::Duration;

use futures_lite::future::block_on;
use parking_lot::Mutex;
use session_core::provider::{
    Changes, ExpiryChange, Login, NewSecret, Page, Provider, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, Timestamp};
use session_redis::{RedisConfig, RedisProvider};
use tracing::field::Field;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::own_server::OwnServer;
use crate::server::Server;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
pub(crate) const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);

pub(crate) fn record() -> Record {
    let values = [("a", [1]), ("b", [2])].into_iter().collect();
    Record { values, ..Record::new(Verifier::from_bytes([7; 32]), NOW, EXPIRES) }
}

pub(crate) fn set(key: &str, value: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, [value]);
    changes
}

pub(crate) fn login(owner: &str) -> Option<Box<Login>> {
    Some(Box::new(Login { owner: owner.into(), at: NOW, label: "Firefox".into() }))
}

/// A login as a handler makes it: with a new secret.
pub(crate) fn log_in(token: &Token, owner: &str) -> Changes {
    let new = NewSecret {
        token: token.id().with_new_secret().expect("there is chance").into(),
        holder: Verifier::from_bytes([8; 32]),
        at: NOW,
    };
    set("user", 1).with_login(login(owner)).with_secret(new)
}

pub(crate) fn create(provider: &dyn Provider, record: Record) -> Token {
    let id = SessionId::generate().expect("there is chance");
    block_on(provider.create(&id, record, NOW)).expect("it is stored");
    id.into()
}

pub(crate) fn save(provider: &dyn Provider, token: &Token, changes: &Changes) -> Result<(), Error> {
    block_on(provider.save(token, &record().holder, changes, NOW)).map(drop)
}

pub(crate) fn load(provider: &dyn Provider, token: &Token) -> Result<Option<Record>, Error> {
    block_on(provider.load(token, NOW))
}

/// Nobody is told of it.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_connection_that_the_server_closes_while_it_is_idle_is_replaced() {
    let own = OwnServer::start();
    // However busy the machine is.
    let provider = own.provider("connections=2&operation_timeout=20s");
    let token = create(&*provider, record());
    let mut failed = 0;
    for n in 0..100 {
        own.close_all();
        // That it is noticed takes our thread a moment; what is sent in this moment is in doubt.
        std::thread::yield_now();
        loop {
            let closed: String = own.ask(redis::cmd("CLIENT").arg("LIST"));
            if closed.lines().count() == 1 {
                break;
            }
        }
        match save(&*provider, &token, &set("a", n)) {
            Ok(()) => {}
            Err(Error::InDoubt { .. }) => failed += 1,
            other => panic!("{other:?}"),
        }
        // What can be repeated never fails.
        assert!(load(&*provider, &token).unwrap().is_some());
        own.close_all();
        let touch = Touch { used: NOW, expires: EXPIRES };
        block_on(provider.touch(&token, touch, NOW)).unwrap();
    }
    assert!(failed < 50, "{failed} of 100 saves met a connection that had ended");
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_server_that_is_killed_is_unavailable_until_it_is_back() {
    let mut own = OwnServer::start();
    let provider = own.provider("");
    let token = create(&*provider, record());
    own.kill();
    for _ in 0..3 {
        let loaded = load(&*provider, &token);
        assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    }
    let saved = save(&*provider, &token, &set("a", 1));
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    own.revive();
    assert_eq!(load(&*provider, &token).unwrap(), None, "it has no disk");
    let token = create(&*provider, record());
    save(&*provider, &token, &set("a", 3)).unwrap();
}

/// Connections are accepted by the system even then.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_server_that_stands_still_is_given_up_within_the_time_limit() {
    let own = OwnServer::start();
    let provider = own.provider("operation_timeout=300ms");
    let token = create(&*provider, record());
    own.signal("STOP");
    let began = std::time::Instant::now();
    let saved = save(&*provider, &token, &set("a", 9));
    assert!(matches!(saved, Err(Error::InDoubt { .. })), "it was sent: {saved:?}");
    let saved = save(&*provider, &token, &set("a", 9));
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "no connection: {saved:?}");
    let loaded = load(&*provider, &token);
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    own.signal("CONT");
    assert!(load(&*provider, &token).unwrap().is_some());
}

/// New sessions and larger ones are refused; nobody loses anything, and everybody can log out.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_full_server_takes_what_makes_nothing_larger() {
    let own = OwnServer::start();
    let provider = own.provider("");
    // MessagePack's binaries of so many bytes in all.
    let binary = |length: u8| [&[0xc4, length - 2][..], &vec![1; usize::from(length) - 2]].concat();
    let values = [("a", binary(100)), ("b", binary(100))].into_iter().collect();
    let token = create(&*provider, Record { values, ..record() });
    let owned = create(&*provider, Record { login: login("ada"), ..record() });
    own.configure("maxmemory-policy", "noeviction");
    own.configure("maxmemory", "1");

    let is_full = |result: Result<(), Error>, what: &str| {
        assert!(matches!(result, Err(Error::Full { what: "maxmemory" })), "{what}: {result:?}");
    };
    let id = SessionId::generate().unwrap();
    is_full(block_on(provider.create(&id, record(), NOW)).map(drop), "created");
    assert_eq!(load(&*provider, &id.into()).unwrap(), None);
    let mut larger = set("a", 1);
    larger.set("c", binary(200));
    is_full(save(&*provider, &token, &larger), "a larger one");
    is_full(save(&*provider, &token, &log_in(&token, "ada")), "a login");
    let stored = load(&*provider, &token).unwrap().expect("it is there");
    assert_eq!((stored.values.len(), stored.values.size(), stored.login), (2, 202, None));

    save(&*provider, &token, &set("a", 9)).unwrap();
    let mut smaller = Changes::new();
    smaller.delete("b");
    save(&*provider, &token, &smaller).unwrap();
    for (used, expires) in [(5, 0), (6, 7)] {
        let later = |n| EXPIRES.saturating_add(Duration::from_secs(n));
        let touch = Touch { used: later(used), expires: later(expires) };
        block_on(provider.touch(&token, touch, NOW)).unwrap();
        let stored = load(&*provider, &token).unwrap().expect("it is there");
        assert_eq!((stored.used, stored.expires), (later(used), later(expires)));
        let moved = set("a", 8).with_expiry(ExpiryChange::Extend(touch));
        save(&*provider, &token, &moved).unwrap();
    }
    save(&*provider, &owned, &Changes::new().with_login(None).replacing()).unwrap();
    for token in [&token, &owned] {
        block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
        assert_eq!(load(&*provider, token).unwrap(), None);
    }
    let page = Page { after: None, limit: 10 };
    assert_eq!(block_on(provider.list("ada", page, NOW)).unwrap().sessions, []);
    own.configure("maxmemory", "0");
    create(&*provider, record());
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_primary_that_became_a_replica_writes_nothing() {
    let own = OwnServer::start();
    let provider = own.provider("");
    let token = create(&*provider, record());
    own.ask::<()>(redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1));
    for changes in [set("a", 1), log_in(&token, "ada")] {
        let saved = save(&*provider, &token, &changes);
        assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    }
    own.ask::<()>(redis::cmd("REPLICAOF").arg("NO").arg("ONE"));
    assert_eq!(load(&*provider, &token).unwrap(), Some(record()));
    save(&*provider, &token, &set("a", 1)).unwrap();
}

/// A server checks `min-replicas-to-write` before it writes anything.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_primary_that_refuses_writes_without_replicas_has_written_nothing() {
    let own = OwnServer::start();
    let provider = own.provider("");
    let token = create(&*provider, record());
    own.configure("min-replicas-to-write", "1");
    for changes in [set("a", 9), log_in(&token, "ada")] {
        let saved = save(&*provider, &token, &changes);
        assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    }
    let created = block_on(provider.create(&SessionId::generate().unwrap(), record(), NOW));
    assert!(matches!(created, Err(Error::Unavailable { .. })), "{created:?}");
    assert_eq!(load(&*provider, &token).unwrap(), Some(record()));
    own.configure("min-replicas-to-write", "0");
    save(&*provider, &token, &set("a", 9)).unwrap();
}

/// Too few replicas: what was written may be lost, and isn't acknowledged.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_write_that_too_few_replicas_have_is_in_doubt() {
    let own = OwnServer::start();
    let plain = own.provider("");
    let token = create(&*plain, record());
    let waiting = own.provider("wait=1&operation_timeout=200ms");
    let saved = save(&*waiting, &token, &set("a", 9));
    assert!(matches!(saved, Err(Error::InDoubt { .. })), "{saved:?}");
    let refused = save(&*waiting, &SessionId::generate().unwrap().into(), &set("a", 9));
    assert!(matches!(refused, Err(Error::Gone | Error::InDoubt { .. })), "{refused:?}");
    assert!(load(&*waiting, &token).unwrap().is_some(), "reading waits for nobody");
}

/// A server that forgets its scripts is sent them again.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_server_that_forgot_the_scripts_learns_them_again() {
    let own = OwnServer::start();
    let provider = own.provider("");
    let token = create(&*provider, record());
    let forget = || own.ask::<()>(redis::cmd("SCRIPT").arg("FLUSH"));
    forget();
    save(&*provider, &token, &set("a", 9)).unwrap();
    forget();
    block_on(provider.touch(&token, Touch { used: NOW, expires: EXPIRES }, NOW)).unwrap();
    forget();
    save(&*provider, &token, &log_in(&token, "ada")).unwrap();
    forget();
    block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
    forget();
    create(&*provider, record());
}

/// With the commands that the documentation lists, and no others.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_user_needs_the_documented_permissions_alone() {
    let own = OwnServer::start();
    let documented = "+hello +evalsha +eval +script|load +get +getrange +set +setrange +strlen +del +pttl \
        +pexpire +persist +zadd +zrem +zcard +zrangebylex +info";
    let lib = include_str!("../../src/lib.rs");
    let in_docs = lib.replace("\n//! ", " ");
    assert!(in_docs.contains(documented), "the documentation says something else");
    for without in ["", "+script|load", "+info"] {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("app").arg("reset").arg("on").arg(">pw").arg("~session:*");
        let rights = documented.split_whitespace().filter(|right| *right != without);
        rights.for_each(|right| _ = command.arg(right));
        own.ask::<()>(&mut command);
        let config = RedisConfig::parse(&format!("redis://app:pw@127.0.0.1:{}", own.port)).unwrap();
        let provider = RedisProvider::new(config).unwrap();
        let token = create(&provider, record());
        let touch = Touch { used: EXPIRES, expires: EXPIRES };
        block_on(provider.touch(&token, touch, NOW)).unwrap();
        save(&provider, &token, &log_in(&token, "ada")).unwrap();
        let page = Page { after: None, limit: 10 };
        assert_eq!(block_on(provider.list("ada", page, NOW)).unwrap().sessions.len(), 1);
        block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
    }
    own.ask::<()>(redis::cmd("ACL").arg("SETUSER").arg("app").arg("-get"));
    let config = RedisConfig::parse(&format!("redis://app:pw@127.0.0.1:{}", own.port)).unwrap();
    let loaded = load(&RedisProvider::new(config).unwrap(), &SessionId::generate().unwrap().into());
    let Err(Error::Unavailable { source }) = loaded else { panic!("{loaded:?}") };
    assert_eq!(source.to_string(), "the server answered NOPERM");
    let config =
        RedisConfig::parse(&format!("redis://app:hunter2@127.0.0.1:{}", own.port)).unwrap();
    let loaded = load(&RedisProvider::new(config).unwrap(), &SessionId::generate().unwrap().into());
    let Err(Error::Unavailable { source }) = loaded else { panic!("{loaded:?}") };
    assert_eq!(source.to_string(), "the server answered WRONGPASS");
}

/// Nothing of this is a session; nothing is in the way of one.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn what_is_no_session_is_unreadable_and_can_be_replaced_or_destroyed() {
    let server = Server::new();
    let provider = server.provider("");
    let sample = create(&*provider, record());
    let owned = create(&*provider, Record { login: login("ada"), ..record() });
    let bytes_of =
        |token: &Token| -> Vec<u8> { server.ask(redis::cmd("GET").arg(server.name(&token.key()))) };
    let (bytes, owned) = (bytes_of(&sample), bytes_of(&owned));
    let mut values = vec![b"".to_vec(), b"text".to_vec(), vec![0; 500], vec![0xff; 500]];
    values.extend((1..bytes.len()).step_by(7).map(|end| bytes[..end].to_vec()));
    values.extend((1..owned.len()).step_by(7).map(|end| owned[..end].to_vec()));
    values.push([&bytes[..], b"x"].concat());
    for bytes in [&bytes, &owned] {
        // Layout, length, version, lengths of texts and the number of keys.
        let before = if bytes[0] == 1 { 5 } else { 21 };
        for at in [0, 1, 4, before, before + 77, before + 84] {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            values.push(changed);
        }
    }
    let mut commands: Vec<(&str, Vec<Vec<u8>>)> =
        values.into_iter().map(|value| ("SET", vec![value])).collect();
    commands.push(("HSET", vec![b"field".to_vec(), b"value".to_vec()]));
    commands.push(("RPUSH", vec![b"value".to_vec()]));
    commands.push(("SADD", vec![b"value".to_vec()]));
    commands.push(("ZADD", vec![b"1".to_vec(), b"value".to_vec()]));
    for (name, arguments) in commands {
        let what = format!("{name} {:?}", arguments[0]);
        let plant = |token: &Token| {
            let mut command = redis::cmd(name);
            command.arg(server.name(&token.key()));
            for argument in &arguments {
                command.arg(argument);
            }
            server.ask::<redis::Value>(&command);
        };
        let id = SessionId::generate().unwrap();
        let token = Token::from(id);
        plant(&token);
        let loaded = load(&*provider, &token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
        let mut replacing = log_in(&token, "ada").replacing();
        replacing.delete("b");
        for changes in [set("new", 1), Changes::new().expecting("a", None), replacing] {
            let saved = save(&*provider, &token, &changes);
            assert!(matches!(saved, Err(Error::Gone)), "{what}: {saved:?}");
        }
        block_on(provider.destroy(&id.key(), EXPIRES, NOW)).unwrap();
        assert_eq!(load(&*provider, &token).unwrap(), None, "{what}");
        plant(&token);
        block_on(provider.create(&id, record(), NOW)).unwrap();
        assert_eq!(load(&*provider, &token).unwrap(), Some(record()), "{what}");
    }
}

/// Whatever an owner's name is, the list comes in pages and expires with the sessions.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn no_name_of_an_owner_leaves_anything() {
    let server = Server::new();
    let provider = server.provider("");
    let longest = "x".repeat(1024);
    for owner in
        ["", "{}", "{a}", "}{", "\0", "\r\n*1\r\n", "*", "[a-z]", "owner:", "\u{10ffff}", &longest]
    {
        let owned = Record { login: login(owner), ..record() };
        let [left, given, ended] = [(); 3].map(|()| create(&*provider, owned.clone()));
        let mut page = Page { after: None, limit: 1 };
        let mut seen = 0;
        loop {
            let listed = block_on(provider.list(owner, page, NOW)).unwrap();
            seen += listed.sessions.len();
            match listed.next {
                next @ Some(_) => page.after = next,
                None => break,
            }
        }
        assert_eq!(seen, 3, "{owner:?}");
        save(&*provider, &left, &Changes::new().with_login(None)).unwrap();
        save(&*provider, &given, &Changes::new().with_login(login("ada"))).unwrap();
        block_on(provider.destroy(&ended.key(), EXPIRES, NOW)).unwrap();
        block_on(provider.destroy(&given.key(), EXPIRES, NOW)).unwrap();
        assert_eq!(server.keys(), [server.name(&left.key())], "{owner:?}");
        block_on(provider.destroy(&left.key(), EXPIRES, NOW)).unwrap();
    }
}

/// Warnings that are logged, by any thread.
struct Warnings(Mutex<Vec<String>>);

impl Subscriber for &'static Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
            text += &format!("{field}={value:?} ");
        });
        self.0.lock().push(text);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Once, however many connections there are.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_policy_that_ends_sessions_at_random_is_logged() {
    static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(&WARNINGS).expect("no other test sets one");
    let own = OwnServer::start();
    own.configure("maxmemory", "100mb");
    for (policy, wanted) in [("allkeys-lru", 0), ("volatile-random", 1)] {
        own.configure("maxmemory-policy", policy);
        let provider = own.provider("connections=8");
        for _ in 0..32 {
            create(&*provider, record());
        }
        let logged = WARNINGS.0.lock();
        let logged = logged.iter().filter(|text| text.contains(policy)).count();
        assert_eq!(logged, wanted, "{policy}");
    }
}

/// A list's key of another type doesn't prevent a login, which replaces it with a list.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn what_is_no_list_is_replaced_at_a_login() {
    let server = Server::new();
    let provider = server.provider("");
    let list = format!("{}owner:ada", server.prefix);
    let page = Page { after: None, limit: 10 };
    for (name, arguments) in [("SET", &["text"][..]), ("RPUSH", &["a"]), ("HSET", &["a", "b"])] {
        let mut command = redis::cmd(name);
        server.ask::<u64>(redis::cmd("DEL").arg(&list));
        server.ask::<redis::Value>(command.arg(&list).arg(arguments));
        let listed = block_on(provider.list("ada", page, NOW));
        assert!(matches!(listed, Err(Error::Unreadable { .. })), "{name}: {listed:?}");
        let token = create(&*provider, record());
        save(&*provider, &token, &log_in(&token, "ada")).unwrap();
        let listed = block_on(provider.list("ada", page, NOW)).unwrap();
        assert_eq!(listed.sessions.len(), 1, "{name}");
    }
}

/// In a cluster, the entry is made before the session that it stands for is stored.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn an_entry_waits_a_minute_for_its_session() {
    let server = Server::new();
    let provider = server.provider("ttl_margin=0s");
    let list = format!("{}owner:ada", server.prefix);
    let stamp = (NOW.as_millis() << 16).to_be_bytes();
    let entry = [SessionId::generate().unwrap().key().as_bytes(), &stamp[..]].concat();
    server.ask::<u64>(redis::cmd("ZADD").arg(&list).arg(0).arg(entry));
    for (seconds, wanted) in [(1, 1), (59, 1), (61, 0)] {
        let now = NOW.saturating_add(Duration::from_secs(seconds));
        let listed = block_on(provider.list("ada", Page { after: None, limit: 10 }, now)).unwrap();
        assert_eq!(listed.sessions, []);
        let left: u64 = server.ask(redis::cmd("ZCARD").arg(&list));
        assert_eq!(left, wanted, "after {seconds} s");
    }
}

/// The causes that an operator reads in the log.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn errors_say_what_is_to_be_done() {
    let own = OwnServer::start();
    let node = OwnServer::start_node();
    let cause = |url: &str| {
        let provider = RedisProvider::new(RedisConfig::parse(url).unwrap()).unwrap();
        let loaded = load(&provider, &SessionId::generate().unwrap().into());
        let Err(Error::Unavailable { source }) = loaded else { panic!("{url}: {loaded:?}") };
        source.to_string()
    };
    let at = |port: u16, rest: &str| format!("redis://127.0.0.1:{port}/{rest}");
    assert_eq!(cause(&at(own.port, "99")), "the server answered ERR: DB index is out of range");
    let cluster = cause(&at(own.port, "?mode=cluster"));
    assert!(cluster.contains("no node of a cluster") || cluster.contains("ERR"), "{cluster}");
    let mut all = redis::cmd("CLUSTER");
    let mut connection = node.connection();
    all.arg("ADDSLOTS").arg((0..16_384).collect::<Vec<u16>>());
    all.query::<()>(&mut connection).unwrap();
    let other = OwnServer::start_node();
    node.ask::<()>(redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.port));
    while !other.ask::<String>(redis::cmd("CLUSTER").arg("INFO")).contains("cluster_state:ok") {
        std::thread::yield_now();
    }
    let moved = cause(&at(other.port, ""));
    assert_eq!(moved, "the server is a node of a cluster: the source has to say mode=cluster");
    own.configure("maxclients", "1");
    let _only = own.connection();
    let full = cause(&at(own.port, ""));
    assert!(full.contains("max number of clients reached"), "{full}");
}

/// Keys and values that a script might take for something else.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn data_are_never_run() {
    let server = Server::new();
    let provider = server.provider("");
    let token = create(&*provider, record());
    let texts = [
        "') redis.call('FLUSHALL') --",
        "]] return 1 --",
        "\r\n$4\r\nPING\r\n",
        "\0",
        "%s%n",
        "ARGV[1]",
        "{a}",
    ];
    for text in texts {
        let mut changes = Changes::new();
        changes.set(text, [&[0xd9, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat());
        let changes = changes.with_login(login(text));
        save(&*provider, &token, &changes).unwrap();
        let stored = load(&*provider, &token).unwrap().expect("it is there");
        assert_eq!(stored.values.get(text).map(|value| &value[2..]), Some(text.as_bytes()));
        let page = Page { after: None, limit: 10 };
        assert_eq!(block_on(provider.list(text, page, NOW)).unwrap().sessions.len(), 1);
    }
    assert_eq!(load(&*provider, &token).unwrap().unwrap().values.len(), 2 + texts.len());
}

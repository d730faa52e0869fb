//! What becomes of an operation when something fails on its way.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use session_core::{
    Changes, Error, ExpiryChange, Provider, Record, SessionId, Timestamp, Token, Values,
};
use session_mongo::mongodb;

use crate::proxy::{Fault, Link, Pose, Proxy};
use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const LATER: Timestamp = Timestamp::from_millis(1_800_007_200_123);

/// A server behind a proxy, and a session on it.
struct Scene {
    server: Server,
    proxy: Proxy,
    provider: Arc<dyn Provider>,
    token: Token,
}

impl Scene {
    fn new(pose: Pose) -> Self {
        Self::with(pose, "operation_timeout=3s")
    }

    fn with(pose: Pose, options: &str) -> Self {
        let server = Server::new();
        let proxy = server.proxy(pose);
        let options = format!("ensure_ttl=false&{options}");
        let provider = server.provider_at(&server.uri_through(&proxy), &options);
        let id = SessionId::generate().unwrap();
        let token = server.block_on(provider.create(&id, record(), NOW)).unwrap();
        Self { server, proxy, provider, token }
    }

    fn save(&self, changes: &Changes) -> Result<Token, Error> {
        self.server.block_on(self.provider.save(&self.token, changes, NOW))
    }

    fn create(&self) -> (Token, Result<Token, Error>) {
        let id = SessionId::generate().unwrap();
        (id.into(), self.server.block_on(self.provider.create(&id, record(), NOW)))
    }

    fn rename(&self) -> (Token, Result<Token, Error>) {
        let id = SessionId::generate().unwrap();
        (id.into(), self.server.block_on(self.provider.rename(&self.token, &id, NOW)))
    }

    fn touch(&self) -> Result<Token, Error> {
        self.server.block_on(self.provider.touch(&self.token, LATER, NOW))
    }

    fn destroy(&self) -> Result<(), Error> {
        self.server.block_on(self.provider.destroy(&self.token, NOW))
    }

    /// What is stored, asked directly.
    fn stored(&self, token: &Token) -> Option<Record> {
        let direct = self.server.provider("ensure_ttl=false");
        self.server.block_on(direct.load(token, NOW)).unwrap()
    }

    fn stored_number(&self) -> u8 {
        self.stored(&self.token).unwrap().values.get("n").unwrap()[0]
    }

    /// All faults that were ordered have happened.
    fn done(&self) {
        assert!(self.proxy.is_done(), "the fault never happened");
    }
}

fn record() -> Record {
    let values: Values = [("n", [1]), ("other", [7])].into_iter().collect();
    Record { created: NOW, expires: EXPIRES, owner: None, values }
}

/// The counter from 1 to 2, if it is still 1.
fn increment() -> Changes {
    let mut changes = Changes::new().expecting("n", Some(&[1]));
    changes.set("n", [2]);
    changes
}

fn set(n: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set("n", [n]);
    changes
}

fn error(code: i32, name: &str, labels: &[&str]) -> Document {
    doc! { "ok": 0, "code": code, "codeName": name, "errmsg": "no", "errorLabels": labels }
}

fn is_in_doubt<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::InDoubt { .. }))
}

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable { .. }))
}

/// The faults after which a write has been applied, and nobody was told.
fn applied() -> [Fault; 2] {
    [Fault::LoseReply, Fault::CutReply]
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_save_whose_reply_is_lost_is_in_doubt_where_nobody_keeps_book() {
    for fault in applied() {
        let scene = Scene::new(Pose::Standalone);
        scene.proxy.fail("update", 1, fault.clone());
        let result = scene.save(&increment());
        assert!(is_in_doubt(&result), "{fault:?}: {result:?}");
        assert_eq!(scene.stored_number(), 2, "{fault:?}: the server had written it");
        let result = scene.save(&set(5));
        assert!(result.is_ok(), "{fault:?}: and the next one passes: {result:?}");
        scene.done();
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_save_whose_reply_is_lost_is_repeated_without_doubt_where_the_server_keeps_book() {
    for fault in [Fault::LoseReply, Fault::CutReply, Fault::CutRequest] {
        let scene = Scene::new(Pose::Primary);
        scene.proxy.fail("update", 1, fault.clone());
        let result = scene.save(&increment());
        assert!(result.is_ok(), "{fault:?}: {result:?}");
        assert_eq!(scene.stored_number(), 2, "{fault:?}: written once");
        scene.done();
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_save_that_is_cut_on_its_way_is_not_acknowledged() {
    let scene = Scene::new(Pose::Standalone);
    scene.proxy.fail("update", 1, Fault::CutRequest);
    let result = scene.save(&increment());
    assert!(is_in_doubt(&result), "{result:?}");
    assert_eq!(scene.stored_number(), 1);
    scene.done();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn what_can_be_repeated_without_harm_is() {
    for fault in [Fault::LoseReply, Fault::CutReply, Fault::CutRequest] {
        for pose in [Pose::Standalone, Pose::Primary] {
            let what = format!("{fault:?} {pose:?}");
            let scene = Scene::new(pose);
            scene.proxy.fail("insert", 1, fault.clone());
            let (token, result) = scene.create();
            assert!(result.is_ok(), "create, {what}: {result:?}");
            assert_eq!(scene.stored(&token), Some(record()), "created, {what}");

            scene.proxy.fail("update", 1, fault.clone());
            let result = scene.touch();
            assert!(result.is_ok(), "touch, {what}: {result:?}");
            assert_eq!(scene.stored(&scene.token).unwrap().expires, LATER, "touched, {what}");

            scene.proxy.fail("update", 1, fault.clone());
            let (token, result) = scene.rename();
            assert!(result.is_ok(), "rename, {what}: {result:?}");
            assert_eq!(scene.stored(&scene.token), None, "the old id is dead, {what}");
            assert!(scene.stored(&token).is_some(), "the new one lives, {what}");

            let scene = Scene::new(pose);
            scene.proxy.fail("delete", 1, fault.clone());
            let result = scene.destroy();
            assert!(result.is_ok(), "destroy, {what}: {result:?}");
            assert_eq!(scene.stored(&scene.token), None, "destroyed, {what}");
            scene.done();
        }
    }
}

/// A rename of a session that ended is `Gone`, lost reply or not.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_rename_does_not_take_a_dead_session_for_a_moved_one() {
    let scene = Scene::new(Pose::Standalone);
    scene.destroy().unwrap();
    scene.proxy.fail("update", 1, Fault::LoseReply);
    let (token, result) = scene.rename();
    assert!(matches!(result, Err(Error::Gone)), "{result:?}");
    assert_eq!(scene.stored(&token), None);
    scene.done();
}

/// A repeated creation that meets somebody else's record doesn't take it for its own.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_creation_does_not_take_anothers_record_for_its_own() {
    let scene = Scene::new(Pose::Standalone);
    scene.proxy.fail("insert", 1, Fault::LoseReply);
    let other = Record { owner: Some("other".into()), ..record() };
    let created = scene.provider.create(scene.token.id(), other, NOW);
    let result = scene.server.block_on(created);
    assert!(matches!(result, Err(Error::Exists)), "{result:?}");
    assert_eq!(scene.stored(&scene.token), Some(record()));
    scene.done();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_is_no_primary_any_more_has_written_nothing() {
    let refusal = error(10107, "NotWritablePrimary", &["RetryableWriteError"]);
    // For a moment: the driver finds the new primary and repeats.
    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 1, Fault::Answer(refusal.clone()));
    let result = scene.save(&increment());
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(scene.stored_number(), 2);
    scene.done();

    for pose in [Pose::Standalone, Pose::Primary] {
        let scene = Scene::new(pose);
        scene.proxy.fail("update", 20, Fault::Answer(refusal.clone()));
        let result = scene.save(&increment());
        assert!(is_unavailable(&result), "{pose:?}: {result:?}");
        assert_eq!(scene.stored_number(), 1);
    }
}

/// One that steps down while it writes may have written.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_steps_down_meanwhile_leaves_doubt_unless_it_can_be_asked_again() {
    let stepping = error(189, "PrimarySteppedDown", &["RetryableWriteError"]);
    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 1, Fault::Answer(stepping.clone()));
    let result = scene.save(&increment());
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(scene.stored_number(), 2);
    scene.done();

    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 20, Fault::Answer(stepping));
    let result = scene.save(&increment());
    assert!(is_in_doubt(&result), "{result:?}");
    assert_eq!(scene.stored_number(), 1);

    let nothing = error(189, "PrimarySteppedDown", &["NoWritesPerformed"]);
    let scene = Scene::new(Pose::Standalone);
    scene.proxy.fail("update", 1, Fault::Answer(nothing));
    let result = scene.save(&increment());
    assert!(is_unavailable(&result), "it says that it wrote nothing: {result:?}");
    scene.done();
}

/// Written at one server and not known to be at a majority: not acknowledged.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_write_without_a_majority_is_not_acknowledged() {
    for (code, name) in [(64, "WriteConcernFailed"), (100, "UnsatisfiableWriteConcern")] {
        for pose in [Pose::Standalone, Pose::Primary] {
            let concern =
                doc! { "writeConcernError": { "code": code, "codeName": name, "errmsg": "no" } };
            let scene = Scene::new(pose);
            scene.proxy.fail("update", 1, Fault::Amend(concern.clone()));
            let result = scene.save(&increment());
            assert!(is_in_doubt(&result), "save, {name} {pose:?}: {result:?}");
            assert_eq!(scene.stored_number(), 2, "applied once");

            let scene = Scene::new(pose);
            scene.proxy.fail("update", 20, Fault::Amend(concern.clone()));
            let (_, result) = scene.rename();
            assert!(is_in_doubt(&result), "rename, {name} {pose:?}: {result:?}");
            scene.proxy.fail("delete", 20, Fault::Amend(concern.clone()));
            let result = scene.destroy();
            assert!(is_in_doubt(&result), "destroy, {name} {pose:?}: {result:?}");
        }
    }
}

/// A repetition that meets its first attempt asks a majority whether it is there to stay.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_write_is_acknowledged_when_a_majority_has_it() {
    let concern = doc! {
        "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "no" },
    };
    let nothing =
        doc! { "ok": 1, "cursor": { "id": 0_i64, "ns": "sessions.sessions", "firstBatch": [] } };
    for known in [true, false] {
        let answer = if known { Fault::Amend(doc! {}) } else { Fault::Answer(nothing.clone()) };
        let scene = Scene::new(Pose::Standalone);
        scene.proxy.fail("insert", 1, Fault::Amend(concern.clone()));
        scene.proxy.fail("find majority", 1, answer.clone());
        let (_, result) = scene.create();
        assert_eq!(result.is_ok(), known, "create: {result:?}");
        assert_eq!(is_in_doubt(&result), !known, "create: {result:?}");
        scene.done();

        scene.proxy.fail("update", 1, Fault::Amend(concern.clone()));
        scene.proxy.fail("find majority", 1, answer.clone());
        let (_, result) = scene.rename();
        assert_eq!(result.is_ok(), known, "rename: {result:?}");
        assert_eq!(is_in_doubt(&result), !known, "rename: {result:?}");
        scene.done();
    }
}

/// The error of the primary that went away while it replicated, which servers label to be retried.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_write_whose_majority_is_retried_is_applied_once() {
    let concern = doc! {
        "writeConcernError": {
            "code": 91, "codeName": "ShutdownInProgress", "errmsg": "no",
            "errorLabels": ["RetryableWriteError"],
        },
    };
    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 1, Fault::Amend(concern));
    let result = scene.save(&increment());
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(scene.stored_number(), 2);
    scene.done();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_write_that_is_never_answered_is_in_doubt_and_a_read_is_unavailable() {
    let scene = Scene::with(Pose::Standalone, "operation_timeout=300ms");
    scene.proxy.fail("update", 1, Fault::Hang);
    let result = scene.save(&increment());
    assert!(is_in_doubt(&result), "{result:?}");
    assert_eq!(scene.stored_number(), 2);
    scene.proxy.fail("find", 1, Fault::Hang);
    let loaded = scene.server.block_on(scene.provider.load(&scene.token, NOW));
    assert!(is_unavailable(&loaded), "{loaded:?}");
    scene.done();
    scene.save(&set(9)).expect("and then all is well");
    assert_eq!(scene.stored_number(), 9);
}

/// Nothing is written by asking why nothing was: a conflict whose explanation is lost is none of
/// doubt.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_conflict_that_can_not_be_explained_is_unavailable() {
    let scene = Scene::with(Pose::Standalone, "operation_timeout=300ms");
    scene.save(&set(3)).unwrap();
    scene.proxy.fail("find", 1, Fault::Hang);
    let result = scene.save(&increment());
    assert!(is_unavailable(&result), "{result:?}");
    assert_eq!(scene.stored_number(), 3);
    scene.done();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_load_whose_reply_is_lost_is_repeated() {
    for fault in [Fault::LoseReply, Fault::CutReply, Fault::CutRequest] {
        for pose in [Pose::Standalone, Pose::Primary] {
            let scene = Scene::new(pose);
            scene.proxy.fail("find", 1, fault.clone());
            let loaded = scene.server.block_on(scene.provider.load(&scene.token, NOW));
            assert_eq!(loaded.unwrap(), Some(record()), "{fault:?} {pose:?}");
            scene.done();
        }
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_is_cut_off_is_unavailable_and_comes_back() {
    for link in [Link::Closed, Link::Silent] {
        let scene = Scene::with(Pose::Standalone, "operation_timeout=500ms");
        scene.proxy.set_link(link);
        // The first ones may have been on connections that were there.
        for _ in 0..3 {
            let result = scene.touch();
            assert!(is_unavailable(&result) || is_in_doubt(&result), "{link:?}: {result:?}");
        }
        let loaded = scene.server.block_on(scene.provider.load(&scene.token, NOW));
        assert!(is_unavailable(&loaded), "{link:?}: {loaded:?}");
        let (_, result) = scene.create();
        assert!(is_unavailable(&result), "{link:?}: no connection, no doubt: {result:?}");
        scene.proxy.set_link(Link::Open);
        let back = (0..100).any(|_| scene.save(&set(4)).is_ok());
        assert!(back, "{link:?}: it recovers by itself");
        assert_eq!(scene.stored_number(), 4);
    }
}

/// A server that is down when the provider opens does no lasting harm.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_is_down_at_the_start_is_found_later() {
    let server = Server::new();
    let proxy = server.proxy(Pose::Standalone);
    proxy.set_link(Link::Closed);
    let provider = server.provider_at(&server.uri_through(&proxy), "operation_timeout=300ms");
    let id = SessionId::generate().unwrap();
    let result = server.block_on(provider.create(&id, record(), NOW));
    assert!(is_unavailable(&result), "{result:?}");
    // The first thing it does then, making indexes, fails too.
    proxy.fail("createIndexes", 1, Fault::LoseReply);
    proxy.set_link(Link::Open);
    let mut results = (0..100).map(|_| server.block_on(provider.create(&id, record(), NOW)));
    assert!(results.any(|result| result.is_ok()), "it recovers by itself");
    let names = server.block_on(server.documents().list_index_names().into_future()).unwrap();
    assert!(names.iter().any(|name| name == "key_1"), "{names:?}");
    assert!(names.iter().any(|name| name == "expires_1"), "{names:?}");
    assert!(proxy.is_done());
}

/// A server that wants a login refuses a wrong one, and nobody reads the password anywhere. One that
/// wants none may let it pass.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_wrong_password_is_unavailable_and_not_shown() {
    let server = Server::new();
    let right = crate::server::uri();
    let (scheme, rest) = right.split_once("://").unwrap();
    let wants_login = rest.contains('@');
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let wrong = format!("{scheme}://postgres:hunter2@{hosts}");
    let provider = server.provider_at(&wrong, "ensure_ttl=false");
    let result = server.block_on(provider.count(NOW));
    assert!(is_unavailable(&result) || !wants_login, "{result:?}");
    assert!(!format!("{result:?} {provider:?}").contains("hunter2"), "{result:?}");
}

/// A lifetime that was shortened is set outright, and comes through a lost reply as any save.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_shortened_lifetime_survives_a_lost_reply_where_the_server_keeps_book() {
    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 1, Fault::LoseReply);
    let soon = Timestamp::from_millis(NOW.as_millis() + 1000);
    let result = scene.save(&Changes::new().with_expiry(ExpiryChange::Set(soon)));
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(scene.stored(&scene.token).unwrap().expires, soon);
    scene.done();
}

//! Operations when the connection or the server fails.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use session_core::provider::{
    Changes, ExpiryChange, Login, NewSecret, Page, Provider, Record, Touch, Values, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use session_mongo::mongodb;

use crate::proxy::{Fault, Link, Pose, Proxy};
use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const LATER: Touch = Touch {
    used: Timestamp::from_millis(1_800_000_300_123),
    expires: Timestamp::from_millis(1_800_007_200_123),
};

/// A server behind a proxy, with a session.
struct Scene {
    server: Server,
    proxy: Proxy,
    provider: Arc<dyn Provider>,
    id: SessionId,
}

impl Scene {
    fn new(pose: Pose) -> Self {
        Self::with(pose, "operation_timeout=3s")
    }

    fn with(pose: Pose, options: &str) -> Self {
        Self::after(pose, options, |_| ())
    }

    /// Makes a scene whose first operation already meets the proxy's faults.
    fn after(pose: Pose, options: &str, tell: impl FnOnce(&Proxy)) -> Self {
        let server = Server::new();
        let proxy = server.proxy(pose);
        tell(&proxy);
        let options = format!("ensure_ttl=false&{options}");
        let provider = server.provider_at(&server.uri_through(&proxy), &options);
        let id = SessionId::generate().unwrap();
        server.block_on(provider.create(&id, record(id), NOW)).unwrap();
        Self { server, proxy, provider, id }
    }

    fn save(&self, changes: &Changes) -> Result<(), Error> {
        self.save_as(self.id, changes)
    }

    /// Saves as a request with this id.
    fn save_as(&self, id: SessionId, changes: &Changes) -> Result<(), Error> {
        let (token, holder) = (id.into(), Verifier::digest(&id, ""));
        self.server.block_on(self.provider.save(&token, &holder, changes, NOW)).map(|_| ())
    }

    fn create(&self) -> (SessionId, Result<(), Error>) {
        let id = SessionId::generate().unwrap();
        let created = self.server.block_on(self.provider.create(&id, record(id), NOW));
        (id, created.map(|_| ()))
    }

    fn touch(&self) -> Result<(), Error> {
        let token = self.id.into();
        self.server.block_on(self.provider.touch(&token, LATER, NOW)).map(|_| ())
    }

    fn destroy(&self) -> Result<(), Error> {
        self.server.block_on(self.provider.destroy(&self.id.key(), EXPIRES, NOW))
    }

    /// Returns the keys on the first page of Ada's sessions.
    fn list(&self) -> Result<Vec<SessionKey>, Error> {
        let page = Page { after: None, limit: Page::MAX_SIZE };
        let listed = self.server.block_on(self.provider.list("ada", page, NOW))?;
        Ok(listed.sessions.iter().map(|session| session.key).collect())
    }

    /// Returns the stored record, bypassing the proxy.
    fn stored(&self, id: SessionId) -> Option<Record> {
        let direct = self.server.provider("ensure_ttl=false");
        self.server.block_on(direct.load(&id.into(), NOW)).unwrap()
    }

    fn stored_number(&self) -> u8 {
        self.stored(self.id).unwrap().values.get("n").unwrap()[0]
    }

    /// Checks that all ordered faults have happened.
    fn done(&self) {
        assert!(self.proxy.is_done(), "the fault never happened");
    }
}

fn record(id: SessionId) -> Record {
    let values: Values = [("n", [1]), ("other", [7])].into_iter().collect();
    Record { values, ..Record::new(Verifier::digest(&id, ""), NOW, EXPIRES) }
}

/// Returns the changes of a login, and the id that opens the session afterwards.
fn login(id: SessionId) -> (Changes, SessionId) {
    let new_id = id.with_new_secret().unwrap();
    let mut changes = set(3);
    changes.login = Some(Some(Box::new(Login { owner: "ada".into(), at: NOW, label: "".into() })));
    let holder = Verifier::digest(&new_id, "");
    changes.secret = Some(Box::new(NewSecret { token: new_id.into(), holder, at: NOW }));
    (changes, new_id)
}

/// Returns whether the login was applied. Checks that it was not applied partially.
fn is_logged_in(scene: &Scene, new_id: SessionId) -> bool {
    let stored = scene.stored(new_id).expect("the session lives");
    let logged_in = stored.holder == Verifier::digest(&new_id, "");
    assert_eq!(stored.owner().is_some(), logged_in);
    assert_eq!(stored.values.get("n"), Some(if logged_in { &[3][..] } else { &[1] }));
    logged_in
}

/// Returns changes of the counter from 1 to 2 if it is still 1.
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

/// Returns the faults after which a write has been applied without an acknowledgement.
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
            let (id, result) = scene.create();
            assert!(result.is_ok(), "create, {what}: {result:?}");
            assert_eq!(scene.stored(id), Some(record(id)), "created, {what}");

            scene.proxy.fail("update", 1, fault.clone());
            let result = scene.touch();
            assert!(result.is_ok(), "touch, {what}: {result:?}");
            let stored = scene.stored(scene.id).unwrap();
            assert_eq!((stored.used, stored.expires), (LATER.used, LATER.expires), "{what}");

            scene.proxy.fail("update", 1, fault.clone());
            let (changes, new_id) = login(scene.id);
            let result = scene.save(&changes);
            assert!(result.is_ok(), "login, {what}: {result:?}");
            assert!(is_logged_in(&scene, new_id), "{what}");
            let result = scene.save(&set(9));
            assert!(matches!(result, Err(Error::Gone)), "the old id is dead, {what}: {result:?}");
            scene.save_as(new_id, &set(4)).expect("the new one lives");

            let scene = Scene::new(pose);
            scene.proxy.fail("delete", 1, fault.clone());
            let result = scene.destroy();
            assert!(result.is_ok(), "destroy, {what}: {result:?}");
            assert_eq!(scene.stored(scene.id), None, "destroyed, {what}");
            scene.done();
        }
    }
}

/// A login in doubt was applied as a whole or not at all, and the same save succeeds afterwards.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_in_doubt_is_settled_by_the_same_save() {
    for (fault, applied) in
        [(Fault::LoseReply, true), (Fault::CutReply, true), (Fault::CutRequest, false)]
    {
        let scene = Scene::new(Pose::Standalone);
        let (changes, new_id) = login(scene.id);
        scene.proxy.fail("update", 4, fault.clone());
        let result = scene.save(&changes);
        assert!(is_in_doubt(&result), "{fault:?}: {result:?}");
        scene.done();
        assert_eq!(is_logged_in(&scene, new_id), applied, "{fault:?}");
        scene.save(&changes).expect("the save is repeatable");
        assert!(is_logged_in(&scene, new_id), "{fault:?}");
    }
}

/// A retry doesn't mistake its first attempt for another request's save.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_conditional_login_whose_reply_is_lost_is_no_conflict() {
    for fault in [Fault::LoseReply, Fault::CutReply, Fault::CutRequest] {
        let scene = Scene::new(Pose::Standalone);
        let (changes, new_id) = login(scene.id);
        let changes = changes.expecting("n", Some(&[1]));
        scene.proxy.fail("update", 1, fault.clone());
        let result = scene.save(&changes);
        assert!(result.is_ok(), "{fault:?}: {result:?}");
        assert!(is_logged_in(&scene, new_id), "{fault:?}");
        scene.done();

        let scene = Scene::new(Pose::Standalone);
        let (changes, new_id) = login(scene.id);
        scene.proxy.fail("update", 1, fault.clone());
        let result = scene.save(&changes.expecting("n", Some(&[9])));
        assert!(matches!(result, Err(Error::Conflict)), "{fault:?}: {result:?}");
        assert!(!is_logged_in(&scene, new_id), "{fault:?}");
        scene.done();
    }
}

/// The first attempt of a login that was retried and acknowledged may still be under way. When it
/// arrives, it undoes no later save.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_that_arrives_late_undoes_no_later_save() {
    for is_conditional in [false, true] {
        let scene = Scene::new(Pose::Standalone);
        let (mut changes, new_id) = login(scene.id);
        if is_conditional {
            changes = changes.expecting("n", Some(&[1]));
        }
        scene.proxy.fail("update", 1, Fault::Delay);
        scene.save(&changes).expect("the repetition is acknowledged");
        assert!(is_logged_in(&scene, new_id));
        scene.save_as(new_id, &set(1)).expect("the new id lives");
        scene.server.block_on(scene.proxy.deliver());
        assert_eq!(scene.stored_number(), 1);
        assert_eq!(scene.stored(scene.id).unwrap().holder, Verifier::digest(&new_id, ""));
        scene.done();
    }
}

/// After a first attempt in doubt, a refused retry doesn't tell whether the first one was applied.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_whose_repetition_is_refused_is_in_doubt() {
    let refusal = error(10107, "NotWritablePrimary", &[]);
    for matched in [true, false] {
        let scene = Scene::new(Pose::Standalone);
        let (changes, new_id) = login(scene.id);
        scene.proxy.fail("update", 1, Fault::LoseReply);
        if matched {
            scene.proxy.fail("update", 1, Fault::Amend(doc! {}));
        }
        scene.proxy.fail("update", 1, Fault::Answer(refusal.clone()));
        let result = scene.save(&changes);
        assert!(is_in_doubt(&result), "{result:?}");
        assert!(is_logged_in(&scene, new_id));
        scene.done();
    }
}

/// A login in a session that ended is `Gone`, even if a reply was lost.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_login_revives_nothing() {
    let scene = Scene::new(Pose::Standalone);
    scene.destroy().unwrap();
    scene.proxy.fail("update", 1, Fault::LoseReply);
    let (changes, new_id) = login(scene.id);
    let result = scene.save(&changes);
    assert!(matches!(result, Err(Error::Gone)), "{result:?}");
    assert_eq!(scene.stored(new_id), None);
    scene.done();
}

/// A retried creation that finds another session's record doesn't take it for its own.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_creation_does_not_take_anothers_record_for_its_own() {
    let scene = Scene::new(Pose::Standalone);
    scene.proxy.fail("insert", 1, Fault::LoseReply);
    let other = scene.id.with_new_secret().unwrap();
    let result = scene.server.block_on(scene.provider.create(&other, record(other), NOW));
    assert!(matches!(result, Err(Error::Exists)), "{result:?}");
    assert_eq!(scene.stored(scene.id), Some(record(scene.id)));
    scene.done();
}

/// It can't be determined whether the first attempt was applied.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_repeated_creation_that_can_not_be_looked_up_is_in_doubt() {
    let scene = Scene::with(Pose::Standalone, "operation_timeout=1s");
    scene.proxy.fail("insert", 1, Fault::LoseReply);
    scene.proxy.fail("find", 1, Fault::Hang);
    let (id, result) = scene.create();
    assert!(is_in_doubt(&result), "{result:?}");
    assert_eq!(scene.stored(id), Some(record(id)));
    scene.done();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_is_no_primary_any_more_has_written_nothing() {
    let refusal = error(10107, "NotWritablePrimary", &["RetryableWriteError"]);
    // The primary is missing only briefly: the driver finds the new one and retries.
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

/// A primary that steps down while it writes may have written.
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

/// A write that may not have reached a majority is not acknowledged.
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
            let (changes, new_id) = login(scene.id);
            let result = scene.save(&changes);
            assert!(is_in_doubt(&result), "login, {name} {pose:?}: {result:?}");
            assert!(is_logged_in(&scene, new_id));
            scene.proxy.fail("delete", 20, Fault::Amend(concern.clone()));
            let result = scene.destroy();
            assert!(is_in_doubt(&result), "destroy, {name} {pose:?}: {result:?}");
        }
    }
}

/// A retry that finds its first attempt checks whether a majority has it.
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
        scene.proxy.fail("find majority", 1, answer);
        let (_, result) = scene.create();
        assert_eq!(result.is_ok(), known, "create: {result:?}");
        assert_eq!(is_in_doubt(&result), !known, "create: {result:?}");
        scene.done();
    }
}

/// The error of a primary that shut down while it replicated, which servers label as retryable.
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
    scene.proxy.fail("find", 2, Fault::Hang);
    let loaded = scene.server.block_on(scene.provider.load(&scene.id.into(), NOW));
    assert!(is_unavailable(&loaded), "{loaded:?}");
    let listed = scene.list();
    assert!(is_unavailable(&listed), "{listed:?}");
    scene.done();
    scene.save(&set(9)).expect("and then all is well");
    assert_eq!(scene.stored_number(), 9);
}

/// The command that explains a conflict writes nothing. If its reply is lost, the save is not in doubt.
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
fn a_load_or_list_whose_reply_is_lost_is_repeated() {
    for fault in [Fault::LoseReply, Fault::CutReply, Fault::CutRequest] {
        for pose in [Pose::Standalone, Pose::Primary] {
            let scene = Scene::new(pose);
            scene.proxy.fail("find", 1, fault.clone());
            let loaded = scene.server.block_on(scene.provider.load(&scene.id.into(), NOW));
            assert_eq!(loaded.unwrap(), Some(record(scene.id)), "{fault:?} {pose:?}");
            scene.done();
            scene.save(&login(scene.id).0).unwrap();
            scene.proxy.fail("find", 1, fault.clone());
            assert_eq!(scene.list().unwrap(), [scene.id.key()], "{fault:?} {pose:?}");
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
        // The first operations may have used existing connections.
        for _ in 0..3 {
            let result = scene.touch();
            assert!(is_unavailable(&result) || is_in_doubt(&result), "{link:?}: {result:?}");
        }
        let loaded = scene.server.block_on(scene.provider.load(&scene.id.into(), NOW));
        assert!(is_unavailable(&loaded), "{link:?}: {loaded:?}");
        let (id, result) = scene.create();
        // Without a connection nothing is in doubt. After a time-out, the driver doesn't tell whether it
        // had one.
        let is_told = is_unavailable(&result);
        assert!(is_told || link == Link::Silent && is_in_doubt(&result), "{link:?}: {result:?}");
        scene.proxy.set_link(Link::Open);
        assert_eq!(scene.stored(id), None, "{link:?}");
        let back = (0..100).any(|_| scene.save(&set(4)).is_ok());
        assert!(back, "{link:?}: it recovers by itself");
        assert_eq!(scene.stored_number(), 4);
    }
}

/// Without the right to create indexes, an administrator creates them by hand.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn without_the_right_to_create_indexes_everything_works() {
    let refused = Fault::Answer(error(13, "Unauthorized", &[]));
    let scene = Scene::after(Pose::Itself, "operation_timeout=3s", |proxy| {
        proxy.fail("createIndexes", 2, refused);
    });
    scene.done();
    assert_eq!(scene.list().unwrap(), [] as [SessionKey; 0]);
    scene.save(&login(scene.id).0).unwrap();
    assert_eq!(scene.list().unwrap(), [scene.id.key()]);
}

/// A server may be down when the provider is opened.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_server_that_is_down_at_the_start_is_found_later() {
    let server = Server::new();
    let proxy = server.proxy(Pose::Standalone);
    proxy.set_link(Link::Closed);
    let provider = server.provider_at(&server.uri_through(&proxy), "operation_timeout=300ms");
    let id = SessionId::generate().unwrap();
    let result = server.block_on(provider.create(&id, record(id), NOW));
    assert!(is_unavailable(&result), "{result:?}");
    // Creating the indexes, which comes first, fails as well.
    proxy.fail("createIndexes", 1, Fault::LoseReply);
    proxy.set_link(Link::Open);
    let mut results = (0..100).map(|_| server.block_on(provider.create(&id, record(id), NOW)));
    assert!(results.any(|result| result.is_ok()), "it recovers by itself");
    let names = server.block_on(server.documents().list_index_names().into_future()).unwrap();
    assert!(names.iter().any(|name| name == "expires_1"), "{names:?}");
    assert!(proxy.is_done());
}

/// A server with authentication refuses a wrong password, which appears nowhere. A server without
/// authentication may accept it.
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

/// A shortened lifetime is set absolutely, and survives a lost reply like any save.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_shortened_lifetime_survives_a_lost_reply_where_the_server_keeps_book() {
    let scene = Scene::new(Pose::Primary);
    scene.proxy.fail("update", 1, Fault::LoseReply);
    let soon = Timestamp::from_millis(NOW.as_millis() + 1000);
    let times = Touch { used: NOW, expires: soon };
    let result = scene.save(&Changes::new().with_expiry(ExpiryChange::Set(times)));
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(scene.stored(scene.id).unwrap().expires, soon);
    scene.done();
}

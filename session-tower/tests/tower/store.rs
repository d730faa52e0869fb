//! tower-sessions' store over a provider, and axum-login on it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Form, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend, login_required};
use http::header::{CONTENT_TYPE, COOKIE, LOCATION};
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;
use session_core::clock::{Clock as _, SystemClock, TestClock};
use session_core::provider::{self, Provider as _};
use session_core::{Error, Limits, Manager, SessionId, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};
use session_tower::ProviderStore;
use sha2::{Digest as _, Sha256};
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{self, ExpiredDeletion as _, SessionStore as _};
use tower_sessions::{Session, SessionManagerLayer};

use crate::support::{Reply, Visitor};

/// A store in memory, and its time, which begins with that of the other library.
fn store() -> (ProviderStore, Arc<MemoryProvider>, Arc<TestClock>) {
    let provider = Arc::new(MemoryProvider::new(MemoryConfig::default()));
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let store = ProviderStore::new(provider.clone()).unwrap().with_clock(clock.clone());
    (store, provider, clock)
}

/// A session that ends an hour after the clock's time.
fn record(clock: &TestClock) -> Record {
    let end = i128::from(clock.now().as_millis() + 3_600_000) * 1_000_000;
    let expiry_date = time::OffsetDateTime::from_unix_timestamp_nanos(end).unwrap();
    let data = [
        ("n".to_owned(), json!(1)),
        ("\0odd key".to_owned(), json!({ "deep": [1.5, -1, u64::MAX, "text", null, true] })),
    ];
    Record { id: Id::default(), data: data.into(), expiry_date }
}

#[tokio::test]
async fn what_is_stored_comes_back_as_it_was() {
    let (store, _, clock) = store();
    let mut record = record(&clock);
    let id = record.id;
    store.create(&mut record).await.unwrap();
    assert_eq!(record.id, id, "the id is free");
    assert_eq!(store.load(&id).await.unwrap(), Some(record.clone()));
    record.data.remove("n");
    record.data.insert("m".into(), json!([]));
    record.expiry_date -= Duration::from_secs(60);
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), Some(record), "as a whole, also what was removed");
    assert_eq!(store.load(&Id::default()).await.unwrap(), None);
    store.delete(&id).await.unwrap();
    store.delete(&id).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), None);
}

#[tokio::test]
async fn an_id_that_is_taken_is_exchanged() {
    let (store, _, clock) = store();
    let mut first = record(&clock);
    store.create(&mut first).await.unwrap();
    let mut second = Record { data: HashMap::default(), ..first.clone() };
    store.create(&mut second).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(store.load(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.load(&second.id).await.unwrap(), Some(second));
}

/// What their own stores do: a slow request's save brings back the session of who logged out.
#[tokio::test]
async fn a_session_that_is_gone_does_not_come_back_by_a_save() {
    let (store, provider, clock) = store();
    let mut record = record(&clock);
    let never_created = store.save(&record).await;
    assert!(matches!(never_created, Err(session_store::Error::Backend(_))), "{never_created:?}");
    store.create(&mut record).await.unwrap();
    store.delete(&record.id).await.unwrap();
    let deleted = store.save(&record).await.unwrap_err();
    assert_eq!(deleted.to_string(), "the session ended or got a new id meanwhile");
    assert_eq!(store.load(&record.id).await.unwrap(), None);
    assert_eq!(provider.count(clock.now()).await.unwrap(), 0);
    // Nor one that expired.
    store.create(&mut record).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    assert!(store.save(&record).await.is_err());
    assert_eq!(store.load(&record.id).await.unwrap(), None);
}

#[tokio::test]
async fn what_has_expired_is_removed_when_asked() {
    let (store, provider, clock) = store();
    for _ in 0..1_500 {
        store.create(&mut record(&clock)).await.unwrap();
    }
    clock.advance(Duration::from_secs(1800));
    let mut later = record(&clock);
    store.create(&mut later).await.unwrap();
    clock.advance(Duration::from_secs(1801));
    store.delete_expired().await.unwrap();
    // By a time at which all would have been alive.
    assert_eq!(provider.count(Timestamp::from_millis(0)).await.unwrap(), 1);
    assert_eq!(store.load(&later.id).await.unwrap(), Some(later));
}

/// Expiry dates may be anything that their type holds.
#[tokio::test]
async fn dates_of_all_times_are_kept() {
    let (store, _, clock) = store();
    let mut record = record(&clock);
    record.expiry_date = time::macros::datetime!(9999-12-31 23:59:59 UTC);
    store.create(&mut record).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap().as_ref(), Some(&record));
    record.expiry_date = time::macros::datetime!(1900-01-01 0:00 UTC);
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), None, "it ended long ago");
}

#[tokio::test]
async fn too_much_is_an_error_and_changes_nothing() {
    let (store, _, clock) = store();
    let mut record = record(&clock);
    store.create(&mut record).await.unwrap();
    let mut large = record.clone();
    large.data.insert("large".into(), json!("x".repeat(100_000)));
    let refused = store.save(&large).await;
    assert!(matches!(refused, Err(session_store::Error::Encode(_))), "{refused:?}");
    assert_eq!(store.load(&record.id).await.unwrap(), Some(record));
    let mut limits = Limits::default();
    limits.bytes = 200_000;
    let store = store.with_limits(limits);
    store.create(&mut large).await.unwrap();
    assert_eq!(store.load(&large.id).await.unwrap(), Some(large));
}

/// A store that several programs use: what a manager's visitor carries opens no session of these, nor the other
/// way round, though all is of one form.
#[tokio::test]
async fn a_manager_on_the_same_store_has_other_sessions() {
    let (store, provider, clock) = store();
    let mut record = record(&clock);
    store.create(&mut record).await.unwrap();
    let hash = Sha256::new()
        .chain_update(b"tower-sessions id 1\0")
        .chain_update(record.id.0.to_le_bytes());
    let id = SessionId::from_bytes(hash.finalize().into());
    // It is there, under this key.
    assert!(provider.load(&id.into(), clock.now()).await.unwrap().is_some());
    let builder = Manager::builder().with_provider(provider).with_clock(clock);
    let manager = builder.build().unwrap();
    let cookie = format!("__Host-id={}", &*id.text());
    let request = Request::builder().header(COOKIE, cookie).body(()).unwrap();
    let session = manager.start(&request).load().await.unwrap();
    assert!(session.is_new() && session.keys().is_empty(), "{session:?}");
}

#[tokio::test]
async fn providers_with_tokens_of_their_own_are_refused() {
    session_memory::init();
    session_cookie::init();
    for (name, source) in
        [("cookie", "ephemeral=true&revocations=memory"), ("signed+memory", "ephemeral=true")]
    {
        let error = ProviderStore::open(name, source).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{name}: {error}");
    }
    assert!(matches!(ProviderStore::open("mango", ""), Err(Error::UnknownProvider { .. })));
    // Encryption at rest asks nothing of the client.
    let provider = provider::open("encrypted+memory", "ephemeral=true").unwrap();
    let store = ProviderStore::new(provider).unwrap();
    let mut record = record(&TestClock::at(SystemClock.now()));
    store.create(&mut record).await.unwrap();
    record.data.insert("n".into(), json!(2));
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), Some(record));
}

/// Their layer, with its sessions in our store.
#[tokio::test]
async fn tower_sessions_works_over_it() {
    async fn count(session: Session) -> String {
        let n: u32 = session.get("n").await.unwrap().unwrap_or(0) + 1;
        session.insert("n", n).await.unwrap();
        n.to_string()
    }

    async fn cycle(session: Session) {
        session.cycle_id().await.unwrap();
    }

    async fn end(session: Session) {
        session.flush().await.unwrap();
    }

    let (store, provider, clock) = store();
    let app = Router::new()
        .route("/", post(count))
        .route("/cycle", post(cycle))
        .route("/end", post(end))
        .layer(SessionManagerLayer::new(store));
    let mut visitor = Visitor::default();
    assert_eq!(visitor.post(&app, "/").await.expect(200), "1");
    assert_eq!(visitor.post(&app, "/").await.expect(200), "2");
    let mut old = visitor.clone();
    visitor.post(&app, "/cycle").await.expect(200);
    assert_eq!(visitor.post(&app, "/").await.expect(200), "3");
    assert_eq!(old.post(&app, "/").await.expect(200), "1", "the old id opens nothing");
    assert_eq!(provider.count(clock.now()).await.unwrap(), 2);
    visitor.post(&app, "/end").await.expect(200);
    assert!(!visitor.has_cookie());
    assert_eq!(provider.count(clock.now()).await.unwrap(), 1);
}

#[derive(Clone, Debug)]
struct User {
    id: i64,
    password: String,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

#[derive(Clone, Debug)]
struct Users;

#[derive(Clone, Deserialize)]
struct Credentials {
    username: String,
    password: String,
    next: Option<String>,
}

/// The passwords are no secrets of anybody's: hashing them is the application's affair.
impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, given: Credentials) -> Result<Option<User>, Infallible> {
        let is_right = given.username == "ferris" && given.password == "hunter42";
        Ok(is_right.then_some(User { id: 1, password: given.password }))
    }

    async fn get_user(&self, id: &i64) -> Result<Option<User>, Infallible> {
        Ok((*id == 1).then(|| User { id: 1, password: "hunter42".into() }))
    }
}

type AuthSession = axum_login::AuthSession<Users>;

/// The routes of axum-login's own example.
fn login_example(store: ProviderStore) -> Router {
    #[derive(Deserialize)]
    struct Next {
        next: Option<String>,
    }

    async fn protected(auth: AuthSession) -> String {
        format!("hello, {}", auth.user.expect("is logged in").id)
    }

    async fn form(Query(Next { next }): Query<Next>) -> String {
        format!("a form, then {}", next.unwrap_or_default())
    }

    async fn log_in(mut auth: AuthSession, Form(given): Form<Credentials>) -> Response {
        let next = given.next.clone();
        match auth.authenticate(given).await.unwrap() {
            Some(user) => {
                auth.login(&user).await.unwrap();
                Redirect::to(next.as_deref().unwrap_or("/")).into_response()
            }
            None => StatusCode::UNAUTHORIZED.into_response(),
        }
    }

    async fn log_out(mut auth: AuthSession) -> Redirect {
        auth.logout().await.unwrap();
        Redirect::to("/login")
    }

    let sessions = axum_login::tower_sessions::SessionManagerLayer::new(store);
    Router::new()
        .route("/", get(protected))
        .route_layer(login_required!(Users, login_url = "/login"))
        .route("/login", get(form).post(log_in))
        .route("/logout", get(log_out))
        .layer(AuthManagerLayerBuilder::new(Users, sessions).build())
}

async fn submit(visitor: &mut Visitor, app: &Router, form: &'static str) -> Reply {
    let mut request: Request<Body> = visitor.request("POST", "/login");
    *request.body_mut() = Body::from(form);
    let kind = "application/x-www-form-urlencoded".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, kind);
    visitor.send(app, request).await
}

/// A wrong password, a login, a page, and a logout. Returns the visitor as he was while he was logged in.
async fn log_in_and_out(app: &Router) -> Visitor {
    let mut visitor = Visitor::default();
    let sent = visitor.get(app, "/").await;
    assert_eq!(
        (sent.status, sent.header(LOCATION)),
        (StatusCode::TEMPORARY_REDIRECT, Some("/login?next=%2F"))
    );
    assert_eq!(visitor.get(app, "/login?next=%2F").await.expect(200), "a form, then /");
    submit(&mut visitor, app, "username=ferris&password=wrong").await.expect(401);
    assert!(!visitor.has_cookie());
    let done = submit(&mut visitor, app, "username=ferris&password=hunter42&next=%2F").await;
    assert_eq!(done.location(), "/");
    assert_eq!(visitor.get(app, "/").await.expect(200), "hello, 1");
    let stolen = visitor.clone();
    assert_eq!(visitor.get(app, "/logout").await.location(), "/login");
    assert!(!visitor.has_cookie());
    stolen
}

#[tokio::test]
async fn axum_logins_example_works_over_it() {
    let (store, provider, clock) = store();
    let app = login_example(store);
    let mut stolen = log_in_and_out(&app).await;
    assert_eq!(provider.count(clock.now()).await.unwrap(), 0);
    stolen.get(&app, "/").await.expect(307);
}

/// On the server that SESSION_POSTGRES_URI names.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn axum_logins_example_works_on_postgresql() {
    session_sql::init();
    let uri = std::env::var("SESSION_POSTGRES_URI").expect("SESSION_POSTGRES_URI names a server");
    let provider = provider::open("postgres", &uri).expect("opens");
    let app = login_example(ProviderStore::new(provider).unwrap());
    let mut stolen = log_in_and_out(&app).await;
    stolen.get(&app, "/").await.expect(307);
}

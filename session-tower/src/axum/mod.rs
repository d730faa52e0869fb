//! Extractors for [axum](https://docs.rs/axum)'s handlers, and errors that are responses.
//!
//! ```
//! use axum::Router;
//! use axum::routing::{get, post};
//! use session_core::Manager;
//! use session_tower::SessionLayer;
//! use session_tower::axum::{Failed, Owner, Session};
//!
//! async fn count(session: Session) -> Result<String, Failed> {
//!     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
//!     Ok(format!("visit {visits}\n"))
//! }
//!
//! async fn private(owner: Owner) -> String {
//!     format!("hello, {owner}\n")
//! }
//!
//! # fn app() -> Result<Router, session_core::Error> {
//! # session_memory::init();
//! let app = Router::new()
//!     .route("/", get(count))
//!     .route("/private", get(private))
//!     .layer(SessionLayer::new(Manager::open("memory", "")?));
//! # Ok(app)
//! # }
//! # app().unwrap();
//! ```
//!
//! | extractor | |
//! |---|---|
//! | [`Session`] | the visitor's session, loaded |
//! | `Option<Session>` | the same, if one is stored; a visitor who presents none costs the store nothing |
//! | [`Owner`] | who is logged in; else [401](session_core::Error::NotLoggedIn), or the [login page](LoginPage) |
//! | `Option<Owner>` | the same, or nobody |
//! | [`FreshOwner`] | who logged in no longer ago than this |
//! | [`ReturnTo`] | on the login page: where the visitor wanted to go |
//! | `Extension<Sessions>` | all of a request's sessions, loaded or not |
//!
//! With several managers, each extractor takes a [`SessionName`].
//!
//! A WebSocket's or a stream's task takes the session [along](Session::into_inner), and
//! [reloads](session_core::LoadedSession::reload) it before it sends something. Its end is an error there.

mod failed;
mod owner;
mod return_to;
mod session;

pub use failed::Failed;
pub use owner::{FreshOwner, NotAllowed, Owner};
pub use return_to::{LoginPage, ReturnTo};
pub use session::{Only, Session, SessionName};

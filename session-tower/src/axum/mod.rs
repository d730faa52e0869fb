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
//! | `Option<Session>` | the same, or `None` if no session is stored; where the visitor presents none, the store is not asked |
//! | [`Owner`] | who is logged in; without a login, the response is [401](session_core::Error::NotLoggedIn) or leads to the [login page](LoginPage) |
//! | `Option<Owner>` | the same, or `None` without a login |
//! | [`FreshOwner`] | who is logged in, if the login is recent |
//! | [`ReturnTo`] | on the login page, the page that the visitor wanted |
//! | `Extension<Sessions>` | all sessions of the request, loaded or not |
//!
//! With several managers, each extractor takes a [`SessionName`] as its type parameter.
//!
//! A task that goes on after the response, such as a WebSocket's, owns a clone of the session
//! ([`into_inner`](Session::into_inner)) and calls [`reload`](session_core::LoadedSession::reload) before it sends
//! something. That is an error once the session has ended.

mod failed;
mod owner;
mod return_to;
mod session;

pub use failed::Failed;
pub use owner::{FreshOwner, NotAllowed, Owner};
pub use return_to::{LoginPage, ReturnTo};
pub use session::{Only, Session, SessionName};

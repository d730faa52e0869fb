//! Server-side HTTP sessions, shaped like Go's `database/sql`.
//!
//! - A [`Provider`](provider::Provider) stores sessions. A provider's crate [registers](provider::register)
//!   it under a name with its `init()` function.
//! - A [`Manager`] opens a provider by the name in a [`Config`], reads session ids from cookies (or headers,
//!   or URLs), expires sessions, and removes expired ones from the store on a timer thread.
//! - [`Manager::start`] returns a [`SessionHandle`] for a request. [`SessionHandle::load`] returns the
//!   [`LoadedSession`], which has the operations of [`Session`]. [`SessionHandle::finish`] saves it and
//!   writes the cookie.
//!
//! ```text
//! start ───> load ───> get, set, log_in ───> finish ───> head of the response ───> body, tasks
//! no I/O     a load    in memory             a save      Set-Cookie, Vary          reload, save
//!                      update, save, destroy
//!                      at the store at once
//! ```
//!
//! When concurrent requests of one session change different keys, all changes survive. When two
//! [`set`](LoadedSession::set) the same key, the last one wins; [`update`](LoadedSession::update) loses no
//! change. A destroyed session never comes back. The [conformance suite](conformance) defines what a provider
//! must do for that. The documentation of a provider that keeps sessions at the client lists what it can't
//! do.
//!
//! ```no_run
//! # async fn handle(request: http::Request<()>) -> Result<(), session_core::Error> {
//! # mod session_memory { pub fn init() {} }
//! session_memory::init();
//! let manager = session_core::Manager::open("memory", "")?;
//!
//! // for each request:
//! let handle = manager.start(&request);
//! let session = handle.load().await?;
//! let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
//! let mut response = http::Response::new(format!("visit {visits}"));
//! handle.finish(&mut response).await?;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(feature = "conformance"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "service")]
mod body;
mod builder;
pub mod clock;
mod collector;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod credentials;
mod cross_site;
mod error;
pub mod events;
mod handle;
mod id;
mod lifetime;
mod limits;
mod loaded_session;
mod manager;
#[cfg(feature = "metrics")]
mod metrics;
mod operations;
mod owners;
pub mod provider;
mod respond;
mod response_headers;
#[cfg(feature = "rewrite")]
mod rewrite;
#[cfg(feature = "hyper")]
mod service;
mod session;
mod session_settings;
mod sessions;
mod state;
mod stats;
mod timestamp;
pub mod transport;
mod update_queue;
mod url_context;
pub mod value;
#[cfg(feature = "service")]
mod wrapper;

#[cfg(feature = "service")]
pub use body::SessionBody;
pub use builder::ManagerBuilder;
pub use config::{Config, StoreConfig};
pub use cross_site::CrossSiteOptions;
pub use error::Error;
pub use handle::SessionHandle;
pub use id::{SessionId, SessionKey};
pub use lifetime::Lifetime;
pub use limits::Limits;
pub use loaded_session::LoadedSession;
pub use manager::Manager;
pub use owners::OwnedSession;
pub use respond::Failure;
#[cfg(feature = "hyper")]
pub use service::SessionService;
pub use session::Session;
pub use sessions::{FinishErrors, Managers, RequestSession, Sessions};
pub use stats::Stats;
pub use timestamp::Timestamp;
#[cfg(feature = "service")]
pub use wrapper::{ServiceFuture, ServiceWrapper};

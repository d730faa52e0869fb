//! Sessions for services of [tower](https://docs.rs/tower), and so for axum, tonic and all that is built on it.
//!
//! [`SessionLayer`] puts the sessions of [`session_core`] around a service and finishes them on every way out of a
//! request. With the feature `axum`, the module [`axum`] has extractors and an error type for axum's handlers.
//!
//! # From tower-sessions
//!
//! | tower-sessions | here |
//! |---|---|
//! | `SessionManagerLayer::new(store)` | [`SessionLayer::new(manager)`](SessionLayer::new) |
//! | `with_name`, `with_secure`, `with_same_site`, `with_path`, `with_domain` | `[cookie]` of the [`Config`](session_core::Config) |
//! | `with_expiry(OnInactivity(..))` | `idle` and `absolute` of the configuration; both always apply |
//! | `with_expiry(OnSessionEnd)` | the default of the cookie; `cookie.persistent` is the other |
//! | `with_always_save` | not needed: a use moves the expiry, once in `touch_every` |
//! | `session: Session` (extractor) | [`session: Session`](axum::Session) |
//! | `session.get::<T>(key).await?` | [`session.get::<T>(key)?`](session_core::LoadedSession::get) |
//! | `session.insert(key, value).await?` | [`session.set(key, &value)?`](session_core::LoadedSession::set) |
//! | `session.remove::<T>(key).await?` | [`session.take::<T>(key)?`](session_core::LoadedSession::take), or `delete` |
//! | `get`, then `insert` | [`session.update(key, ..).await?`](session_core::LoadedSession::update), which loses no other request's |
//! | `session.clear().await` | [`session.clear()?`](session_core::LoadedSession::clear) |
//! | `session.cycle_id().await?` | [`session.log_in(owner)?`](session_core::LoadedSession::log_in), or `regenerate` |
//! | `session.flush().await?` | [`session.destroy().await?`](session_core::LoadedSession::destroy) |
//! | `session.save().await?` | at the end of the request by itself; [`session.save().await?`](session_core::LoadedSession::save) |
//! | `session.set_expiry(..)` | [`session.remember(true)?`](session_core::LoadedSession::remember), or `set_lifetime` |
//! | `session.id()` | [`session.key()?`](session_core::LoadedSession::key), which logs may show; `id` is the secret |
//! | `continuously_delete_expired` | the manager's timer thread |
//! | `axum_login`'s `AuthSession::user` | [`Owner`](axum::Owner), which is the user's name or number |
//!
//! Crates that are built on tower-sessions, such as axum-login, work over this library's providers through
//! `ProviderStore` (features `tower-sessions` and `tower-sessions-0-14`). Its documentation lists what that can't
//! promise. `axum_login`'s `login_required!(Backend, login_url = "/login")` is [`Owner`](axum::Owner) with a
//! [`LoginPage`](axum::LoginPage) here.

#[cfg(feature = "axum")]
pub mod axum;
mod layer;
#[cfg(feature = "_store")]
mod store;

pub use layer::{SessionLayer, SessionService};
#[cfg(feature = "_store")]
pub use store::ProviderStore;

//! Sessions for services of [tower](https://docs.rs/tower), and so for axum, tonic and all that is built on it.
//!
//! [`SessionLayer`] puts the sessions of [`session_core`] around a service, and finishes them on every way out. With
//! the feature `axum`, the module [`axum`] has extractors and errors for its handlers.
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
//! What is built on tower-sessions, as axum-login is, works over all stores of this library by
//! `ProviderStore` (feature `tower-sessions`).

#[cfg(feature = "axum")]
pub mod axum;
mod layer;
#[cfg(feature = "_store")]
mod store;

pub use layer::{SessionLayer, SessionService};
#[cfg(feature = "_store")]
pub use store::ProviderStore;

//! A site, its visitors, and a store that counts its calls and fails on demand.

mod log;
mod service;
mod site;
mod store;
mod visitor;

pub(crate) use log::{Log, logged_by};
pub(crate) use service::{Frames, Handler};
pub(crate) use site::Site;
pub(crate) use store::{Fault, Store};
pub(crate) use visitor::{Underway, Visitor, is_anonymous, is_silent};

pub(crate) use futures_lite::future::block_on;
pub(crate) use std::time::Duration;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The text of an id that is in no store.
pub(crate) const UNKNOWN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Returns the text of a session's id.
pub(crate) fn text_of(session: &session_core::LoadedSession) -> String {
    session.id().expect("the system has random numbers").text().to_string()
}

/// Polls a future once and drops it while it waits.
pub(crate) fn drop_midway<T>(future: impl Future<Output = T>) {
    let future = std::pin::pin!(future);
    let polled = block_on(futures_lite::future::poll_once(future));
    assert!(polled.is_none(), "it was to wait for the store");
}

/// Adds one, for updates.
pub(crate) fn add_one(n: Option<u64>) -> u64 {
    n.unwrap_or(0) + 1
}

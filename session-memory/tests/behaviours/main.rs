//! What a client or a caller of `session-core` sees, over the memory provider.
//!
//! Each module is about one part of the promise and begins by saying it. What a provider alone
//! decides is in the conformance suite.

mod announcing;
mod caches;
mod cancellation;
mod cookies;
mod devices;
mod doubt;
mod events;
mod exits;
mod expiry;
mod failures;
mod flash;
mod foreign;
mod full;
mod heads;
mod hostile;
mod late;
mod lifecycle;
mod limits;
mod logins;
mod logouts;
mod managers;
mod namespaces;
mod owners;
mod pages;
mod races;
mod registry;
mod remember;
mod renamed;
mod requests;
mod secrecy;
mod send_sync;
mod several;
mod support;
mod tasks;
mod timer;
mod transports;
mod unfinished;
mod values;
mod wrapper;

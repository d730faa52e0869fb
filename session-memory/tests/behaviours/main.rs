//! The behaviour of `session-core` towards clients and callers, with the memory provider.
//!
//! Each module begins with the part of the behaviour that it tests. The conformance suite tests what a
//! provider alone decides.

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

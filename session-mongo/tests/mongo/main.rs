//! The provider against a real server.
//!
//! `SESSION_MONGO_URI` names it; `scripts/test` starts one where none is named. Without either the
//! tests fail, so they are ignored unless asked for.

mod commands;
mod conformance;
mod documents;
mod encrypted;
mod faults;
mod indexes;
mod proxy;
mod runtime;
mod server;

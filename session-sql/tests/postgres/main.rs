//! The provider against a real server.
//!
//! `SESSION_POSTGRES_URI` names it; `scripts/test` starts one where none is named. Without either the
//! tests fail, so they are ignored unless asked for.

mod conformance;
mod encrypted;
mod faults;
mod pool;
mod proxy;
mod rows;
mod sample;
mod schema;
mod server;
mod traffic;

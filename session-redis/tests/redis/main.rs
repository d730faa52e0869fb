//! The provider against a real server.
//!
//! `SESSION_REDIS_URL` names it, as a source string; `scripts/test` starts one of each kind where none is
//! named. Without either the tests fail, so they are ignored unless asked for.

mod cluster;
mod commands;
mod conformance;
mod connecting;
mod faults;
mod own_server;
mod runtime;
mod server;

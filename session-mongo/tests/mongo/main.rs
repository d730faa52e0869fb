//! Tests of the provider with a real server.
//!
//! `SESSION_MONGO_URI` names the server; without it, `scripts/test` starts one. The tests fail without a
//! server, so they are ignored by default.

mod commands;
mod conformance;
mod documents;
mod encrypted;
mod faults;
mod indexes;
mod proxy;
mod runtime;
mod server;

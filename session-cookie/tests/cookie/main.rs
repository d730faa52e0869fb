//! Tests that the providers keep the contract as far as a cookie can, and what their documentation says
//! beyond it.

mod at_rest;
mod config;
mod conformance;
#[cfg(unix)]
mod files;
mod hostile;
mod owners;
mod revocation;
mod rotation;
#[cfg(unix)]
#[path = "../../../session-file/tests/file/scratch.rs"]
mod scratch;
mod several;
mod shelf;
mod site;

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
mod several;
mod shelf;
mod site;

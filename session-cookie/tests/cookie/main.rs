//! The provider keeps the contract as far as a cookie can, and what its documentation says beyond.

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

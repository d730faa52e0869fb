//! The provider keeps the contract as far as a cookie can, and what its documentation says beyond.

mod conformance;
mod hostile;
mod revocation;
mod rotation;
mod site;

//! The provider keeps the contract, and what its documentation says beyond that.

mod conformance;
mod directory;
mod hostile;
mod scratch;
mod store;

//! Tests that the provider keeps the contract, and what its documentation says beyond it.

#[cfg(unix)]
mod conformance;
#[cfg(unix)]
mod directory;
#[cfg(unix)]
mod hostile;
#[cfg(unix)]
mod owners;
#[cfg(unix)]
mod scratch;
#[cfg(unix)]
mod store;
#[cfg(not(unix))]
mod unsupported;

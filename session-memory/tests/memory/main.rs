//! Tests that the provider keeps the contract, and what its documentation says beyond it.

mod conformance;
mod full;
mod limits;

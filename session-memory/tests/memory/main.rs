//! The provider keeps the contract, and what its documentation says beyond that.

mod conformance;
mod full;
mod limits;

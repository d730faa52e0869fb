//! The provider on files.

mod conformance;
mod scratch;

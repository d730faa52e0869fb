//! The provider on files.

mod conformance;
mod file;
mod rows;
mod scratch;

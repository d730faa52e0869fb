//! The provider on files.

mod conformance;
mod encrypted;
mod file;
mod processes;
mod rows;
mod scratch;

//! The providers of the guide in `session_core::provider` keep the contract, and what breaks it is found.

mod blobs;
mod broken;
mod table;

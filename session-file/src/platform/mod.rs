//! The operations that differ between systems: locks between processes, syncing, reads that never wait
//! for the disk, and swapping files.
//!
//! `linux` uses what Linux offers, `portable` works on every Unix. `RUSTFLAGS="--cfg
//! session_file_portable"` selects `portable` on Linux, for tests.

#[cfg(all(target_os = "linux", not(session_file_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(session_file_portable)))]
pub(crate) use linux::*;

#[cfg(not(all(target_os = "linux", not(session_file_portable))))]
mod portable;
#[cfg(not(all(target_os = "linux", not(session_file_portable))))]
pub(crate) use portable::*;

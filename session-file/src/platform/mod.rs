//! What systems do differently: locks among processes, what a sync waits for, reads that never wait
//! for the disk, and files that are swapped.
//!
//! `linux` is the better way where there is one, `portable` what every Unix can do.
//! `RUSTFLAGS="--cfg session_file_portable"` chooses the portable way on Linux, for tests.

#[cfg(all(target_os = "linux", not(session_file_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(session_file_portable)))]
pub(crate) use linux::*;

#[cfg(not(all(target_os = "linux", not(session_file_portable))))]
mod portable;
#[cfg(not(all(target_os = "linux", not(session_file_portable))))]
pub(crate) use portable::*;

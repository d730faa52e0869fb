//! Several processes on one directory, and processes that are killed.
//!
//! ```text
//! cargo test -p session-file --test processes                       # short
//! cargo test --release -p session-file --test processes -- --kills 3000
//! ```
//!
//! This test is a separate program, because it starts itself again: as a process that serves the
//! conformance suite's operations, as one with another umask, and as one that is killed.

#[cfg(unix)]
mod modes;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod remote;
#[cfg(unix)]
#[path = "../file/scratch.rs"]
mod scratch;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    program::main()
}

#[cfg(not(unix))]
fn main() {
    println!("0 passed: the provider does not run on this system yet");
}

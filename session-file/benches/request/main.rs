//! What a counted request costs: the session is loaded, a number in it goes up, and it is saved.
//!
//! All variants run in one process, round by round in turn, so that whatever else the machine does
//! hits all alike. A figure is the median of the rounds; the ratios are what to look at.
//!
//! The plain way is what a store in files usually does: read the whole file and decode it, encode
//! all of it and write it over the old one, with nothing that keeps two requests apart, and on the
//! client's own thread. The plain durable way writes a new file, fsyncs it, renames it and fsyncs
//! the directory, one request after another.
//!
//! The system calls alone are the floor: a file is made, written and given the old one's name,
//! durably or not, with nothing read, decoded or locked, on the client's own thread.
//!
//! The directory is made in the one for temporary files (`TMPDIR`), whose file system decides: one
//! without a journal writes every folder and inode for each fsync, and makes a file the slower the
//! more were removed in the last seconds; one with a journal writes those of all clients together.

#[cfg(unix)]
mod rounds;
#[cfg(unix)]
#[path = "../../tests/file/scratch.rs"]
mod scratch;
#[cfg(unix)]
mod ways;

#[cfg(unix)]
fn main() {
    rounds::main();
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the provider \"file\" does not run on this system yet");
    std::process::exit(2);
}

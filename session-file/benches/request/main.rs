//! Measures a request that counts: it loads the session, increments a number and saves.
//!
//! All variants run in one process, taking turns round by round, so that other load on the machine
//! affects all of them alike. A figure is the median of the rounds. The ratios matter more than the
//! absolute figures.
//!
//! The plain variant is what a simple file store does: it reads and decodes the whole file, encodes it
//! and overwrites the file, without locks and on the client's thread. The plain durable variant writes a
//! new file, fsyncs it, renames it and fsyncs the directory, one request after another.
//!
//! The bare variant is the lower bound: it makes and writes a file and renames it over the old one,
//! durably or not, without reading, decoding or locking, on the client's thread.
//!
//! The store is made in the directory for temporary files (`TMPDIR`). The results depend on its file
//! system: one without a journal writes every folder and inode for each fsync, and makes files more
//! slowly the more were removed in the last seconds; one with a journal combines the writes of all
//! clients.

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

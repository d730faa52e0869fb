//! A session's file, in bytes.
//!
//! Version 1: a header, then the record as [`Record::to_bytes`] writes it. Numbers are unsigned and big-endian.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 7 | `session` in ASCII |
//! | 7 | 1 | the version: 1 |
//! | 8 | 4 | CRC-32 (IEEE 802.3) of everything from offset 12 on |
//! | 12 | 4 | the length of the whole file |
//! | 16 | 12 | the session's key |
//! | 28 | | the record |
//!
//! Two of the record's times are as of when the file was written. What counts is the file's modification time
//! for the expiry, and its time of access for the last use, where the platform reads files without moving that
//! and it is the later one.
//!
//! A file is read as the record of a key only if it was written for that key: a copy of another session's
//! file is none. The checksum finds damage, not malice: who can write in the store's directory can write a
//! valid file.

use session_core::provider::Record;
use session_core::{Error, SessionKey, Timestamp};

use crate::error::unreadable;

/// The bytes before the record.
pub(crate) const HEADER: usize = 28;

const MAGIC: &[u8; 7] = b"session";
const VERSION: u8 = 1;

/// The file of a session's record.
pub(crate) fn encode(record: &Record, key: SessionKey) -> Vec<u8> {
    let record = record.to_bytes();
    let length = u32::try_from(HEADER + record.len()).expect("a file has less than 4 GiB");
    let mut file = Vec::with_capacity(HEADER + record.len());
    file.extend(MAGIC);
    file.push(VERSION);
    file.extend([0; 4]);
    file.extend(length.to_be_bytes());
    file.extend(key.as_bytes());
    file.extend(record);
    let checksum = crc32fast::hash(&file[12..]);
    file[8..12].copy_from_slice(&checksum.to_be_bytes());
    file
}

/// Reads the file of a session that expires at this instant.
///
/// # Errors
/// [`Error::Unreadable`] says what is wrong with the file.
pub(crate) fn decode(file: &[u8], key: SessionKey, expires: Timestamp) -> Result<Record, Error> {
    let mut rest = file;
    if take(&mut rest)? != MAGIC {
        return Err(unreadable("it does not begin as a session's file does"));
    }
    if take(&mut rest)? != &[VERSION] {
        return Err(unreadable("its version is unknown"));
    }
    let checksum = u32::from_be_bytes(*take(&mut rest)?);
    if crc32fast::hash(rest) != checksum {
        return Err(unreadable("its checksum is wrong"));
    }
    // What follows is as it was written; but by whom is not known.
    if u32::from_be_bytes(*take(&mut rest)?) as usize != file.len() {
        return Err(unreadable("its length is not the one it was written with"));
    }
    if take(&mut rest)? != key.as_bytes() {
        return Err(unreadable("it was written for another session"));
    }
    Ok(Record { expires, ..Record::from_bytes(rest)? })
}

fn take<'f, const N: usize>(rest: &mut &'f [u8]) -> Result<&'f [u8; N], Error> {
    let (taken, left) = rest.split_first_chunk().ok_or(unreadable("it is cut short"))?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests;

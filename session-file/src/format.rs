//! A session's file, in bytes.
//!
//! Version 1. Numbers are unsigned and big-endian. The expiry is not in here: it is the file's
//! modification time.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 7 | `session` in ASCII |
//! | 7 | 1 | the version: 1 |
//! | 8 | 4 | CRC-32 (IEEE 802.3) of everything from offset 12 on |
//! | 12 | 4 | the length of the whole file |
//! | 16 | 32 | SHA-256 of the id that the record was written for |
//! | 48 | 32 | SHA-256 of the id that it is being renamed to; zeros otherwise |
//! | 80 | 8 | when the session was created, in milliseconds since the Unix epoch |
//! | 88 | 4 | the length of the owner; 2³² − 1 where there is none |
//! | 92 | 4 | the number of keys |
//! | 96 | | the owner, in UTF-8 |
//! | | | for each key, in ascending order of its bytes: the length of the key (4 bytes), the length of the value (4 bytes), the key in UTF-8, the value in MessagePack |
//!
//! A file is read as the record of an id only if it was written for that id, or for a rename to it:
//! a copy of another session's file is none. The checksum finds damage, not malice: who can write
//! in the store's directory can write a valid file.

use session_core::value::{self, Malformed};
use session_core::{Limits, Record, Timestamp, Values};

/// The bytes before the owner.
pub(crate) const HEADER: usize = 96;

const MAGIC: &[u8; 7] = b"session";
const VERSION: u8 = 1;
const NO_OWNER: u32 = u32::MAX;
const NO_DIGEST: [u8; 32] = [0; 32];

/// A number of the header; what `max_bytes` allows fits.
fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a file has less than 4 GiB").to_be_bytes()
}

/// How many bytes [`encode`] makes.
pub(crate) fn encoded_len(record: &Record) -> usize {
    let owner = record.owner.as_ref().map_or(0, |owner| owner.len());
    HEADER + owner + 8 * record.values.len() + record.values.size()
}

/// The file of a record that is stored under `digest` and, during a rename, soon under `next`.
pub(crate) fn encode(record: &Record, digest: &[u8; 32], next: Option<&[u8; 32]>) -> Vec<u8> {
    let length = encoded_len(record);
    let mut file = Vec::with_capacity(length);
    file.extend(MAGIC);
    file.push(VERSION);
    file.extend([0; 4]);
    file.extend(number(length));
    file.extend(digest);
    file.extend(next.unwrap_or(&NO_DIGEST));
    file.extend(record.created.as_millis().to_be_bytes());
    let owner = record.owner.as_deref();
    file.extend(owner.map_or(NO_OWNER.to_be_bytes(), |owner| number(owner.len())));
    file.extend(number(record.values.len()));
    file.extend(owner.unwrap_or_default().as_bytes());
    for (key, value) in record.values.iter() {
        file.extend(number(key.len()));
        file.extend(number(value.len()));
        file.extend(key.as_bytes());
        file.extend(value);
    }
    let checksum = crc32fast::hash(&file[12..]);
    file[8..12].copy_from_slice(&checksum.to_be_bytes());
    file
}

/// Reads the file that is stored under `digest`; answers what is wrong with it if it can't be.
///
/// Allocates no more than a small multiple of the file's own length, whatever lengths it announces.
pub(crate) fn decode(
    file: &[u8],
    digest: &[u8; 32],
    expires: Timestamp,
) -> Result<Record, &'static str> {
    let mut rest = file;
    if take(&mut rest)? != MAGIC {
        return Err("it does not begin as a session's file does");
    }
    if take(&mut rest)? != &[VERSION] {
        return Err("its version is unknown");
    }
    let checksum = take_number(&mut rest)?;
    if crc32fast::hash(rest) != checksum {
        return Err("its checksum is wrong");
    }
    // What follows is as it was written; but by whom is not known.
    if take_number(&mut rest)? as usize != file.len() {
        return Err("its length is not the one it was written with");
    }
    let (written_for, next) = (take(&mut rest)?, take(&mut rest)?);
    if written_for != digest && next != digest {
        return Err("it was written for another session");
    }
    let created = Timestamp::from_millis(u64::from_be_bytes(*take(&mut rest)?));
    let owner_length = take_number(&mut rest)?;
    let count = take_number(&mut rest)? as usize;
    let owner = match owner_length {
        NO_OWNER => None,
        length => Some(take_text(&mut rest, length as usize)?.into()),
    };
    // Each key takes eight bytes at least: no number of keys is believed that doesn't fit.
    if count > rest.len() / 8 {
        return Err("it announces more keys than it holds");
    }
    let mut entries: Vec<(&str, &[u8])> = Vec::with_capacity(count);
    for _ in 0..count {
        let key_length = take_number(&mut rest)? as usize;
        let value_length = take_number(&mut rest)? as usize;
        let key = take_text(&mut rest, key_length)?;
        let value = rest.split_off(..value_length).ok_or(CUT)?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err("its keys are not in order");
        }
        match value::check(value, Limits::MAX_DEPTH) {
            Ok(()) => entries.push((key, value)),
            Err(Malformed::TooDeep) => return Err("a value nests too deep"),
            Err(Malformed::NotOneValue) => return Err("a value is not MessagePack"),
        }
    }
    if !rest.is_empty() {
        return Err("bytes follow its last value");
    }
    let values = entries.into_iter().collect::<Values>();
    Ok(Record { created, expires, owner, values })
}

const CUT: &str = "it is cut short";

fn take<'f, const N: usize>(rest: &mut &'f [u8]) -> Result<&'f [u8; N], &'static str> {
    let (taken, left) = rest.split_first_chunk().ok_or(CUT)?;
    *rest = left;
    Ok(taken)
}

fn take_number(rest: &mut &[u8]) -> Result<u32, &'static str> {
    Ok(u32::from_be_bytes(*take(rest)?))
}

fn take_text<'f>(rest: &mut &'f [u8], length: usize) -> Result<&'f str, &'static str> {
    let bytes = rest.split_off(..length).ok_or(CUT)?;
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}

#[cfg(test)]
mod tests;

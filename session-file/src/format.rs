//! A session's file, in bytes.
//!
//! Version 1. Numbers are unsigned and big-endian; times are milliseconds since the Unix epoch. The expiry is
//! not in here: it is the file's modification time. The last use is, as of when the file was written; a later
//! one is the file's time of access, where the platform reads files without moving that.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 7 | `session` in ASCII |
//! | 7 | 1 | the version: 1 |
//! | 8 | 4 | CRC-32 (IEEE 802.3) of everything from offset 12 on |
//! | 12 | 4 | the length of the whole file |
//! | 16 | 12 | the session's key |
//! | 28 | 4 | a fingerprint of what the client was told last (`Record::cookie`) |
//! | 32 | 32 | the holder |
//! | 64 | 8 | when the session was created |
//! | 72 | 8 | when it got its current secret |
//! | 80 | 8 | when it was last used before the file was written |
//! | 88 | 8 | when its owner logged in; zero where nobody did |
//! | 96 | 4 | the length of the owner; 2³² − 1 where nobody is logged in |
//! | 100 | 4 | the length of the label; zero where nobody is logged in |
//! | 104 | 4 | the number of keys |
//! | 108 | | the owner, then the label, in UTF-8 |
//! | | | for each key, in ascending order of its bytes: the length of the key (4 bytes), the length of the value (4 bytes), the key in UTF-8, the value in MessagePack |
//!
//! A file is read as the record of a key only if it was written for that key: a copy of another session's
//! file is none. The checksum finds damage, not malice: who can write in the store's directory can write a
//! valid file.

use session_core::provider::{Login, Record, Values, Verifier};
use session_core::value::{self, Malformed};
use session_core::{Limits, SessionKey, Timestamp};

/// The bytes before the owner.
pub(crate) const HEADER: usize = 108;

const MAGIC: &[u8; 7] = b"session";
const VERSION: u8 = 1;
const NO_OWNER: u32 = u32::MAX;

/// A number of the header; what `max_bytes` allows fits.
fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a file has less than 4 GiB").to_be_bytes()
}

/// How many bytes [`encode`] makes.
pub(crate) fn encoded_len(record: &Record) -> usize {
    let login = record.login.as_deref().map_or(0, |login| login.owner.len() + login.label.len());
    HEADER + login + 8 * record.values.len() + record.values.size()
}

/// The file of a session's record.
pub(crate) fn encode(record: &Record, key: SessionKey) -> Vec<u8> {
    let length = encoded_len(record);
    let mut file = Vec::with_capacity(length);
    file.extend(MAGIC);
    file.push(VERSION);
    file.extend([0; 4]);
    file.extend(number(length));
    file.extend(key.as_bytes());
    file.extend(record.cookie.to_be_bytes());
    file.extend(record.holder.as_bytes());
    file.extend(record.created.as_millis().to_be_bytes());
    file.extend(record.renewed.as_millis().to_be_bytes());
    file.extend(record.used.as_millis().to_be_bytes());
    let (at, owner_length, owner, label) = match record.login.as_deref() {
        Some(Login { owner, at, label }) => {
            (at.as_millis(), number(owner.len()), &**owner, &**label)
        }
        None => (0, NO_OWNER.to_be_bytes(), "", ""),
    };
    file.extend(at.to_be_bytes());
    file.extend(owner_length);
    file.extend(number(label.len()));
    file.extend(number(record.values.len()));
    file.extend(owner.as_bytes());
    file.extend(label.as_bytes());
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

/// Reads the file of a session, which doesn't say when it expires. Returns what is wrong with a file that
/// can't be read.
///
/// Allocates no more than a small multiple of the file's own length, whatever lengths it announces.
pub(crate) fn decode(
    file: &[u8],
    key: SessionKey,
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
    if take(&mut rest)? != key.as_bytes() {
        return Err("it was written for another session");
    }
    let cookie = take_number(&mut rest)?;
    let holder = Verifier::from_bytes(*take(&mut rest)?);
    let (created, renewed) = (take_time(&mut rest)?, take_time(&mut rest)?);
    let (used, at) = (take_time(&mut rest)?, take_time(&mut rest)?);
    let owner_length = take_number(&mut rest)?;
    let label_length = take_number(&mut rest)? as usize;
    let count = take_number(&mut rest)? as usize;
    let login = match owner_length {
        NO_OWNER if label_length > 0 || at != Timestamp::default() => {
            return Err("it has a login without an owner");
        }
        NO_OWNER => None,
        length => {
            let owner = take_text(&mut rest, length as usize)?.into();
            let label = take_text(&mut rest, label_length)?.into();
            Some(Box::new(Login { owner, at, label }))
        }
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
    Ok(Record { holder, created, renewed, used, expires, login, cookie, values, note: None })
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

fn take_time(rest: &mut &[u8]) -> Result<Timestamp, &'static str> {
    Ok(Timestamp::from_millis(u64::from_be_bytes(*take(rest)?)))
}

fn take_text<'f>(rest: &mut &'f [u8], length: usize) -> Result<&'f str, &'static str> {
    let bytes = rest.split_off(..length).ok_or(CUT)?;
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}

#[cfg(test)]
mod tests;

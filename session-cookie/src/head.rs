//! The beginning of a seal.

use session_core::{Error, SessionId};

use crate::Mode;
use crate::key::fill_random;

/// What a seal says of itself before it is opened:
///
/// | part | bytes | |
/// |---|---|---|
/// | format | 1 | `0x01`: version 1; `+ 0x10`: signed; `+ 0x20`: a long id |
/// | key | 1 | the first byte of the key's id |
/// | id | 8 or 32 | the session's id, without the 24 zeros that end a short one |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) mode: Mode,
    pub(crate) key: u8,
    pub(crate) id: SessionId,
}

const VERSION: u8 = 1;
const SIGNED: u8 = 0x10;
const LONG_ID: u8 = 0x20;

/// The bytes that ids have which are made for sealed sessions. They are no secret that opens
/// anything: they only have to differ among the sessions that live at the same time. Of ten million,
/// two are the same with a chance of one in 400,000; then the end of one ends the other.
const SHORT_ID: usize = 8;

/// A new id that is short in a cookie.
pub(crate) fn short_id() -> Result<SessionId, Error> {
    let mut bytes = [0; SessionId::BYTES];
    fill_random(&mut bytes[..SHORT_ID])?;
    Ok(SessionId::from_bytes(bytes))
}

impl Head {
    /// Reads the head of a seal.
    pub(crate) fn read(seal: &[u8]) -> Option<Self> {
        let (&[format, key], rest) = seal.split_first_chunk()?;
        let length = if format & LONG_ID == 0 { SHORT_ID } else { SessionId::BYTES };
        let id = rest.get(..length)?;
        let mut bytes = [0; SessionId::BYTES];
        bytes[..id.len()].copy_from_slice(id);
        let mode = if format & SIGNED == 0 { Mode::Encrypted } else { Mode::Signed };
        let head = Self { mode, key, id: SessionId::from_bytes(bytes) };
        // One head has one form.
        (head.format() == format).then_some(head)
    }

    pub(crate) fn write(&self, seal: &mut Vec<u8>) {
        seal.extend_from_slice(&[self.format(), self.key]);
        seal.extend_from_slice(self.id());
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        2 + self.id().len()
    }

    fn format(&self) -> u8 {
        let signed = if self.mode == Mode::Signed { SIGNED } else { 0 };
        let long = if self.id().len() == SHORT_ID { 0 } else { LONG_ID };
        VERSION | signed | long
    }

    /// The id as it travels.
    fn id(&self) -> &[u8] {
        let id = self.id.as_bytes();
        match id.split_at(SHORT_ID) {
            (short, rest) if rest.iter().all(|byte| *byte == 0) => short,
            _ => id,
        }
    }
}

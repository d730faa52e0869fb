//! Records under encryption.

use aes_gcm_siv::aead::AeadInOut as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use session_core::{Changes, Error, Record, SessionId};

use crate::KeyRing;
use crate::key::{Key, fill_random};

/// Encrypts records and changes for a store, and decrypts what the store has.
///
/// Each value is stored as MessagePack bytes (bin 8, 16 or 32) with this content:
///
/// | part | bytes | |
/// |---|---|---|
/// | version | 1 | `0x01` |
/// | key | 4 | the key's id |
/// | nonce | 12 | random |
/// | ciphertext | | AES-256-GCM-SIV (RFC 8452) |
/// | tag | 16 | |
///
/// Authenticated with it are version, key id, what it is (one byte: `v`, `o` or `b`), and for
/// values and owners the record's salt (16 bytes) and the key that it is stored under.
///
/// Beside the values, a record has two of our own:
/// - `\0@bond.` and 16 hexadecimal digits, the beginning of the id's digest: the salt, encrypted;
///   authenticated with it is the id's digest. So a record that was moved to another id by anybody
///   else, or a value that was moved to another record or key, can't be read.
/// - `\0@owner`: the owner. The store's own field for it has the unpadded base64url of
///   HMAC-SHA-256 of it under the first key: equal for equal owners, and no more.
///
/// Keys that begin with `\0@` are stored with a second `@`. Keys are not encrypted.
#[derive(Clone, Debug)]
pub(crate) struct Vault {
    pub(crate) ring: KeyRing,
}

const VERSION: u8 = 1;
const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
const HEAD: usize = 1 + 4 + NONCE;

/// What encryption adds to a value, at the most; and to a record, beside its values.
const ADDED_TO_VALUE: usize = 5 + HEAD + TAG + 1;
const ADDED_TO_RECORD: usize = 512;

const RESERVED: &str = "\0@";
const OWNER: &str = "\0@owner";
const BOND: &str = "\0@bond.";

pub(crate) type Salt = [u8; SALT];

/// Why a stored record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its key is not in the ring.
    UnknownKey,
    /// It is damaged, not encrypted, or another session's.
    Damaged,
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::UnknownKey => Self::config(
                "a stored session is encrypted under a key that is not in the key ring; put the \
                 key back, behind the others",
            ),
            Closed::Damaged => Self::Unreadable {
                reason: "it is damaged, not encrypted, or was stored for another session",
            },
        }
    }
}

/// A record as the store has it, decrypted.
#[derive(Debug)]
pub(crate) struct Unlocked {
    pub(crate) record: Record,
    pub(crate) salt: Salt,
    /// Stored keys whose values another key than the first has encrypted.
    pub(crate) old: Vec<String>,
    /// The stored keys of bonds to other ids: of a rename under way, or left by one.
    pub(crate) other_bonds: Vec<String>,
}

/// What a ciphertext is.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Value(&'a Salt, &'a str),
    Owner(&'a Salt),
    Bond(&'a [u8; 32]),
}

impl Place<'_> {
    fn context(self, key: &Key) -> Vec<u8> {
        let mut context = vec![VERSION];
        context.extend(key.id);
        let (kind, salt, rest) = match self {
            Self::Value(salt, key) => (b'v', &salt[..], key.as_bytes()),
            Self::Owner(salt) => (b'o', &salt[..], &[][..]),
            Self::Bond(digest) => (b'b', &[][..], &digest[..]),
        };
        context.push(kind);
        context.extend(salt);
        context.extend(rest);
        context
    }
}

/// The key that a record's bond to an id is stored under.
pub(crate) fn bond_key(id: &SessionId) -> String {
    let digest = id.digest();
    let digits = digest[..8].iter().map(|byte| format!("{byte:02x}"));
    BOND.chars().map(String::from).chain(digits).collect()
}

/// The key that a session's key is stored under.
fn stored_key(key: &str) -> String {
    match key.strip_prefix(RESERVED) {
        Some(rest) => format!("{RESERVED}@{rest}"),
        None => key.to_owned(),
    }
}

/// The session's key of a stored one; `None` for one of ours.
fn session_key(stored: &str) -> Option<String> {
    match stored.strip_prefix(RESERVED) {
        None => Some(stored.to_owned()),
        Some(rest) => rest.strip_prefix('@').map(|rest| format!("{RESERVED}{rest}")),
    }
}

impl Vault {
    pub(crate) fn new_salt() -> Result<Salt, Error> {
        let mut salt = [0; SALT];
        fill_random(&mut salt)?;
        Ok(salt)
    }

    fn encrypt(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.ring.first();
        let length = HEAD + plain.len() + TAG;
        let mut bytes = Vec::with_capacity(5 + length);
        match length {
            0..=0xff => bytes.extend([0xc4, length as u8]),
            0x100..=0xffff => {
                bytes.push(0xc5);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                let Ok(length) = u32::try_from(length) else {
                    return Err(Error::TooLarge { what: "value bytes", limit: u32::MAX as usize });
                };
                bytes.push(0xc6);
                bytes.extend(length.to_be_bytes());
            }
        }
        let mut nonce = [0; NONCE];
        fill_random(&mut nonce)?;
        bytes.push(VERSION);
        bytes.extend(key.id);
        bytes.extend(nonce);
        let from = bytes.len();
        bytes.extend(plain);
        let tag = key
            .rest_cipher
            .encrypt_inout_detached(
                &nonce.into(),
                &place.context(key),
                bytes[from..].as_mut().into(),
            )
            .expect("a value is shorter than 64 GiB");
        bytes.extend(tag);
        Ok(bytes)
    }

    /// Answers whether the first key encrypted it, too.
    fn decrypt(&self, place: Place<'_>, stored: &[u8]) -> Result<(Vec<u8>, bool), Closed> {
        let content = bin(stored).ok_or(Closed::Damaged)?;
        let (&[version, a, b, c, d], rest) = content.split_first_chunk().ok_or(Closed::Damaged)?;
        if version != VERSION {
            return Err(Closed::Damaged);
        }
        let key = self.ring.with_id([a, b, c, d]).ok_or(Closed::UnknownKey)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(Closed::Damaged)?;
        let (content, tag) = rest.split_last_chunk::<TAG>().ok_or(Closed::Damaged)?;
        let mut plain = content.to_vec();
        key.rest_cipher
            .decrypt_inout_detached(
                &(*nonce).into(),
                &place.context(key),
                plain.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| Closed::Damaged)?;
        Ok((plain, key.id == self.ring.first().id))
    }

    /// The stored form of a record's bond to an id.
    pub(crate) fn bond(&self, id: &SessionId, salt: &Salt) -> Result<Vec<u8>, Error> {
        // Twice the key's id, so that a damaged one is not taken for an unknown one.
        let mut bond = self.encrypt(Place::Bond(&id.digest()), salt)?;
        bond.extend(self.ring.first().id);
        // bin 8: the length is the second byte.
        bond[1] += 4;
        Ok(bond)
    }

    fn salt(&self, id: &SessionId, stored: &[u8]) -> Result<(Salt, bool), Closed> {
        let (seal, again) = stored.split_last_chunk::<4>().ok_or(Closed::Damaged)?;
        let mut seal = seal.to_vec();
        let length = seal.get_mut(1).ok_or(Closed::Damaged)?;
        *length = length.checked_sub(4).ok_or(Closed::Damaged)?;
        if seal.get(3..7) != Some(again) {
            return Err(Closed::Damaged);
        }
        let (salt, by_first) = self.decrypt(Place::Bond(&id.digest()), &seal)?;
        Ok((salt.try_into().map_err(|_| Closed::Damaged)?, by_first))
    }

    /// The record to store in place of this one.
    pub(crate) fn lock(
        &self,
        id: &SessionId,
        salt: &Salt,
        record: &Record,
    ) -> Result<Record, Error> {
        let mut values = vec![(bond_key(id), self.bond(id, salt)?)];
        if let Some(owner) = &record.owner {
            values.push((OWNER.into(), self.encrypt(Place::Owner(salt), owner.as_bytes())?));
        }
        for (key, value) in record.values.iter() {
            values.push((stored_key(key), self.encrypt(Place::Value(salt, key), value)?));
        }
        Ok(Record {
            created: record.created,
            expires: record.expires,
            owner: record.owner.as_deref().map(|owner| self.blinded(owner)),
            values: values.into_iter().collect(),
        })
    }

    /// The record that is stored so.
    pub(crate) fn unlock(&self, id: &SessionId, stored: &Record) -> Result<Unlocked, Closed> {
        let our_bond = bond_key(id);
        let bond = stored.values.get(&our_bond).ok_or(Closed::Damaged)?;
        let (salt, by_first) = self.salt(id, bond)?;
        let mut old = Vec::new();
        if !by_first {
            old.push(our_bond.clone());
        }
        // From here on the ring has the key that matters: what another id names is damaged.
        let mut opened = |key: &str, place: Place<'_>, value: &[u8]| {
            let (plain, by_first) = self.decrypt(place, value).map_err(|_| Closed::Damaged)?;
            if !by_first {
                old.push(key.to_owned());
            }
            Ok(plain)
        };
        let (mut owner, mut values, mut other_bonds) = (None, Vec::new(), Vec::new());
        for (key, value) in stored.values.iter() {
            if let Some(session_key) = session_key(key) {
                let plain = opened(key, Place::Value(&salt, &session_key), value)?;
                values.push((session_key, plain));
            } else if key == OWNER {
                let plain = opened(key, Place::Owner(&salt), value)?;
                let text = String::from_utf8(plain).map_err(|_| Closed::Damaged)?;
                owner = Some(text.into_boxed_str());
            } else if key != our_bond {
                other_bonds.push(key.to_owned());
            }
        }
        if owner.is_some() != stored.owner.is_some() {
            return Err(Closed::Damaged);
        }
        let record = Record {
            created: stored.created,
            expires: stored.expires,
            owner,
            values: values.into_iter().collect(),
        };
        Ok(Unlocked { record, salt, old, other_bonds })
    }

    /// The changes to store in place of these, which expect nothing yet.
    pub(crate) fn lock_changes(&self, salt: &Salt, changes: &Changes) -> Result<Changes, Error> {
        let mut locked = Changes::new().with_expiry(changes.expiry);
        for (key, value) in changes.iter() {
            let stored = stored_key(key);
            match value {
                Some(value) => locked.set(&stored, self.encrypt(Place::Value(salt, key), value)?),
                None => locked.delete(&stored),
            }
        }
        match &changes.owner {
            None => {}
            Some(None) => {
                locked.delete(OWNER);
                locked.owner = Some(None);
            }
            Some(Some(owner)) => {
                locked.set(OWNER, self.encrypt(Place::Owner(salt), owner.as_bytes())?);
                locked.owner = Some(Some(self.blinded(owner)));
            }
        }
        // The plain record was checked against the limits themselves.
        let keys = changes.limits.keys.saturating_add(ADDED_TO_RECORD);
        locked.limits.bytes = changes
            .limits
            .bytes
            .saturating_add(keys.saturating_mul(ADDED_TO_VALUE))
            .saturating_add(ADDED_TO_RECORD);
        locked.limits.keys = keys;
        Ok(locked)
    }

    /// The stored value of a session's key.
    pub(crate) fn stored<'r>(stored: &'r Record, key: &str) -> Option<&'r [u8]> {
        stored.values.get(&stored_key(key))
    }

    /// The stored key of a session's key.
    pub(crate) fn key(key: &str) -> String {
        stored_key(key)
    }

    /// The same value under the first key.
    pub(crate) fn renewed(
        &self,
        id: &SessionId,
        unlocked: &Unlocked,
        stored_key: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let salt = &unlocked.salt;
        if stored_key == bond_key(id) {
            return self.bond(id, salt).map(Some);
        }
        if stored_key == OWNER {
            let owner = unlocked.record.owner.as_deref();
            return owner.map(|o| self.encrypt(Place::Owner(salt), o.as_bytes())).transpose();
        }
        let Some(key) = session_key(stored_key) else { return Ok(None) };
        let value = unlocked.record.values.get(&key);
        value.map(|value| self.encrypt(Place::Value(salt, &key), value)).transpose()
    }

    /// What the store's index has of an owner.
    pub(crate) fn blinded(&self, owner: &str) -> Box<str> {
        let mac = self.ring.first().owner_mac.clone().chain_update(owner).finalize();
        BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes()).into()
    }
}

/// The content of MessagePack bytes, which are all there is.
fn bin(stored: &[u8]) -> Option<&[u8]> {
    let (&marker, rest) = stored.split_first()?;
    let (length, content) = rest.split_at_checked(match marker {
        0xc4 => 1,
        0xc5 => 2,
        0xc6 => 4,
        _ => return None,
    })?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    (content.len() == length).then_some(content)
}

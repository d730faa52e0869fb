//! Records under encryption.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use session_core::{Changes, Error, Record, SessionId};

use crate::KeyRing;
use crate::ciphertext::{ADDED_TO_VALUE, Closed, Place, Salt};
use crate::key::fill_random;

/// Encrypts records and changes for a store, and decrypts what the store has.
///
/// Each value is stored as its [ciphertext](Place).
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

/// What encryption adds to a record, beside its values.
const ADDED_TO_RECORD: usize = 512;

const RESERVED: &str = "\0@";
const OWNER: &str = "\0@owner";
const BOND: &str = "\0@bond.";

/// A record as the store has it, decrypted.
#[derive(Debug)]
pub(crate) struct Unlocked {
    pub(crate) record: Record,
    pub(crate) salt: Salt,
    /// Stored keys whose values another key than the first has encrypted.
    pub(crate) old: Vec<String>,
}

/// The key that a record's bond to an id is stored under.
pub(crate) fn bond_key(id: &SessionId) -> String {
    let digest = id.digest();
    let digits = digest[..8].iter().map(|byte| format!("{byte:02x}"));
    BOND.chars().map(String::from).chain(digits).collect()
}

/// Whether a bond is stored under this key: the one to the record's id, one of a rename under way, or
/// one that a rename left.
pub(crate) fn is_bond(stored_key: &str) -> bool {
    stored_key.starts_with(BOND)
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
        let mut salt = Salt::default();
        fill_random(&mut salt)?;
        Ok(salt)
    }

    /// The stored form of a record's bond to an id.
    pub(crate) fn bond(&self, id: &SessionId, salt: &Salt) -> Result<Vec<u8>, Error> {
        // Twice the key's id, so that a damaged one is not taken for an unknown one.
        let mut bond = Place::Bond(&id.digest()).encrypt(&self.ring, salt)?;
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
        let (salt, by_first) = Place::Bond(&id.digest()).decrypt(&self.ring, &seal)?;
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
            values.push((OWNER.into(), Place::Owner(salt).encrypt(&self.ring, owner.as_bytes())?));
        }
        for (key, value) in record.values.iter() {
            values.push((stored_key(key), Place::Value(salt, key).encrypt(&self.ring, value)?));
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
            let (plain, by_first) =
                place.decrypt(&self.ring, value).map_err(|_| Closed::Damaged)?;
            if !by_first {
                old.push(key.to_owned());
            }
            Ok(plain)
        };
        let (mut owner, mut values) = (None, Vec::new());
        for (key, value) in stored.values.iter() {
            if let Some(session_key) = session_key(key) {
                let plain = opened(key, Place::Value(&salt, &session_key), value)?;
                values.push((session_key, plain));
            } else if key == OWNER {
                let plain = opened(key, Place::Owner(&salt), value)?;
                let text = String::from_utf8(plain).map_err(|_| Closed::Damaged)?;
                owner = Some(text.into_boxed_str());
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
        Ok(Unlocked { record, salt, old })
    }

    /// The changes to store in place of these, which expect nothing yet.
    pub(crate) fn lock_changes(&self, salt: &Salt, changes: &Changes) -> Result<Changes, Error> {
        let mut locked = Changes::new().with_expiry(changes.expiry);
        for (key, value) in changes.iter() {
            let stored = stored_key(key);
            match value {
                Some(value) => {
                    locked.set(&stored, Place::Value(salt, key).encrypt(&self.ring, value)?);
                }
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
                locked.set(OWNER, Place::Owner(salt).encrypt(&self.ring, owner.as_bytes())?);
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
            return owner.map(|o| Place::Owner(salt).encrypt(&self.ring, o.as_bytes())).transpose();
        }
        let Some(key) = session_key(stored_key) else { return Ok(None) };
        let value = unlocked.record.values.get(&key);
        value.map(|value| Place::Value(salt, &key).encrypt(&self.ring, value)).transpose()
    }

    /// What the store's index has of an owner.
    pub(crate) fn blinded(&self, owner: &str) -> Box<str> {
        let mac = self.ring.first().owner_mac.clone().chain_update(owner).finalize();
        BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes()).into()
    }
}

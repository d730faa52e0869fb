//! The encryption of records.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use session_core::provider::{Changes, Login, Note, Record, Values, Verifier};
use session_core::{Error, Limits, SessionKey, Timestamp};

use crate::KeyRing;
use crate::ciphertext::{ADDED_TO_VALUE, DAMAGED, Part, Reason, from_value, is_by_first, to_value};
use crate::key::Key;

/// Encrypts records and changes for a store, and decrypts stored records.
///
/// Each value is stored as its [ciphertext](Part), and the label of a login as the unpadded base64url of
/// its ciphertext. The owner is stored as the unpadded base64url of HMAC-SHA-256 of the owner: it
/// reveals which sessions have the same owner, and nothing else.
///
/// The record has one more value, under the key `\0@seal`: the ciphertext of
///
/// | part | bytes | |
/// |---|---|---|
/// | holder | 32 | the record's holder |
/// | login | 8 | the time of the login in milliseconds, big-endian; nothing follows if nobody is logged in |
/// | owner | | UTF-8 text |
///
/// A record whose holder or owner differs from the sealed one is unreadable. Otherwise an attacker who
/// can write to the store could put the verifier of an id of their own into another visitor's record.
/// Keys that begin with `\0@` are stored with a second `@`. Keys are not encrypted.
#[derive(Clone, Debug)]
pub(crate) struct RecordCipher {
    pub(crate) ring: KeyRing,
}

/// The most bytes that encryption adds to a record beside its values.
const ADDED_TO_RECORD: usize = 2048;

const RESERVED: &str = "\0@";
const SEAL: &str = "\0@seal";

/// The length of the holder in the seal.
const HOLDER: usize = 32;

/// A record as it was loaded, for saves to build on.
#[derive(Clone)]
pub(crate) struct Snapshot {
    values: Values,
    login: Option<Box<Login>>,
    /// The encrypted values as they are stored.
    stored: Values,
    /// Whether a part of the record is encrypted under another key than the first.
    pub(crate) is_outdated: bool,
    /// The wrapped provider's note.
    note: Note,
}

/// Encrypted changes for the store.
pub(crate) struct EncryptedChanges {
    pub(crate) changes: Changes,
    /// Whether the changes have preconditions that the request did not ask for, so that the store may
    /// refuse them because of the encryption alone.
    pub(crate) adds_preconditions: bool,
    /// The record once the changes are saved.
    pub(crate) after: Snapshot,
}

/// Returns the stored form of a session's key.
fn stored_key(key: &str) -> String {
    match key.strip_prefix(RESERVED) {
        Some(rest) => format!("{RESERVED}@{rest}"),
        None => key.to_owned(),
    }
}

/// Returns the session's key of a stored one; `None` for the cipher's own keys.
fn session_key(stored: &str) -> Option<String> {
    match stored.strip_prefix(RESERVED) {
        None => Some(stored.to_owned()),
        Some(rest) => rest.strip_prefix('@').map(|rest| format!("{RESERVED}{rest}")),
    }
}

impl RecordCipher {
    /// Encrypts a record.
    pub(crate) fn encrypt(&self, session: &SessionKey, record: Record) -> Result<Record, Error> {
        let seal = self.seal(session, &record.holder, record.login.as_deref())?;
        let mut values = vec![(SEAL.to_owned(), seal)];
        for (key, value) in record.values.iter() {
            values.push((stored_key(key), self.value(session, key, value)?));
        }
        let login = record.login.as_deref().map(|login| self.encrypt_login(session, login));
        Ok(Record { login, values: values.into_iter().collect(), ..record })
    }

    /// Decrypts a stored record. Returns it with the snapshot that a save can build on.
    pub(crate) fn decrypt(
        &self,
        session: &SessionKey,
        stored: Record,
    ) -> Result<(Record, Snapshot), Reason> {
        let mut is_outdated = false;
        let mut opened = |part: Part<'_>, bytes: &[u8]| {
            is_outdated |= !is_by_first(&self.ring, bytes);
            part.decrypt(&self.ring, session, bytes)
        };
        let seal = from_value(stored.values.get(SEAL).ok_or(DAMAGED)?)?;
        let seal = opened(Part::Seal, seal)?;
        let (holder, rest) = seal.split_first_chunk::<HOLDER>().ok_or(DAMAGED)?;
        if Verifier::from_bytes(*holder) != stored.holder {
            return Err(DAMAGED);
        }
        let login = match (rest.split_first_chunk::<8>(), stored.login.as_deref()) {
            (None, None) if rest.is_empty() => None,
            (Some((at, owner)), Some(login)) => {
                let owner = str::from_utf8(owner).map_err(|_| DAMAGED)?;
                if !self.ring.iter().any(|key| owner_digest(key, owner) == *login.owner) {
                    return Err(DAMAGED);
                }
                let at = Timestamp::from_millis(u64::from_be_bytes(*at));
                let label = decrypt_label(&login.label, |label| opened(Part::Label, label))?;
                Some(Box::new(Login { owner: owner.into(), at, label }))
            }
            _ => return Err(DAMAGED),
        };
        let mut values = Vec::with_capacity(stored.values.len());
        for (key, value) in stored.values.iter().filter(|(key, _)| *key != SEAL) {
            let key = session_key(key).ok_or(DAMAGED)?;
            let plain = opened(Part::Value(&key), from_value(value)?)?;
            values.push((key, plain));
        }
        let snapshot = Snapshot {
            values: values.into_iter().collect(),
            login,
            stored: stored.values,
            is_outdated,
            note: stored.note,
        };
        let (values, login) = (snapshot.values.clone(), snapshot.login.clone());
        Ok((Record { values, login, note: None, ..stored }, snapshot))
    }

    /// Returns the digests that the store may have for an owner, in the order in which a list has to ask
    /// for them.
    ///
    /// A save may move a session to the digest under the first key, or away from it on a server whose
    /// keys are in another order. So all digests but the last are asked for again at the end: whichever
    /// way a session moves meanwhile, the list has it.
    pub(crate) fn stored_owners(&self, owner: &str) -> Vec<String> {
        let mut owners: Vec<String> =
            self.ring.iter().map(|key| owner_digest(key, owner)).collect();
        owners.extend_from_within(..owners.len() - 1);
        owners
    }

    /// Decrypts the label of a listed session. Returns `None` if the label can't be read.
    pub(crate) fn label(&self, session: &SessionKey, stored: &str) -> Option<Box<str>> {
        decrypt_label(stored, |label| Part::Label.decrypt(&self.ring, session, label)).ok()
    }

    /// Encrypts changes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if an expected value is not the one in the snapshot, and [`Error::TooLarge`]
    /// if the changes would make the record in the snapshot too large.
    pub(crate) fn encrypt_changes(
        &self,
        session: &SessionKey,
        holder: &Verifier,
        changes: &Changes,
        snapshot: &Snapshot,
    ) -> Result<EncryptedChanges, Error> {
        let mut encrypted = Changes::new().with_expiry(changes.expiry);
        encrypted.replace = changes.replace;
        encrypted.secret.clone_from(&changes.secret);
        encrypted.cookie = changes.cookie;
        encrypted.seen.clone_from(&snapshot.note);
        encrypted.limits = encrypted_limits(changes.limits);
        let mut adds_preconditions = false;
        for expected in &changes.expected {
            if snapshot.values.get(&expected.key) != expected.value.as_deref() {
                return Err(Error::Conflict);
            }
            let key = stored_key(&expected.key);
            encrypted = encrypted.expecting(&key, snapshot.stored.get(&key));
        }
        let mut after = snapshot.clone();
        after.values.apply(changes, &changes.limits)?;
        for (key, value) in changes.iter() {
            match value {
                Some(value) => encrypted.set(&stored_key(key), self.value(session, key, value)?),
                None => encrypted.delete(&stored_key(key)),
            }
        }
        if snapshot.is_outdated && !changes.replace {
            for (key, value) in snapshot.values.iter().filter(|(key, _)| changes.get(key).is_none())
            {
                let stored = stored_key(key);
                encrypted.set(&stored, self.value(session, key, value)?);
                encrypted = encrypted.expecting(&stored, snapshot.stored.get(&stored));
                adds_preconditions = true;
            }
        }
        let is_sealed_anew = snapshot.is_outdated
            || changes.replace
            || changes.secret.is_some()
            || changes.login.is_some();
        if is_sealed_anew {
            after.login.clone_from(changes.login.as_ref().unwrap_or(&snapshot.login));
            let login = after.login.as_deref();
            let holder = changes.secret.as_deref().map_or(holder, |secret| &secret.holder);
            encrypted.set(SEAL, self.seal(session, holder, login)?);
            encrypted.login = Some(login.map(|login| self.encrypt_login(session, login)));
            if changes.login.is_none() {
                // The seal repeats the login of the snapshot, which must not undo another request's
                // login.
                encrypted = encrypted.expecting(SEAL, snapshot.stored.get(SEAL));
                adds_preconditions = true;
            }
            after.is_outdated = false;
        }
        after.stored.apply(&encrypted, &unlimited())?;
        Ok(EncryptedChanges { changes: encrypted, adds_preconditions, after })
    }

    fn value(&self, session: &SessionKey, key: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        to_value(&Part::Value(key).encrypt(&self.ring, session, value))
    }

    fn seal(
        &self,
        session: &SessionKey,
        holder: &Verifier,
        login: Option<&Login>,
    ) -> Result<Vec<u8>, Error> {
        let mut plain = holder.as_bytes().to_vec();
        if let Some(login) = login {
            plain.extend(login.at.as_millis().to_be_bytes());
            plain.extend(login.owner.as_bytes());
        }
        to_value(&Part::Seal.encrypt(&self.ring, session, &plain))
    }

    fn encrypt_login(&self, session: &SessionKey, login: &Login) -> Box<Login> {
        let label = Part::Label.encrypt(&self.ring, session, login.label.as_bytes());
        Box::new(Login {
            owner: owner_digest(self.ring.first(), &login.owner).into(),
            at: login.at,
            label: BASE64_URL_SAFE_NO_PAD.encode(label).into(),
        })
    }
}

/// Returns the digest that the store has for an owner.
fn owner_digest(key: &Key, owner: &str) -> String {
    let mac = key.owner_mac.clone().chain_update(owner).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes())
}

/// Decrypts a stored label.
fn decrypt_label(
    stored: &str,
    open: impl FnOnce(&[u8]) -> Result<Vec<u8>, Reason>,
) -> Result<Box<str>, Reason> {
    let label = BASE64_URL_SAFE_NO_PAD.decode(stored).map_err(|_| DAMAGED)?;
    let label = String::from_utf8(open(&label)?).map_err(|_| DAMAGED)?;
    Ok(label.into())
}

/// Returns the limits of an encrypted record for those of a plain one. They are approximate, because the
/// store can't tell how many bytes the encryption added.
fn encrypted_limits(limits: Limits) -> Limits {
    let mut room = limits;
    room.keys = limits.keys.saturating_add(1);
    let added = room.keys.saturating_mul(ADDED_TO_VALUE).saturating_add(ADDED_TO_RECORD);
    room.bytes = limits.bytes.saturating_add(added);
    room
}

fn unlimited() -> Limits {
    let mut limits = Limits::default();
    (limits.keys, limits.bytes) = (usize::MAX, usize::MAX);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    /// Fixed vectors: such records are in stores and must be read for ever. They were made by the
    /// documented format with Python's cryptography and hmac.
    #[test]
    fn records_stored_before_can_still_be_read() {
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let value = bytes("xCIB7YqfkWp1c3QgYSBub25jZYa5M2qOijykHeRrV1yxbyrC");
        let seal = bytes(
            "xEwB7YqfkWp1c3QgYSBub25jZUiGoL-HsXRHISbDT6FUxp7V4gxSxWjMr8HbDKtEEBHSM300o-GrJHf8Y3\
             FWyDUN_Zo5HjsvdGvRv3El",
        );
        let login = Login {
            owner: "RVwjt2RzrBvHt7m2VX99f0LbUBY_8S3tz2p0r6rbEps".into(),
            at: Timestamp::from_millis(1_800_000_001_000),
            label: "Ae2Kn5FqdXN0IGEgbm9uY2X-7abRTFK9wqPHRxUg6btl34oSz2rI".into(),
        };
        let holder = Verifier::from_bytes(std::array::from_fn(|n| n as u8));
        let mut stored = Record::new(holder, Timestamp::default(), Timestamp::MAX);
        stored.login = Some(Box::new(login));
        stored.values = [("n", value), (SEAL, seal)].into_iter().collect();
        let key = SecretKey::from_bytes(std::array::from_fn(|n| n as u8)).unwrap();
        let cipher = RecordCipher { ring: KeyRing::new(&[key]).unwrap() };
        let session = SessionKey::from_bytes(*b"twelve bytes");
        let (record, snapshot) = cipher.decrypt(&session, stored).unwrap();
        let login = Login {
            owner: "ada".into(),
            // The sealed time, in milliseconds, not the stored one.
            at: Timestamp::from_millis(1_800_000_000_123),
            label: "laptop".into(),
        };
        assert_eq!(record.login.as_deref(), Some(&login));
        assert_eq!(record.values, [("n", [7])].into_iter().collect());
        assert!(!snapshot.is_outdated);
    }

    /// The cipher's own key is `\0@seal`, which a session's key may be as well.
    #[test]
    fn every_key_of_a_session_is_stored_beside_our_own() {
        for key in ["", "a", "\0", "\0@", SEAL, "\0@@seal", "\0lifetime"] {
            let stored = stored_key(key);
            assert_ne!(stored, SEAL);
            assert_eq!(session_key(&stored).as_deref(), Some(key));
        }
        assert_eq!(session_key(SEAL), None);
    }
}

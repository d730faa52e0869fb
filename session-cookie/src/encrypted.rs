//! Encryption at rest.

use session_core::{
    Binding, Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::KeyRing;
use crate::vault::{Unlocked, Vault, bond_key, is_bond};

/// Encrypts what another provider stores: values and owners; not keys and times.
///
/// Each save reads the stored record first. What an old key encrypted is encrypted anew by the next
/// touch, or when it is written.
#[derive(Debug)]
pub struct EncryptedProvider<P> {
    inner: P,
    vault: Vault,
}

/// How often an operation begins anew because the record's bond changed meanwhile, which it does
/// once for each rotation of keys.
const TRIES: usize = 8;

/// A stored record, in both forms.
struct Read {
    stored: Record,
    unlocked: Unlocked,
}

impl<P: Provider> EncryptedProvider<P> {
    /// Encrypts this provider's records.
    pub fn new(inner: P, keys: KeyRing) -> Self {
        Self { inner, vault: Vault { ring: keys } }
    }

    /// The record to change; `Gone` if it is not there or can't be read.
    async fn read(&self, token: &Token, now: Timestamp) -> Result<Read, Error> {
        let read = async {
            let stored = self.inner.load(token, now).await?.ok_or(Error::Gone)?;
            let unlocked = self.vault.unlock(token.id(), &stored)?;
            Ok(Read { stored, unlocked })
        };
        read.await.map_err(|error| match error {
            Error::Unreadable { .. } => Error::Gone,
            error => error,
        })
    }

    async fn merge(
        &self,
        token: &Token,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let bond = bond_key(token.id());
        for _ in 0..TRIES {
            let Read { stored, unlocked } = self.read(token, now).await?;
            // What the changes expect, and the limits, are about the plain record.
            unlocked.record.clone().apply(changes, now)?;
            let locked = self.vault.lock_changes(&unlocked.salt, changes)?;
            // Otherwise, that it is the record whose salt was read.
            let locked = match &changes.expected {
                Some(expected) => {
                    let value = Vault::stored(&stored, &expected.key);
                    locked.expecting(&Vault::key(&expected.key), value)
                }
                None => locked.expecting(&bond, stored.values.get(&bond)),
            };
            match self.inner.save(token, &locked, now).await {
                Err(Error::Conflict) if changes.expected.is_none() => {}
                answer => return answer,
            }
        }
        Err(Error::Conflict)
    }

    async fn move_to(
        &self,
        token: &Token,
        new_id: &SessionId,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let bond = bond_key(token.id());
        for _ in 0..TRIES {
            let Read { stored, unlocked } = self.read(token, now).await?;
            // A bond to the new id beside the old one, so that the record can be read under either
            // when it moves.
            let new_bond = bond_key(new_id);
            let mut bonded = unlimited().expecting(&bond, stored.values.get(&bond));
            bonded.set(&new_bond, self.vault.bond(new_id, &unlocked.salt)?);
            let token = match self.inner.save(token, &bonded, now).await {
                Ok(token) => token,
                Err(Error::Conflict) => continue,
                Err(error) => return Err(error),
            };
            let renamed = self.inner.rename(&token, new_id, now).await?;
            // The rename has happened: what fails from here on is no reason to say otherwise.
            return Ok(self.settle(token.id(), &renamed, now).await.unwrap_or(renamed));
        }
        Err(Error::Conflict)
    }

    /// Leaves a record that moved with the bond to its id and no other.
    ///
    /// Bonds are deleted by the value that was seen: one that a later rename, to an id that the
    /// record had before, set anew in the meantime stays.
    async fn settle(
        &self,
        old_id: &SessionId,
        renamed: &Token,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let bond = bond_key(renamed.id());
        let moved = self.inner.load(renamed, now).await?.ok_or(Error::Gone)?;
        let mut token = renamed.clone();
        if moved.values.get(&bond).is_none() {
            // Another record was stored under the old id between the two steps, and moved.
            let unlocked = self.vault.unlock(old_id, &moved)?;
            let mut bonded = unlimited().expecting(&bond, None);
            bonded.set(&bond, self.vault.bond(renamed.id(), &unlocked.salt)?);
            token = self.inner.save(&token, &bonded, now).await?;
        }
        for (other, value) in moved.values.iter().filter(|(key, _)| is_bond(key) && *key != bond) {
            let mut cleared = unlimited().expecting(other, Some(value));
            cleared.delete(other);
            match self.inner.save(&token, &cleared, now).await {
                Ok(newer) => token = newer,
                Err(Error::Conflict) => {}
                // It does no harm, and goes the next time.
                Err(_) => break,
            }
        }
        Ok(token)
    }

    /// Encrypts under the first key what others have encrypted. A value that is changed meanwhile
    /// is left to the next time.
    async fn renew(&self, token: Token, now: Timestamp) -> Result<Token, Error> {
        let Read { stored, unlocked } = self.read(&token, now).await?;
        let mut token = token;
        for key in &unlocked.old {
            let Some(value) = self.vault.renewed(token.id(), &unlocked, key)? else { continue };
            let mut changes = unlimited().expecting(key, stored.values.get(key));
            changes.set(key, value);
            match self.inner.save(&token, &changes, now).await {
                Ok(newer) => token = newer,
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(token)
    }
}

/// Changes of our own, which no limit is to refuse.
fn unlimited() -> Changes {
    let mut changes = Changes::new();
    changes.limits.bytes = usize::MAX;
    changes.limits.keys = usize::MAX;
    changes
}

impl<P: Provider> Provider for EncryptedProvider<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        self.inner.token(text)
    }

    fn new_token(&self) -> Result<Token, Error> {
        self.inner.new_token()
    }

    fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        self.inner.bind(binding)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let locked = Vault::new_salt().and_then(|salt| self.vault.lock(id, &salt, &record));
        match locked {
            Ok(locked) => self.inner.create(id, locked, now),
            Err(error) => ProviderFuture::ready(Err(error)),
        }
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        self.inner.load(token, now).map(|stored| {
            let unlock = |stored| self.vault.unlock(token.id(), &stored);
            Ok(stored?.map(unlock).transpose()?.map(|unlocked| unlocked.record))
        })
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(self.merge(token, changes, now))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(self.move_to(token, new_id, now))
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.inner.destroy(token, now)
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        if !self.vault.ring.has_old_keys() {
            return self.inner.touch(token, expires, now);
        }
        ProviderFuture::boxed(async move {
            let token = self.inner.touch(token, expires, now).await?;
            self.renew(token, now).await
        })
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}

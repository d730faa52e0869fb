//! Sessions of no importance.

use session_core::provider::{Changes, NewSecret, Provider, Record, Token, Verifier};
use session_core::{Error, SessionId, SessionKey, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
pub(crate) const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);

/// A record of a session with these many values of 20 bytes.
pub(crate) fn record(holder: Verifier, values: usize) -> Record {
    let values = (0..values).map(|number| (format!("key{number}"), [7; 20])).collect();
    Record { values, ..Record::new(holder, NOW, EXPIRES) }
}

/// A key as PostgreSQL writes it.
pub(crate) fn hex(key: &SessionKey) -> String {
    key.as_bytes().iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A stored session.
pub(crate) struct Stored {
    pub(crate) id: SessionId,
    pub(crate) token: Token,
    pub(crate) holder: Verifier,
}

impl Stored {
    pub(crate) async fn new(provider: &dyn Provider, values: usize) -> Self {
        let id = SessionId::generate().unwrap();
        let holder = Verifier::digest(&id, "");
        provider.create(&id, record(holder, values), NOW).await.expect("it is stored");
        Self { id, token: id.into(), holder }
    }

    pub(crate) async fn load(&self, provider: &dyn Provider) -> Result<Option<Record>, Error> {
        provider.load(&self.token, NOW).await
    }

    pub(crate) async fn save(
        &self,
        provider: &dyn Provider,
        changes: &Changes,
    ) -> Result<(), Error> {
        provider.save(&self.token, &self.holder, changes, NOW).await.map(|_| ())
    }
}

/// Sets a key to a value.
pub(crate) fn set(key: &str, value: &[u8]) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, value);
    changes
}

/// The same with a new secret.
pub(crate) fn with_secret(changes: Changes, id: SessionId) -> (Changes, Verifier) {
    let new = id.with_new_secret().unwrap();
    let holder = Verifier::digest(&new, "");
    (changes.with_secret(NewSecret { token: new.into(), holder, at: NOW }), holder)
}

//! A store that tests can read and write, and that records its calls.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) records: Mutex<BTreeMap<SessionKey, Record>>,
    calls: Mutex<Vec<&'static str>>,
    /// A change of the record before the next save, as by another process.
    meanwhile: Mutex<Option<Meanwhile>>,
}

struct Meanwhile(Box<dyn FnOnce(&mut Record) + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Shelf {
    /// Returns the calls since this was last called.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock())
    }

    /// Returns the only record with its key.
    pub(crate) fn only(&self) -> (SessionKey, Record) {
        let records = self.records.lock();
        assert_eq!(records.len(), 1);
        let (key, record) = records.first_key_value().expect("there is one");
        (*key, record.clone())
    }

    pub(crate) fn put(&self, key: SessionKey, record: Record) {
        self.records.lock().insert(key, record);
    }

    /// Changes the record of the next save, just before that save.
    pub(crate) fn before_the_next_save(&self, change: impl FnOnce(&mut Record) + Send + 'static) {
        *self.meanwhile.lock() = Some(Meanwhile(Box::new(change)));
    }

    /// Returns whether a text is anywhere in the stored records.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let is_in = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        self.records.lock().values().any(|record| {
            let login = record.login.as_deref();
            record.values.iter().any(|(key, value)| is_in(key.as_bytes()) || is_in(value))
                || login.is_some_and(|login| {
                    is_in(login.owner.as_bytes()) || is_in(login.label.as_bytes())
                })
        })
    }

    fn change(
        &self,
        call: &'static str,
        key: &SessionKey,
        change: impl FnOnce(&mut Record) -> Result<(), Error>,
    ) -> Answer<'static, Option<Token>> {
        self.calls.lock().push(call);
        let mut records = self.records.lock();
        let changed = records.get_mut(key).ok_or(Error::Gone).and_then(change);
        ProviderFuture::ready(changed.map(|()| None))
    }
}

impl Provider for Shelf {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.calls.lock().push("create");
        let mut records = self.records.lock();
        if records.get(&id.key()).is_some_and(|record| record.is_live(now)) {
            return ProviderFuture::ready(Err(Error::Exists));
        }
        records.insert(id.key(), record);
        ProviderFuture::ready(Ok(None))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        self.calls.lock().push("load");
        let found = self.records.lock().get(&token.key()).cloned();
        ProviderFuture::ready(Ok(found.filter(|record| record.is_live(now))))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let meanwhile = self.meanwhile.lock().take();
        self.change("save", &token.key(), |record| {
            if let Some(Meanwhile(change)) = meanwhile {
                change(record);
            }
            record.apply(holder, changes, now)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.change("touch", &token.key(), |record| record.touch(touch, now))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        self.calls.lock().push("destroy");
        self.records.lock().remove(key);
        ProviderFuture::ready(Ok(()))
    }

    fn count(&self, _now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::ready(Ok(self.records.lock().len() as u64))
    }

    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        Ok(Purged::default())
    }
}

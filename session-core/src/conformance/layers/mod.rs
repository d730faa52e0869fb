//! Providers around a provider, for tests.

mod counting;
mod delayed;
mod faulty;

pub use counting::Counting;
pub use delayed::Delayed;
pub use faulty::{Fault, Faulty};

pub use crate::events::Operation;

/// Implements `Provider` for a wrapper with a field `inner` by two methods of its own: `around`,
/// which runs a closure that begins an operation, and `around_purge`.
///
/// Closures, because a provider may act as soon as it is called and not when it is polled.
macro_rules! layer {
    ($wrapper:ident) => {
        impl<P: Provider> Provider for $wrapper<P> {
            fn token(&self, text: &[u8]) -> Option<Token> {
                self.inner.token(text)
            }

            fn new_id(&self) -> Result<SessionId, Error> {
                self.inner.new_id()
            }

            fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
                self.inner.renewed_id(id)
            }

            fn issue(&self, id: SessionId) -> Token {
                self.inner.issue(id)
            }

            fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
                self.inner.verifier(token, namespace)
            }

            fn is_outdated(&self, note: &crate::provider::Note) -> bool {
                self.inner.is_outdated(note)
            }

            fn configure(&self, context: &ProviderContext<'_>) -> Result<(), Error> {
                self.inner.configure(context)
            }

            fn create<'a>(
                &'a self,
                id: &'a SessionId,
                record: Record,
                now: Timestamp,
            ) -> Answer<'a, Option<Token>> {
                self.around(Operation::Create, move || self.inner.create(id, record, now))
            }

            fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
                self.around(Operation::Load, move || self.inner.load(token, now))
            }

            fn save<'a>(
                &'a self,
                token: &'a Token,
                holder: &'a Verifier,
                changes: &'a Changes,
                now: Timestamp,
            ) -> Answer<'a, Option<Token>> {
                self.around(Operation::Save, move || self.inner.save(token, holder, changes, now))
            }

            fn touch<'a>(
                &'a self,
                token: &'a Token,
                touch: Touch,
                now: Timestamp,
            ) -> Answer<'a, Option<Token>> {
                self.around(Operation::Touch, move || self.inner.touch(token, touch, now))
            }

            fn destroy<'a>(
                &'a self,
                key: &'a SessionKey,
                until: Timestamp,
                now: Timestamp,
            ) -> Answer<'a, ()> {
                self.around(Operation::Destroy, move || self.inner.destroy(key, until, now))
            }

            fn lists(&self) -> bool {
                self.inner.lists()
            }

            fn list<'a>(
                &'a self,
                owner: &'a str,
                page: Page,
                now: Timestamp,
            ) -> Answer<'a, Listed> {
                self.around(Operation::List, move || self.inner.list(owner, page, now))
            }

            fn count(&self, now: Timestamp) -> Answer<'_, u64> {
                self.around(Operation::Count, move || self.inner.count(now))
            }

            fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
                self.around_purge(|| self.inner.purge(now, limit))
            }
        }
    };
}

pub(crate) use layer;

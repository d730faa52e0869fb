//! Providers around a provider, for tests.

mod counting;
mod delayed;
mod faulty;

pub use counting::Counting;
pub use delayed::Delayed;
pub use faulty::{Fault, Faulty};

/// The operations of a [`Provider`](crate::Provider) that reach the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`create`](crate::Provider::create)
    Create,
    /// [`load`](crate::Provider::load)
    Load,
    /// [`save`](crate::Provider::save)
    Save,
    /// [`rename`](crate::Provider::rename)
    Rename,
    /// [`destroy`](crate::Provider::destroy)
    Destroy,
    /// [`touch`](crate::Provider::touch)
    Touch,
    /// [`count`](crate::Provider::count)
    Count,
    /// [`purge`](crate::Provider::purge)
    Purge,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Load,
        Self::Save,
        Self::Rename,
        Self::Destroy,
        Self::Touch,
        Self::Count,
        Self::Purge,
    ];

    /// Whether it changes what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Load | Self::Count)
    }
}

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

            fn new_token(&self) -> Result<Token, Error> {
                self.inner.new_token()
            }

            fn bind(&self, binding: &$crate::Binding<'_>) -> Result<(), Error> {
                self.inner.bind(binding)
            }

            fn create<'a>(
                &'a self,
                id: &'a SessionId,
                record: Record,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<Token, Error>> {
                self.around(Operation::Create, move || self.inner.create(id, record, now))
            }

            fn load<'a>(
                &'a self,
                token: &'a Token,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
                self.around(Operation::Load, move || self.inner.load(token, now))
            }

            fn save<'a>(
                &'a self,
                token: &'a Token,
                changes: &'a Changes,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<Token, Error>> {
                self.around(Operation::Save, move || self.inner.save(token, changes, now))
            }

            fn rename<'a>(
                &'a self,
                token: &'a Token,
                new_id: &'a SessionId,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<Token, Error>> {
                self.around(Operation::Rename, move || self.inner.rename(token, new_id, now))
            }

            fn destroy<'a>(
                &'a self,
                token: &'a Token,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<(), Error>> {
                self.around(Operation::Destroy, move || self.inner.destroy(token, now))
            }

            fn touch<'a>(
                &'a self,
                token: &'a Token,
                expires: Timestamp,
                now: Timestamp,
            ) -> ProviderFuture<'a, Result<Token, Error>> {
                self.around(Operation::Touch, move || self.inner.touch(token, expires, now))
            }

            fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
                self.around(Operation::Count, move || self.inner.count(now))
            }

            fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
                self.around_purge(|| self.inner.purge(now, limit))
            }
        }
    };
}

pub(crate) use layer;

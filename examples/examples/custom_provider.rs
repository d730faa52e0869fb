//! A provider of one's own: a map behind a lock, found by name like any other, with the suite that
//! says whether it is one.
//!
//!     cargo run -p examples --example custom_provider
//!     curl -b jar -c jar http://127.0.0.1:8080/
//!     cargo test -p examples --example custom_provider

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use session_core::{
    Changes, Error, Manager, Provider, ProviderFuture, Purged, Record, SessionId, SessionService,
    Sessions, Source, Timestamp, Token,
};
use tokio::net::TcpListener;

type Digest = [u8; 32];

/// Keeps records in a map, under the digests of their ids: a store that leaks opens no session.
///
/// Each operation holds the lock from beginning to end, so it is atomic; and nothing waits, so the
/// answers are ready at once. A store that waits answers `ProviderFuture::boxed(async move { ... })`.
#[derive(Default)]
struct ShelfProvider {
    records: Mutex<BTreeMap<Digest, Record>>,
}

impl ShelfProvider {
    fn records(&self) -> MutexGuard<'_, BTreeMap<Digest, Record>> {
        self.records.lock().expect("no holder of the lock panics")
    }

    /// Runs `change` on a live record; an expired one is gone, collected or not.
    fn change(
        &self,
        token: &Token,
        now: Timestamp,
        change: impl FnOnce(&mut Record) -> Result<(), Error>,
    ) -> Result<Token, Error> {
        let mut records = self.records();
        let record = records.get_mut(&token.id().digest()).filter(|record| record.is_live(now));
        change(record.ok_or(Error::Gone)?)?;
        Ok(token.clone())
    }
}

fn is_live(records: &BTreeMap<Digest, Record>, id: &SessionId, now: Timestamp) -> bool {
    records.get(&id.digest()).is_some_and(|record| record.is_live(now))
}

impl Provider for ShelfProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let mut records = self.records();
        ProviderFuture::ready(if is_live(&records, id, now) {
            Err(Error::Exists)
        } else {
            records.insert(id.digest(), record);
            Ok(Token::from(*id))
        })
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        let record = self.records().get(&token.id().digest()).cloned();
        ProviderFuture::ready(Ok(record.filter(|record| record.is_live(now))))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.change(token, now, |record| record.apply(changes, now)))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let mut records = self.records();
        ProviderFuture::ready(if !is_live(&records, token.id(), now) {
            Err(Error::Gone)
        } else if is_live(&records, new_id, now) {
            Err(Error::Exists)
        } else {
            let record = records.remove(&token.id().digest());
            records.extend(record.map(|record| (new_id.digest(), record)));
            Ok(Token::from(*new_id))
        })
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.records().remove(&token.id().digest());
        ProviderFuture::ready(Ok(()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.change(token, now, |record| {
            record.expires = record.expires.max(expires);
            Ok(())
        }))
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        let live = self.records().values().filter(|record| record.is_live(now)).count();
        ProviderFuture::ready(Ok(live as u64))
    }

    /// Looks at every record, which a store of many would not: its cost should grow with what has
    /// expired.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let mut records = self.records();
        let expired = |(_, record): &(&Digest, &Record)| !record.is_live(now);
        let digests: Vec<Digest> =
            records.iter().filter(expired).take(limit).map(|(digest, _)| *digest).collect();
        for digest in &digests {
            records.remove(digest);
        }
        Ok(Purged { removed: digests.len(), more: digests.len() == limit })
    }
}

/// Shows no id, no value and no owner.
impl fmt::Debug for ShelfProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShelfProvider").finish_non_exhaustive()
    }
}

/// What a provider crate's `init()` does.
fn init() -> Result<(), Error> {
    session_core::register("shelf", |source| {
        // It has no options: any is an error that names it.
        Source::parse(source)?.finish()?;
        Ok(Arc::new(ShelfProvider::default()))
    })
}

/// An error becomes a response of its status, by the wrapper.
async fn count(request: Request<Incoming>) -> Result<Response<String>, Error> {
    let sessions = request.extensions().get::<Sessions>().expect("the wrapper puts them there");
    let session = sessions.only().load().await?;
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Response::new(format!("visit {visits}\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    init()?;
    let service = SessionService::new(Manager::open("shelf", "")?, service_fn(count));
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_by_its_name() {
        init().expect("the name is free");
        Manager::open("shelf", "").expect("it opens");
        let error = Manager::open("shelf", "colour=red").expect_err("there is no such option");
        assert!(error.to_string().contains("colour"), "{error}");
    }

    mod conformance {
        use super::*;

        session_core::conformance_tests!(Arc::new(ShelfProvider::default()));
    }
}

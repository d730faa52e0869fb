//! A custom provider: a map behind a lock. It is registered under a name like any other provider, and
//! passes the conformance suite. The guide to larger ones is the documentation of `session_core::provider`.
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
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Source, Token, Touch, Verifier,
    register,
};
use session_core::{
    Error, Manager, RequestSession, SessionId, SessionKey, SessionService, Timestamp,
};
use tokio::net::TcpListener;

/// Keeps records in a map by the sessions' keys. A record has only a digest of the client's secret, so a
/// leaked store gives access to no session.
///
/// Each operation holds the lock from beginning to end, so it is atomic. Nothing waits, so the results
/// are ready at once. A store that waits returns `ProviderFuture::boxed(async move { ... })`.
#[derive(Default)]
struct ShelfProvider {
    records: Mutex<BTreeMap<SessionKey, Record>>,
}

impl ShelfProvider {
    fn records(&self) -> MutexGuard<'_, BTreeMap<SessionKey, Record>> {
        self.records.lock().expect("no holder of the lock panics")
    }
}

impl Provider for ShelfProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let mut records = self.records();
        let is_taken = records.get(&id.key()).is_some_and(|record| record.is_live(now));
        ProviderFuture::ready(if is_taken {
            Err(Error::Exists)
        } else {
            records.insert(id.key(), record);
            Ok(None)
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let record = self.records().get(&token.key()).cloned();
        ProviderFuture::ready(Ok(record.filter(|record| record.is_live(now))))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let mut records = self.records();
        let saved = match records.get_mut(&token.key()) {
            // All or nothing: checks that the record is live, its holder, the expected values and the
            // limits, and applies the changes.
            Some(record) => record.apply(holder, changes, now),
            None => Err(Error::Gone),
        };
        ProviderFuture::ready(saved.map(|()| None))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let mut records = self.records();
        let touched = records.get_mut(&token.key()).ok_or(Error::Gone);
        ProviderFuture::ready(touched.and_then(|record| record.touch(touch, now)).map(|()| None))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        self.records().remove(key);
        ProviderFuture::ready(Ok(()))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let live = self.records().values().filter(|record| record.is_live(now)).count();
        ProviderFuture::ready(Ok(live as u64))
    }

    /// This looks at every record. A large store should find expired records by an index, so that the
    /// cost grows with the number of expired records.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let mut records = self.records();
        let expired = |(_, record): &(&SessionKey, &Record)| !record.is_live(now);
        let keys: Vec<SessionKey> =
            records.iter().filter(expired).take(limit).map(|(key, _)| *key).collect();
        for key in &keys {
            records.remove(key);
        }
        Ok(Purged { removed: keys.len(), more: keys.len() == limit })
    }
}

/// Prints no digest, value or owner.
impl fmt::Debug for ShelfProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShelfProvider").finish_non_exhaustive()
    }
}

/// Registers the provider, as a provider crate's `init()` does.
fn init() -> Result<(), Error> {
    register("shelf", |source| {
        // The provider has no options. `finish` refuses any, with an error that names it.
        Source::parse(source)?.finish()?;
        Ok(Arc::new(ShelfProvider::default()))
    })
}

/// The wrapper turns an error into a response with the error's status.
async fn count(request: Request<Incoming>) -> Result<Response<String>, Error> {
    let session = request.session().await?;
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

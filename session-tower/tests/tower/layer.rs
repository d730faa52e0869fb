//! The layer around services of any kind: readiness, errors, several managers.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use session_core::provider::BoxError;
use session_core::{Error, Managers, RequestSession as _, SessionBody};
use session_tower::SessionLayer;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::support::{Site, Visitor, call};

type Outcome = Result<Response<Full<Bytes>>, BoxError>;

async fn text(response: Response<SessionBody<Full<Bytes>>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A handler that counts.
async fn count(request: Request<()>) -> Outcome {
    let session = request.session().await?;
    let n = session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
    Ok(Response::new(Full::from(n.to_string())))
}

fn plain(visitor: &Visitor, method: &str) -> Request<()> {
    visitor.request(method, "/").map(drop)
}

/// A service that is ready only once it was asked twice, for one call, and may be neither cloned nor called
/// otherwise.
struct Careful {
    asked: usize,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<()>> for Careful {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Outcome>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.asked += 1;
        if self.asked < 2 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.asked >= 2, "it was not ready");
        self.asked = 0;
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn the_service_that_is_called_is_the_one_that_was_ready() {
    let calls = Arc::new(AtomicUsize::new(0));
    let careful = Careful { asked: 0, calls: Arc::clone(&calls) };
    let mut service = SessionLayer::new(Site::new().manager).layer(careful);
    for n in 1..4 {
        let response = call(&mut service, Request::new(())).await;
        assert_eq!(response.status(), 200);
        assert_eq!(calls.load(Ordering::Relaxed), n);
    }
}

/// A clone is another service to tower: it has not been asked.
#[tokio::test]
async fn a_clone_of_a_ready_service_asks_for_itself() {
    let limited = ServiceBuilder::new()
        .layer(SessionLayer::new(Site::new().manager))
        .concurrency_limit(1)
        .service_fn(count);
    let mut one = limited.clone();
    let mut other = limited.clone();
    one.ready().await.unwrap();
    assert!(futures_util::poll!(other.ready()).is_pending(), "the one permit is taken");
    // A ready service that is dropped gives it back, as everywhere.
    drop(one);
    assert_eq!(call(&mut other, Request::new(())).await.status(), 200);
}

/// What becomes of a service whose readiness fails.
#[derive(Clone)]
struct Never {
    panics: bool,
}

impl Service<Request<()>> for Never {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert!(!self.panics, "this test panics");
        Poll::Ready(Err(Error::unavailable("closed").into()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test]
async fn a_service_that_will_never_be_ready_is_a_response_to_each_request() {
    let layer = SessionLayer::new(Site::new().manager);
    for (panics, status) in [(false, 503), (true, 500)] {
        let mut service = layer.layer(Never { panics });
        for _ in 0..3 {
            let response = call(&mut service, Request::new(())).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        }
        let mut clone = service.clone();
        assert_eq!(call(&mut clone, Request::new(())).await.status(), status);
    }
    // In the application's words, too.
    let layer = layer.with_error_page(|failure, _| {
        Response::builder().status(failure.status()).body("later".into()).unwrap()
    });
    let response = call(&mut layer.layer(Never { panics: false }), Request::new(())).await;
    assert_eq!(
        (response.status(), &*text(response).await),
        (StatusCode::SERVICE_UNAVAILABLE, "later")
    );
}

/// A foreign request doesn't reach a service that was found ready, which is as ready for the next.
#[tokio::test]
async fn a_request_that_is_refused_costs_the_service_no_call() {
    let calls = Arc::new(AtomicUsize::new(0));
    let careful = Careful { asked: 0, calls: Arc::clone(&calls) };
    let mut service = SessionLayer::new(Site::new().manager).layer(careful);
    let mut foreign = plain(&Visitor::default(), "POST");
    foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    let response = call(&mut service, foreign).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response).await.trim_end(), Error::CrossSite.visitor_text());
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(call(&mut service, Request::new(())).await.status(), 200);
}

#[tokio::test]
async fn a_session_is_saved_with_one_call_and_told_to_the_client() {
    let site = Site::new();
    let mut service = SessionLayer::new(site.manager.clone()).layer(service_fn(count));
    let mut visitor = Visitor::default();
    for (wanted, calls) in
        [("1", vec!["create"]), ("2", vec!["load", "save"]), ("3", vec!["load", "save"])]
    {
        let response = call(&mut service, plain(&visitor, "POST")).await;
        visitor.keep(response.headers());
        assert_eq!(text(response).await, wanted);
        assert_eq!(site.store.calls(), calls);
    }
}

#[tokio::test]
async fn an_untouched_session_costs_and_changes_nothing() {
    let site = Site::new();
    let inner = service_fn(async |_: Request<()>| Outcome::Ok(Response::default()));
    let mut service = SessionLayer::new(site.manager.clone()).layer(inner);
    let mut visitor = Visitor::default();
    let mut counting = SessionLayer::new(site.manager.clone()).layer(service_fn(count));
    let counted = call(&mut counting, plain(&visitor, "POST")).await;
    visitor.keep(counted.headers());
    site.store.calls();
    let response = call(&mut service, plain(&visitor, "GET")).await;
    assert!(response.headers().is_empty());
    assert_eq!(site.store.calls(), [""; 0]);
}

/// Errors of any type, which need not even be errors by the standard library.
#[tokio::test]
async fn what_goes_wrong_is_a_response_and_undoes_what_was_pending() {
    let site = Site::new();
    let layer = SessionLayer::new(site.manager.clone());
    let mut visitor = Visitor::default();
    let counted = call(&mut layer.layer(service_fn(count)), plain(&visitor, "POST")).await;
    visitor.keep(counted.headers());
    type Failing = fn() -> Outcome;
    let ways: [(u16, Failing); 5] = [
        (500, || Err("out of paper".into())),
        (500, || Err(io::Error::other("x").into())),
        (409, || Err(Error::Gone.into())),
        (500, || panic!("this test panics")),
        (502, || Ok(Response::builder().status(502).body(Full::default()).unwrap())),
    ];
    for (status, fail) in ways {
        let inner = service_fn(move |request: Request<()>| async move {
            let session = request.session().await?;
            session.set("n", &100u32)?;
            session.log_in("ada")?;
            fail()
        });
        let response = call(&mut layer.layer(inner), plain(&visitor, "POST")).await;
        assert_eq!(response.status(), status);
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
    let response = call(&mut layer.layer(service_fn(count)), plain(&visitor, "POST")).await;
    assert_eq!(text(response).await, "2");
}

#[tokio::test]
async fn several_managers_sessions_are_saved_together() {
    let sites = ["__Host-shop", "__Host-staff"].map(Site::named);
    let managers = Managers::new(sites.iter().map(|site| site.manager.clone())).unwrap();
    let layer = SessionLayer::new(managers);
    let inner = service_fn(async |request: Request<()>| {
        let mut text = String::new();
        for name in ["__Host-shop", "__Host-staff"] {
            let session = request.session_named(name).await?;
            text += &session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?.to_string();
        }
        assert!(request.session().await.is_err(), "there are two");
        Outcome::Ok(Response::new(Full::from(text)))
    });
    let (mut service, mut visitor) = (layer.layer(inner), Visitor::default());
    for wanted in ["11", "22"] {
        let response = call(&mut service, plain(&visitor, "POST")).await;
        visitor.keep(response.headers());
        assert_eq!(text(response).await, wanted);
    }
    assert_eq!(sites.map(|site| site.store.calls().len()), [3, 3]);
}

/// A client that goes away drops the future, at whatever point.
#[tokio::test]
async fn a_dropped_request_stores_nothing() {
    let site = Site::new();
    let inner = service_fn(async |request: Request<()>| {
        request.session().await?.log_in("ada")?;
        std::future::pending::<Outcome>().await
    });
    let mut service = SessionLayer::new(site.manager.clone()).layer(inner);
    let mut pending: Pin<Box<_>> = Box::pin(call(&mut service, Request::new(())));
    assert!(futures_util::poll!(&mut pending).is_pending());
    drop(pending);
    assert_eq!(site.store.calls(), [""; 0]);
    assert_eq!(site.manager.count().await.unwrap(), 0);
}

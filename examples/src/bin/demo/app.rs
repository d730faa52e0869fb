//! The demo's service: dispatches requests to handlers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::Router;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{ALLOW, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, StatusCode};
use session_core::provider::BoxError;
use session_core::{Error, Manager, Sessions};
use session_tower::SessionLayer;
use session_tower::axum::Failed;
use tracing::debug;

use crate::messages::Audience;
use crate::reply::{Failure, Outcome, Reply};
use crate::route::{self, Route};
use crate::{account, devices, input, messages, page, reply, values, visit};

/// The demo, to be wrapped with sessions: as the hyper service that it is, or by [`router`](Self::router).
#[derive(Clone, Debug)]
pub(crate) struct App {
    manager: Manager,
    /// The address that the server listens on, for the examples on the page.
    address: SocketAddr,
}

impl App {
    pub(crate) fn new(manager: Manager, address: SocketAddr) -> Self {
        Self { manager, address }
    }

    /// Returns the same handlers as an axum application, wrapped with sessions.
    pub(crate) fn router(self) -> Router {
        let sessions = SessionLayer::new(self.manager.clone());
        let answer = move |request: axum::extract::Request| {
            let answer = self.clone().answer(request);
            async { answer.await.map_err(Failed::from) }
        };
        Router::new().fallback(answer).layer(sessions)
    }

    /// Runs the handler and turns its refusals into responses. Errors of the session are left to the
    /// wrapper, which knows their statuses.
    async fn answer<B>(self, request: Request<B>) -> Result<Reply, Error>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        match self.handle(request.map(|body| body.map_err(Into::into).boxed_unsync())).await {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(status, line)) => Ok(reply::refusal(status, &line)),
            Err(Failure::Session(error)) => Err(error),
        }
    }

    async fn handle(&self, request: Request<input::Body>) -> Outcome {
        let (parts, body) = request.into_parts();
        let found = Route::of(parts.uri.path());
        // Nothing else of the request is logged, because targets and headers may contain ids.
        debug!(method = %parts.method, route = found.map_or("unknown", Route::name), "request");
        let route = found.ok_or(Failure::not_found())?;
        if !route.allows(&parts.method) {
            let mut refusal = reply::refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("this path has the methods {}", route.methods()),
            );
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
            return Ok(refusal);
        }
        let sessions = parts.extensions.get::<Sessions>().expect("the wrapper puts them there");
        let handle = sessions.get(self.manager.name()).expect("the wrapper has the same manager");
        let query = parts.uri.query().unwrap_or_default();
        let audience = Audience::of(&parts.method, &parts.headers);
        match parts.method {
            Method::GET | Method::HEAD => match route {
                Route::Home => page::home(handle, &self.manager, self.address, audience).await,
                Route::Count => visit::count(handle, &self.manager).await,
                Route::Login => page::login(handle).await,
                Route::WhoAmI => account::whoami(handle).await,
                Route::Hello => account::hello(handle).await,
                Route::Private => account::private(handle).await,
                Route::Values => values::list(handle).await,
                Route::Value(key) => {
                    let key = route::key(key)?;
                    values::read(&handle.load().await?, &key)
                }
                Route::Flash => messages::list(handle, audience).await,
                Route::Sessions => devices::list(handle, &self.manager).await,
                Route::Stats => visit::stats(&self.manager).await,
                _ => Err(Failure::not_found()),
            },
            Method::PUT => match route {
                Route::Value(key) => {
                    let key = route::key(key)?;
                    let value = input::json(&input::bytes(body).await?)?;
                    values::write(&handle.load().await?, &key, &value)
                }
                _ => Err(Failure::not_found()),
            },
            Method::DELETE => match route {
                Route::Value(key) => {
                    let key = route::key(key)?;
                    values::delete(&handle.load().await?, &key)
                }
                _ => Err(Failure::not_found()),
            },
            _ => {
                let form = input::argument(query, "form")?;
                let done = match route {
                    Route::Login => account::login(handle, query, &parts.headers, body).await,
                    Route::Logout => account::logout(handle).await,
                    Route::Add(key) => values::add(handle, &route::key(key)?, query).await,
                    Route::Slow(key) => {
                        let key = route::key(key)?;
                        values::slow(handle, &key, query, form.as_deref(), body).await
                    }
                    Route::Flash => messages::add(handle, form.as_deref(), body).await,
                    Route::Regenerate => account::regenerate(handle).await,
                    Route::Remember => account::remember(handle, query).await,
                    Route::EndSession(key) => {
                        devices::end(handle, &self.manager, &route::key(key)?).await
                    }
                    Route::EndOthers => devices::end_others(handle, &self.manager).await,
                    _ => Err(Failure::not_found()),
                }?;
                // After a form of the page, the browser is redirected to the page, whose links then have
                // the current id.
                let from_page = form.is_some() && done.status().is_success();
                Ok(if from_page { reply::see_other("/") } else { done })
            }
        }
    }
}

impl<B> Service<Request<B>> for App
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

//! The demo's service: dispatches requests to handlers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, StatusCode};
use session_core::{Error, Manager, Sessions};
use tracing::debug;

use crate::messages::Audience;
use crate::reply::{Failure, Outcome, Reply};
use crate::route::{self, Route};
use crate::{account, devices, input, messages, page, reply, values, visit};

/// The demo, to be wrapped in a [`SessionService`](session_core::SessionService).
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

    /// Runs the handler and turns its refusals into responses. Errors of the session are left to the
    /// wrapper, which knows their statuses.
    async fn answer(self, request: Request<Incoming>) -> Result<Reply, Error> {
        match self.handle(request).await {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(status, line)) => Ok(reply::refusal(status, &line)),
            Err(Failure::Session(error)) => Err(error),
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Outcome {
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
                Route::Value(key) => values::read(handle, &route::key(key)?).await,
                Route::Flash => messages::list(handle, audience).await,
                Route::Sessions => devices::list(handle, &self.manager).await,
                Route::Stats => visit::stats(&self.manager).await,
                _ => Err(Failure::not_found()),
            },
            Method::PUT => match route {
                Route::Value(key) => values::write(handle, &route::key(key)?, body).await,
                _ => Err(Failure::not_found()),
            },
            Method::DELETE => match route {
                Route::Value(key) => values::delete(handle, &route::key(key)?).await,
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

impl Service<Request<Incoming>> for App {
    type Response = Reply;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

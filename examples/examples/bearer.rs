//! A custom transport: bearer tokens (RFC 6750) for API clients, with any provider.
//!
//! The server issues a token in the response header `Session-Token`, and the client sends it with each
//! request as `Authorization: Bearer TOKEN`. `Authorization` is a request header only (RFC 9110, section
//! 11.6.2), and RFC 6750 doesn't define how a client gets its token, so this example has its own
//! response header.
//!
//!     cargo run -p examples --example bearer

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use session_core::transport::{Directive, Extracted, RequestHead, TokenSource, Transport};
use session_core::{Error, Manager};

/// Extracts tokens from `Authorization: Bearer TOKEN`, and issues them as `Session-Token: TOKEN`.
#[derive(Debug)]
struct BearerTransport;

const SCHEME: &str = "Bearer ";

/// The response header. An empty one means that the token is no longer valid.
const SESSION_TOKEN: &str = "session-token";

impl Transport for BearerTransport {
    fn name(&self) -> &str {
        "bearer"
    }

    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let mut values = request.headers.get_all(AUTHORIZATION).iter();
        let (Some(value), other) = (values.next(), values.next()) else {
            return Extracted::nothing();
        };
        let token = value.to_str().ok().and_then(|text| {
            // The scheme's name is case-insensitive (RFC 9110, section 11.1).
            let (scheme, token) = text.split_at_checked(SCHEME.len())?;
            scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
        });
        match (token, other) {
            (Some(token), None) => Extracted::nothing().with(token.as_bytes(), TokenSource::Header),
            _ => Extracted::unreadable(TokenSource::Header),
        }
    }

    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        let text = match directive {
            Directive::Set { text, .. } => text,
            Directive::Clear => "",
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| Error::config("the token has characters that a header can't have"))?;
        value.set_sensitive(true);
        headers.insert(SESSION_TOKEN, value);
        Ok(())
    }

    /// Caches must not use the response to one token for another token.
    fn varies_by(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }

    /// Another site's page can't make a browser send this header, so requests need no cross-site check.
    fn is_ambient(&self) -> bool {
        false
    }
}

/// Counts a client's requests.
async fn count(manager: &Manager, request: &Request<()>) -> Result<Response<String>, Error> {
    let handle = manager.start(request);
    let session = handle.load().await?;
    let count = session.update("requests", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    let mut response = Response::new(format!("request {count}"));
    handle.finish(&mut response).await?;
    Ok(response)
}

async fn run(provider: &str, source: &str) -> Result<(), Error> {
    session_memory::init();
    session_cookie::init();
    let manager = Manager::builder()
        .with_provider(session_core::provider::open(provider, source)?)
        .with_transport(BearerTransport)
        .build()?;
    let mut token: Option<String> = None;
    for wanted in ["request 1", "request 2", "request 3"] {
        let mut request = Request::new(());
        if let Some(token) = &token {
            let credentials = [SCHEME, token].concat().parse().expect("a token is plain text");
            request.headers_mut().insert(AUTHORIZATION, credentials);
        }
        let response = count(&manager, &request).await?;
        // A sealed session gets a new token with each change; an id stays the same.
        if let Some(issued) = response.headers().get(SESSION_TOKEN) {
            token = Some(issued.to_str().expect("a token is plain text").to_owned());
        }
        println!("{provider}: {}", response.body());
        assert_eq!(response.body(), wanted);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    run("memory", "").await?;
    run("signed+memory", "ephemeral=true").await?;
    run("cookie", "ephemeral=true").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bearer_token_carries_any_providers_sessions() {
        run("memory", "").await.unwrap();
        run("signed+memory", "ephemeral=true").await.unwrap();
        run("cookie", "ephemeral=true").await.unwrap();
    }

    #[test]
    fn only_one_bearer_token_is_one() {
        let found = |values: &[&str]| {
            let mut request = Request::new(());
            for value in values {
                request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
            }
            let found = BearerTransport.extract((&request).into());
            let text = found.texts().first().map(|text| String::from_utf8_lossy(text).into_owned());
            found.source().map(|_| text.unwrap_or("malformed".into()))
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(found(&["bearer abc"]).as_deref(), Some("abc"));
        for other in [&["Basic abc"][..], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert_eq!(found(other).as_deref(), Some("malformed"), "{other:?}");
        }
    }
}

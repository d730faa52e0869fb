//! A small HTTP client that sends exactly the given bytes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::demo::PATIENCE;

/// The default name of the demo's cookie.
pub(crate) const COOKIE: &str = "__Host-id";

/// A visitor, with a jar for one cookie.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    /// The value of the `Cookie` header.
    pub(crate) cookie: Option<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, cookie: None }
    }

    /// Returns the same visitor with this id in the cookie.
    pub(crate) fn with_id(&self, id: &str) -> Self {
        Self { cookie: Some(format!("{COOKIE}={id}")), ..self.clone() }
    }

    /// Returns the id in the jar.
    pub(crate) fn id(&self) -> String {
        let cookie = self.cookie.as_deref().expect("the jar has a cookie");
        cookie.strip_prefix(COOKIE).and_then(|rest| rest.strip_prefix('=')).expect("ours").into()
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, "")
    }

    pub(crate) fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", target, body)
    }

    pub(crate) fn put(&mut self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("PUT", target, body)
    }

    /// Sends a request with the jar's cookie, and keeps the response's cookie.
    pub(crate) fn send(&mut self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let answer = self.send_with(method, target, cookie.unwrap_or_default(), body);
        self.keep(&answer);
        answer
    }

    /// Keeps a response's cookie in the jar.
    pub(crate) fn keep(&mut self, answer: &Answer) {
        for set in answer.all("set-cookie") {
            let (pair, _) = set.split_once(';').expect("has attributes");
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
    }

    /// Sends a request with these header lines, each ended by CR LF, and without the jar's cookie.
    pub(crate) fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let (headers, body) = (headers.as_ref(), body.as_ref());
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        request.extend([headers, b"\r\n", body].concat());
        self.exchange(&request)
    }

    /// Sends these bytes, and reads the response.
    pub(crate) fn exchange(&self, request: &[u8]) -> Answer {
        Answer::parse(&self.try_exchange(request).expect("a whole answer"))
    }

    /// Sends these bytes, and reads the response if there is one: up to the announced length, or until
    /// the server closes the connection.
    pub(crate) fn try_exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // A server that refuses a request by its head may close the connection before it has read the
        // whole request. Its response is read nonetheless.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let mut chunk = [0; 16 * 1024];
        while !is_whole(&answer, request.starts_with(b"HEAD ")) {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => answer.extend(&chunk[..count]),
                // The process was stopped by a signal and continues.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }
}

/// Returns whether a response is complete.
fn is_whole(answer: &[u8], without_body: bool) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let announced = if without_body { Some(0) } else { announced };
    announced.is_some_and(|announced: usize| answer.len() >= head.len() + 4 + announced)
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            status: status.parse().expect("a number"),
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    /// Returns all values of a header.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns the only value of a header, if there is one.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        let mut values = self.all(name);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }

    /// Returns the body, which must be one line of text, without the line's end.
    pub(crate) fn line(&self) -> &str {
        let line = self.body.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n'), "{}", self.body);
        line
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Checks the status, and returns the response.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Checks that the response sets no cookie.
    #[track_caller]
    pub(crate) fn no_cookie(self) -> Self {
        assert_eq!(self.header("set-cookie"), None, "{self:?}");
        self
    }
}

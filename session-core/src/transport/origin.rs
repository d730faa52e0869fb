//! [`Origin`]: a scheme, a host and a port (RFC 6454, section 4).

/// The origin of a web site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses an origin in ASCII, such as `https://example.com` or `http://localhost:8080`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "https" && scheme != "http" {
            return None;
        }
        let (host, port) = split_port(authority)?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')?
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
            None => !host.is_empty() && host.bytes().all(is_name),
        };
        let port = port_of(&scheme, port)?;
        is_host.then(|| Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// Returns whether this is the origin of an absolute URL with this scheme and authority. It is not if the
    /// authority has a user, or if the host is equal only after decoding.
    pub(crate) fn is(&self, scheme: &str, authority: &str) -> bool {
        scheme.eq_ignore_ascii_case(&self.scheme) && self.is_at(authority)
    }

    /// Returns whether an authority has this host and port. The default port is that of the origin's scheme.
    pub(crate) fn is_at(&self, authority: &str) -> bool {
        let Some((host, port)) = split_port(authority) else { return false };
        host.eq_ignore_ascii_case(&self.host) && port_of(&self.scheme, port) == Some(self.port)
    }
}

/// Splits an authority into host and port, at the first colon outside brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    match rest {
        "" => Some((host, None)),
        _ => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

fn port_of(scheme: &str, port: Option<&str>) -> Option<u16> {
    match port {
        None | Some("") => Some(if scheme == "https" { 443 } else { 80 }),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        Some(_) => None,
    }
}

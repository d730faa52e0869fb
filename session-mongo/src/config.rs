//! What the source string says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mongodb::error::ErrorKind;
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, ReadPreference};
use session_core::{Error, Source};

type Adjust = Arc<dyn Fn(&mut ClientOptions) + Send + Sync>;

/// Which server and collection, and how.
#[derive(Clone)]
#[non_exhaustive]
pub struct MongoConfig {
    /// The collection. Defaults to `sessions`.
    pub collection: String,
    /// Whether the server is to delete what has expired, through a TTL index. Defaults to `true`;
    /// otherwise the manager's timer thread does it.
    pub ensure_ttl: bool,
    /// How long after its expiry the server deletes a document, so that a database whose clock is
    /// ahead takes no live session. In whole seconds. Defaults to 10 minutes.
    pub ttl_margin: Duration,
    /// How long an operation may take, everything included. Defaults to 3 seconds.
    pub operation_timeout: Duration,
    /// It may hold a password.
    pub(crate) uri: ConnectionString,
    pub(crate) adjust: Option<Adjust>,
}

impl MongoConfig {
    /// The database if the URI names none.
    pub(crate) const DATABASE: &str = "sessions";

    /// Reads a source string: a `mongodb://` or `mongodb+srv://` URI, with the provider's own
    /// options among the driver's.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong, and shows no user name and no password.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let (uri, query) = source.split_once('?').unwrap_or((source, ""));
        let mut options = Source::parse(query)?;
        let collection = options.take("collection")?.unwrap_or_else(|| "sessions".into());
        check_collection(&collection)?;
        let ensure_ttl = options.take_parsed("ensure_ttl", "true or false")?.unwrap_or(true);
        let ttl_margin = take_duration(&mut options, "ttl_margin")?;
        let ttl_margin = ttl_margin.unwrap_or(Duration::from_secs(600));
        if ttl_margin.as_secs() > i32::MAX as u64 {
            return Err(Error::config("ttl_margin must be at most 2147483647s"));
        }
        let operation_timeout = take_duration(&mut options, "operation_timeout")?;
        let operation_timeout = operation_timeout.unwrap_or(Duration::from_secs(3));
        if operation_timeout < Duration::from_millis(1)
            || operation_timeout > Duration::from_secs(3600)
        {
            return Err(Error::config("operation_timeout must be 1ms to 1h"));
        }
        let rest = options.rest();
        let uri = if rest.is_empty() { uri.to_owned() } else { format!("{uri}?{rest}") };
        let uri = parse_uri(&uri)?;
        check_safety(&uri)?;
        Ok(Self { collection, ensure_ttl, ttl_margin, operation_timeout, uri, adjust: None })
    }

    /// Lets a program adjust what the URI can't say: event handlers, TLS, the pool. Called each
    /// time that a client is made. Safety stays: writes go to a majority, reads to the primary.
    #[must_use]
    pub fn with_driver_options(
        mut self,
        adjust: impl Fn(&mut ClientOptions) + Send + Sync + 'static,
    ) -> Self {
        self.adjust = Some(Arc::new(adjust));
        self
    }
}

impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoConfig")
            .field("collection", &self.collection)
            .field("ensure_ttl", &self.ensure_ttl)
            .field("ttl_margin", &self.ttl_margin)
            .field("operation_timeout", &self.operation_timeout)
            .finish_non_exhaustive()
    }
}

fn take_duration(options: &mut Source, name: &str) -> Result<Option<Duration>, Error> {
    let text = options.take(name)?;
    text.map(|text| {
        humantime::parse_duration(&text)
            .map_err(|_| Error::config(format_args!("{name} must be a duration such as 10m or 3s")))
    })
    .transpose()
}

/// MongoDB's rules for names, which a server would tell at the first operation only.
fn check_collection(name: &str) -> Result<(), Error> {
    let wrong = if name.is_empty() {
        "must not be empty"
    } else if name.contains(['$', '\0']) {
        "must not contain `$` or NUL"
    } else if name.starts_with("system.") {
        "must not begin with `system.`"
    } else if name.starts_with('.') || name.ends_with('.') {
        "must not begin or end with a dot"
    } else if name.len() > 120 {
        "must be at most 120 bytes"
    } else {
        return Ok(());
    };
    Err(Error::config(format_args!("collection {wrong}")))
}

/// Parses the URI without ever repeating a secret: the driver's messages quote what it can't read,
/// and in a URI whose password is not encoded that may be any part of it.
fn parse_uri(uri: &str) -> Result<ConnectionString, Error> {
    let Err(error) = ConnectionString::parse(uri) else {
        return ConnectionString::parse(uri).map_err(|_| Error::config("the MongoDB URI is wrong"));
    };
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| Error::config("the source must be a mongodb:// or mongodb+srv:// URI"))?;
    if !matches!(scheme, "mongodb" | "mongodb+srv") {
        return Err(Error::config("the source must be a mongodb:// or mongodb+srv:// URI"));
    }
    let lower = uri.to_ascii_lowercase();
    if lower.contains("password") || lower.contains("authmechanismproperties") {
        return Err(Error::config("the MongoDB URI is wrong (not shown: it holds a secret)"));
    }
    let message = match rest.rsplit_once('@') {
        None => message(&error),
        // Again, without the part that may be secret.
        Some((_, rest)) => match ConnectionString::parse(format!("{scheme}://{rest}")) {
            Err(error) => message(&error),
            Ok(_) => "user name and password must both be percent-encoded".to_owned(),
        },
    };
    Err(Error::config(format_args!("the MongoDB URI is wrong: {message}")))
}

fn message(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        _ => "it can't be read".to_owned(),
    }
}

/// Refuses what would break the provider's promises.
fn check_safety(uri: &ConnectionString) -> Result<(), Error> {
    if let Some(concern) = &uri.write_concern {
        if concern.w.as_ref().is_some_and(|w| *w != Acknowledgment::Majority) {
            return Err(Error::config(
                "w must be majority: an acknowledged write must not be lost",
            ));
        }
        if concern.journal == Some(false) {
            return Err(Error::config(
                "journal must be true: an acknowledged write must not be lost",
            ));
        }
    }
    if uri.read_preference.as_ref().is_some_and(|preference| *preference != ReadPreference::Primary)
    {
        return Err(Error::config(
            "readPreference must be primary: elsewhere a session that ended may live on",
        ));
    }
    #[expect(deprecated, reason = "the driver refuses it, but only when it connects")]
    if uri.socket_timeout.is_some() {
        return Err(Error::config("socketTimeoutMS is not supported; use operation_timeout"));
    }
    Ok(())
}

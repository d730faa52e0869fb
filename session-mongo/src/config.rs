//! The provider's configuration, and its source string.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mongodb::error::ErrorKind;
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, ReadPreference};
use session_core::Error;
use session_core::provider::Source;

type Adjust = Arc<dyn Fn(&mut ClientOptions) + Send + Sync>;

/// The server, the collection, and how the provider uses them.
#[derive(Clone)]
#[non_exhaustive]
pub struct MongoConfig {
    /// The name of the collection. Defaults to `sessions`.
    pub collection: String,
    /// Whether the server deletes expired sessions, through a TTL index. Otherwise the manager's timer
    /// thread does. Defaults to `true`.
    pub ensure_ttl: bool,
    /// How long after its expiry the server deletes a document, so that a server whose clock is ahead
    /// deletes no live session. In whole seconds. Defaults to 10 minutes.
    pub ttl_margin: Duration,
    /// The time limit of an operation, including the wait for a server and a connection, and all
    /// retries. Defaults to 3 seconds.
    pub operation_timeout: Duration,
    /// The URI may hold a password.
    pub(crate) uri: ConnectionString,
    pub(crate) adjust: Option<Adjust>,
}

impl MongoConfig {
    /// The database that is used if the URI names none.
    pub(crate) const DATABASE: &str = "sessions";

    /// Parses a source string: a `mongodb://` or `mongodb+srv://` URI, whose query has the provider's
    /// options among the driver's.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong. It shows no user name and no password.
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

    /// Lets a program set driver options that a URI can't express: event handlers, TLS, the pool.
    /// `adjust` is called each time that a client is made. The provider's write concern (majority) and
    /// read preference (primary) can't be changed.
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

/// Checks MongoDB's rules for collection names, which a server would enforce only at the first
/// operation.
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

/// Parses the URI without repeating a secret in errors. The driver's messages quote what it can't parse,
/// and if a password is not percent-encoded, that may be any part of it.
fn parse_uri(uri: &str) -> Result<ConnectionString, Error> {
    if let Ok(parsed) = ConnectionString::parse(uri) {
        return Ok(parsed);
    }
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    let Some(scheme @ ("mongodb" | "mongodb+srv")) = scheme else {
        return Err(Error::config("the source must be a mongodb:// or mongodb+srv:// URI"));
    };
    // Only the options are parsed again. Without an `@` in them, they can't be part of a password.
    let options = uri.split_once('?').map_or("", |(_, options)| options);
    let lower = options.to_ascii_lowercase();
    let secret = ["@", "%40", "password", "authmechanismproperties"];
    let message = if secret.iter().any(|word| lower.contains(word)) {
        "the reason is not shown, because it may quote a secret"
    } else if let Err(error) = ConnectionString::parse(format!("{scheme}://localhost/?{options}")) {
        &message(&error)
    } else {
        "check the hosts, the database, and that user name and password are percent-encoded"
    };
    Err(Error::config(format_args!("wrong MongoDB URI: {message}")))
}

fn message(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        _ => "it can't be parsed".to_owned(),
    }
}

/// Refuses options that would break the provider's guarantees.
fn check_safety(uri: &ConnectionString) -> Result<(), Error> {
    if let Some(concern) = &uri.write_concern {
        if concern.w.as_ref().is_some_and(|w| *w != Acknowledgment::Majority) {
            return Err(Error::config(
                "w must be majority: otherwise acknowledged writes may be lost",
            ));
        }
        if concern.journal == Some(false) {
            return Err(Error::config(
                "journal must be true: otherwise acknowledged writes may be lost",
            ));
        }
    }
    if uri.read_preference.as_ref().is_some_and(|preference| *preference != ReadPreference::Primary)
    {
        return Err(Error::config(
            "readPreference must be primary: a secondary may still have sessions that ended",
        ));
    }
    #[expect(deprecated, reason = "the driver refuses it, but only when it connects")]
    if uri.socket_timeout.is_some() {
        return Err(Error::config("socketTimeoutMS is not supported; use operation_timeout"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str) -> String {
        match MongoConfig::parse(source) {
            Err(Error::Config(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_the_provider_and_of_the_driver_stand_together() {
        let config = MongoConfig::parse("mongodb://h").unwrap();
        assert_eq!((config.collection.as_str(), config.ensure_ttl), ("sessions", true));
        assert_eq!(config.ttl_margin, Duration::from_secs(600));
        assert_eq!(config.operation_timeout, Duration::from_secs(3));

        let config = MongoConfig::parse(
            "mongodb://u:p%40ss@h:1,i:2/shop?collection=s&maxPoolSize=7&ensure_ttl=false\
             &ttl_margin=1h&authSource=admin&operation_timeout=500ms&replicaSet=rs0&w=majority",
        )
        .unwrap();
        assert_eq!((config.collection.as_str(), config.ensure_ttl), ("s", false));
        assert_eq!(config.ttl_margin, Duration::from_secs(3600));
        assert_eq!(config.operation_timeout, Duration::from_millis(500));
        assert_eq!(config.uri.max_pool_size, Some(7));
        assert_eq!(config.uri.default_database.as_deref(), Some("shop"));
        let credential = config.uri.credential.unwrap();
        assert_eq!(credential.password.as_deref(), Some("p@ss"));
        assert_eq!(credential.source.as_deref(), Some("admin"));
        MongoConfig::parse("mongodb+srv://cluster.example.com/shop").unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (source, part) in [
            ("", "mongodb://"),
            ("localhost", "mongodb://"),
            ("http://h/", "mongodb://"),
            ("mongodb://", "wrong"),
            ("mongodb://h:99999", "wrong"),
            ("mongodb://h/?colection=x", "colection"),
            ("mongodb://h/?maxPoolSise=1", "maxpoolsize"),
            ("mongodb://h/?maxPoolSize=-1", "maxpoolsize"),
            ("mongodb://h/?ensure_ttl=maybe", "ensure_ttl"),
            ("mongodb://h/?ensure_ttl=true&ensure_ttl=true", "ensure_ttl"),
            ("mongodb://h/?ttl_margin=soon", "ttl_margin"),
            ("mongodb://h/?ttl_margin=-1s", "ttl_margin"),
            ("mongodb://h/?ttl_margin=100years", "ttl_margin"),
            ("mongodb://h/?operation_timeout=0s", "operation_timeout"),
            ("mongodb://h/?operation_timeout=2days", "operation_timeout"),
            ("mongodb://h/?collection=", "collection"),
            ("mongodb://h/?collection=a%24b", "collection"),
            ("mongodb://h/?collection=system.x", "collection"),
            ("mongodb://h/?x", "="),
            ("mongodb://h/?w=1", "majority"),
            ("mongodb://h/?w=0", "majority"),
            ("mongodb://h/?journal=false", "journal"),
            ("mongodb://h/?readPreference=secondary", "primary"),
            ("mongodb://h/?socketTimeoutMS=1", "socketTimeoutMS"),
            ("mongodb+srv://a,b/", "wrong"),
        ] {
            let message = error(source);
            assert!(message.contains(part), "{source:?}: {message}");
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        for source in [
            "mongodb://ada:hunter2@",
            "mongodb://ada:hunter2@/",
            "mongodb://ada:hunter2@h:port/",
            "mongodb://ada:hun/ter2@h/",
            "mongodb://ada:hun@ter2@h/",
            "mongodb://ada:hun?ter2@h/",
            "mongodb://ada:hun:ter2@h/",
            "mongodb://ada:hun%zzter2@h/",
            "mongodb://ada:hunter2@h/?unknown=1",
            "mongodb://ada:hunter2@h/?w=1",
            "mongodb://ada:hunter2@h/?hunter2",
            "mongodb://ada:hunter2@h/?ttl_margin=hunter2",
            "mongodb://h/?tlsCertificateKeyFilePassword=hunter2",
            "mongodb://h/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:hunter2;",
            "mongodb://ada:hunter2",
            "ada:hunter2@h",
        ] {
            let Err(error) = MongoConfig::parse(source) else {
                panic!("{source} is right");
            };
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{source}: {shown}");
            assert!(!shown.contains("hun"), "{source}: {shown}");
        }
        let config = MongoConfig::parse("mongodb://ada:hunter2@h/").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("ada"), "{shown}");
    }
}

//! The configuration, and how the source string is parsed.

use std::fmt;
use std::time::Duration;

use session_core::Error;
use session_core::provider::Source;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::TableName;
use crate::time::{check_timeout, take_timeout};

/// The server and table of a provider, and how it uses them.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// The table. Defaults to `sessions`.
    pub table: TableName,
    /// The most connections that are open at the same time: 1 to 10,000. Defaults to 10.
    pub max_connections: usize,
    /// The time limit of an operation, including the wait for a connection and all retries: 1 ms to 1 hour. Defaults
    /// to 3 seconds.
    pub operation_timeout: Duration,
    /// Whether connections lead to a pooler that gives each transaction another of the server's connections, such as
    /// PgBouncer in transaction mode. Defaults to `false`.
    pub pooler: bool,
    /// The options for each host. They may contain a password.
    pub(crate) hosts: Vec<PgConnectOptions>,
}

impl PostgresConfig {
    /// Reads a source string: a `postgres://` or `postgresql://` URI, with the provider's own options among
    /// the driver's.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong, and shows no user name and no password.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let (uri, query) = source.split_once('?').unwrap_or((source, ""));
        let mut options = Source::parse(query)?;
        let mut config = Self::of_table(TableName::default());
        if let Some(table) = options.take("table")? {
            config.table = table.parse()?;
        }
        if let Some(most) = options.take_parsed("max_connections", "a number, 1 to 10000")? {
            config.max_connections = most;
        }
        config.operation_timeout = take_timeout(&mut options)?;
        config.pooler = options.take_parsed("pooler", "true or false")?.unwrap_or(false);
        config.hosts = parse_hosts(uri)?;
        let adjust = take_driver_options(&mut options)?;
        config.hosts = config
            .hosts
            .into_iter()
            .map(|host| adjust.iter().fold(host, |host, f| f(host)))
            .collect();
        options.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Checks what a program may have set.
    ///
    /// # Errors
    /// [`Error::Config`] if a number is out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_timeout(self.operation_timeout)?;
        match self.max_connections {
            1..=10_000 => Ok(()),
            _ => Err(Error::config("max_connections must be a number, 1 to 10000")),
        }
    }

    /// Returns the defaults with this table. The configuration names no server; it is meant for
    /// [`PostgresProvider::with_pool`](super::PostgresProvider::with_pool).
    pub fn of_table(table: TableName) -> Self {
        Self {
            table,
            max_connections: 10,
            operation_timeout: Duration::from_secs(3),
            pooler: false,
            hosts: Vec::new(),
        }
    }

    /// Sets `operation_timeout`.
    #[must_use]
    pub fn with_operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// Sets `pooler`.
    #[must_use]
    pub fn with_pooler(mut self, pooler: bool) -> Self {
        self.pooler = pooler;
        self
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("table", &self.table)
            .field("max_connections", &self.max_connections)
            .field("operation_timeout", &self.operation_timeout)
            .field("pooler", &self.pooler)
            .finish_non_exhaustive()
    }
}

/// Parses the URI into the options of each host. Errors quote nothing of it, because any part of a URI whose password
/// is not encoded may belong to the password.
fn parse_hosts(uri: &str) -> Result<Vec<PgConnectOptions>, Error> {
    let Some((scheme @ ("postgres" | "postgresql"), rest)) = uri.split_once("://") else {
        return Err(Error::config("the source must be a postgres:// URI"));
    };
    let wrong = || {
        Error::config(
            "the PostgreSQL URI is wrong: the host, the port or the database; or user name and password, which \
             must be percent-encoded",
        )
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains(['@', '/', '#']) || authority.contains('#') {
        return Err(wrong());
    }
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    if user.matches('@').count() > 1 {
        return Err(wrong());
    }
    let parse = |host: &str| {
        let uri = format!("{scheme}://{user}{host}/{database}");
        let options: PgConnectOptions = uri.parse().map_err(|_| wrong())?;
        // By default, the driver sends this setting with each connection, and poolers refuse settings that they don't
        // know.
        let options = options.extra_float_digits(None).disable_statement_logging();
        Ok(match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("session-sql"),
        })
    };
    hosts.split(',').map(parse).collect()
}

type Adjust = Box<dyn Fn(PgConnectOptions) -> PgConnectOptions>;

/// Takes the driver's options. They are not left to the driver, which logs unknown ones with their values.
fn take_driver_options(options: &mut Source) -> Result<Vec<Adjust>, Error> {
    let mut adjust: Vec<Adjust> = Vec::new();
    let mode = "disable, allow, prefer, require, verify-ca or verify-full";
    if let Some(mode) = options.take_parsed::<PgSslMode>("sslmode", mode)? {
        adjust.push(Box::new(move |host| host.ssl_mode(mode)));
    }
    if let Some(path) = options.take("sslrootcert")? {
        adjust.push(Box::new(move |host| host.ssl_root_cert(&path)));
    }
    if let Some(path) = options.take("sslcert")? {
        adjust.push(Box::new(move |host| host.ssl_client_cert(&path)));
    }
    if let Some(path) = options.take("sslkey")? {
        adjust.push(Box::new(move |host| host.ssl_client_key(&path)));
    }
    if let Some(folder) = options.take("host")? {
        if !folder.starts_with('/') {
            return Err(Error::config(
                "host must be the folder of the server's socket; write the names of hosts before the `/` of the URI",
            ));
        }
        adjust.push(Box::new(move |host| host.socket(&folder)));
    }
    if let Some(name) = options.take("application_name")? {
        adjust.push(Box::new(move |host| host.application_name(&name)));
    }
    for setting in options.take_all("set") {
        let (name, value) = setting
            .split_once(':')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .ok_or_else(|| {
                Error::config("set must be a setting of the server and its value: set=name:value")
            })?;
        adjust.push(Box::new(move |host| host.options([(&name, &value)])));
    }
    Ok(adjust)
}

#[cfg(test)]
mod tests {
    use super::super::PostgresProvider;
    use super::*;

    fn error(source: &str) -> String {
        match PostgresConfig::parse(source) {
            Err(Error::Config(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_the_provider_and_of_the_driver_stand_together() {
        let config = PostgresConfig::parse("postgres://h").unwrap();
        assert_eq!(config.table, TableName::default());
        assert_eq!((config.max_connections, config.pooler), (10, false));
        assert_eq!(config.operation_timeout, Duration::from_secs(3));
        assert_eq!(config.hosts[0].get_application_name(), Some("session-sql"));

        let config = PostgresConfig::parse(
            "postgresql://ada:p%40ss@one:1,[::1]:2,three/shop?table=app.s&max_connections=7&sslmode=verify-full\
             &operation_timeout=500ms&pooler=true&application_name=shop&set=synchronous_commit:off",
        )
        .unwrap();
        assert_eq!(config.table, "app.s".parse().unwrap());
        assert_eq!((config.max_connections, config.pooler), (7, true));
        assert_eq!(config.operation_timeout, Duration::from_millis(500));
        let hosts: Vec<_> =
            config.hosts.iter().map(|host| (host.get_host(), host.get_port())).collect();
        assert_eq!(hosts[..2], [("one", 1), ("[::1]", 2)]);
        assert_eq!(hosts[2].0, "three");
        for host in &config.hosts {
            assert_eq!((host.get_username(), host.get_database()), ("ada", Some("shop")));
            assert!(matches!(host.get_ssl_mode(), PgSslMode::VerifyFull));
            assert_eq!(host.get_options(), Some("-c synchronous_commit=off"));
            assert_eq!(host.get_application_name(), Some("shop"));
        }
        let config = PostgresConfig::parse("postgres:///shop?host=/run/postgresql").unwrap();
        assert_eq!(config.hosts[0].get_socket().unwrap().as_os_str(), "/run/postgresql");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (source, part) in [
            ("", "postgres://"),
            ("localhost", "postgres://"),
            ("mysql://h/", "postgres://"),
            ("postgres://h:99999", "wrong"),
            ("postgres://h:x/", "wrong"),
            ("postgres://h/a/b", "wrong"),
            ("postgres://h/?tabel=x", "tabel"),
            ("postgres://h/?table=", "table"),
            ("postgres://h/?table=a%22b", "table"),
            ("postgres://h/?table=a;drop", "table"),
            ("postgres://h/?max_connections=0", "max_connections"),
            ("postgres://h/?max_connections=-1", "max_connections"),
            ("postgres://h/?max_connections=1&max_connections=1", "max_connections"),
            ("postgres://h/?operation_timeout=0s", "operation_timeout"),
            ("postgres://h/?operation_timeout=2days", "operation_timeout"),
            ("postgres://h/?operation_timeout=soon", "operation_timeout"),
            ("postgres://h/?pooler=maybe", "pooler"),
            ("postgres://h/?sslmode=maybe", "sslmode"),
            ("postgres://h/?host=other", "host"),
            ("postgres://h/?set=work_mem", "set"),
            ("postgres://h/?x", "="),
        ] {
            let message = error(source);
            assert!(message.contains(part), "{source:?}: {message}");
        }
    }

    #[test]
    fn what_a_program_sets_is_checked() {
        let config = PostgresConfig::parse("postgres://h").unwrap();
        for most in [0, 10_001, usize::MAX] {
            let config = PostgresConfig { max_connections: most, ..config.clone() };
            let made = PostgresProvider::new(config);
            assert!(matches!(made, Err(Error::Config(_))), "{most}: {made:?}");
        }
        for limit in [Duration::ZERO, Duration::from_secs(3601), Duration::MAX] {
            let made = PostgresProvider::new(config.clone().with_operation_timeout(limit));
            assert!(matches!(made, Err(Error::Config(_))), "{limit:?}: {made:?}");
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        for source in [
            "postgres://ada:hunter2@h:port/",
            "postgres://ada:hun/ter2@h/",
            "postgres://ada:hun@ter2@h/",
            "postgres://ada:hun?ter2@h/",
            "postgres://ada:hun#ter2@h/",
            "postgres://ada:hunter2@h/?unknown=1",
            "postgres://ada:hunter2@h/?hunter2",
            "postgres://ada:hunter2@h/?password=hunter2",
            "postgres://ada:hunter2@h/?operation_timeout=hunter2",
            "postgres://ada:hunter2@h/?set=hunter2",
            "ada:hunter2@h",
        ] {
            let Err(error) = PostgresConfig::parse(source) else {
                panic!("{source} is right");
            };
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hun") && !shown.contains("ter2"), "{source}: {shown}");
        }
        let config = PostgresConfig::parse("postgres://ada:hunter2@h/").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("ada"), "{shown}");
    }
}

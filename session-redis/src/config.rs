//! The configuration, and how the source string is parsed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};
use session_core::Error;
use session_core::provider::Source;

/// The servers of a provider, and how it uses them. Made by [`parse`](Self::parse).
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// What the names of all keys begin with: at most 120 bytes, without braces and without `owner:`. Defaults to
    /// `session:`.
    pub prefix: String,
    /// The time limit of an operation, including connecting, waiting and all retries: 1 ms to 1 h. Defaults to
    /// 2 seconds.
    pub operation_timeout: Duration,
    /// How long after its expiry the server deletes a session: if clocks differ by less, no live session is
    /// deleted. At most 365 days. Defaults to 10 minutes.
    pub ttl_margin: Duration,
    /// How many replicas must have a write before it is acknowledged. Defaults to none.
    pub wait: u32,
    /// How many connections to each server share the operations: 1 to 1,000. Defaults to one, and to eight
    /// where writes wait for replicas.
    pub connections: usize,
    pub(crate) mode: Mode,
    /// The servers that the URI names: Sentinels, if there are some.
    pub(crate) hosts: Vec<ConnectionInfo>,
    pub(crate) tls: Option<TlsCertificates>,
}

/// Which server has a session.
#[derive(Clone)]
pub(crate) enum Mode {
    /// The only one.
    Single,
    /// The primary of this service, whose address the Sentinels tell. The user and password are for the Sentinels.
    Sentinel { service: String, user: Option<String>, password: Option<String> },
    /// The one that has the key's slot.
    Cluster,
}

/// The longest TTL that is sent to a server, 300 years. A much longer one would overflow when the server adds
/// its clock.
pub(crate) const LONGEST_TTL: Duration = Duration::from_secs(300 * 31_556_952);

/// Stands between the prefix and the owner in the name of an owner's list. No prefix contains it, so the name of
/// a list is never the name of a session's key, whatever the owner and other prefixes are.
pub(crate) const OWNER: &str = "owner:";

/// How long a connection is idle before TCP keepalive probes it. Firewalls and load balancers drop idle connections,
/// some after four minutes, and what is sent on such a connection is never answered.
const KEEPALIVE: Duration = Duration::from_secs(60);

const SCHEMES: &str = "redis://, rediss:// or redis+unix://";

impl RedisConfig {
    /// Reads a source string: a `redis://`, `rediss://` or `redis+unix://` URI with the provider's own
    /// options.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong, and shows no user name and no password.
    pub fn parse(source: &str) -> Result<Self, Error> {
        if source.contains('#') {
            return Err(Error::config(
                "the Redis URI must have no `#`: in a password it is written as %23, and `#insecure` would give \
                 the sessions to whoever answers",
            ));
        }
        let (uri, query) = source.split_once('?').unwrap_or((source, ""));
        let (scheme, rest) = uri.split_once("://").unwrap_or_default();
        let (is_tls, is_unix) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+unix" | "valkey+unix" => (false, true),
            _ => return Err(Error::config(format_args!("the source must be a {SCHEMES} URI"))),
        };
        let mut options = Source::parse(query)?;
        let prefix = options.take("prefix")?.unwrap_or_else(|| "session:".into());
        let operation_timeout = take_duration(&mut options, "operation_timeout")?;
        let ttl_margin = take_duration(&mut options, "ttl_margin")?;
        let wait: u32 = options.take_parsed("wait", "a number of replicas")?.unwrap_or(0);
        let connections = options.take_parsed("connections", "a number from 1 to 1000")?;
        let connections = connections.unwrap_or(if wait > 0 { 8 } else { 1 });
        let mode = take_mode(&mut options)?;
        let tls = take_tls(&mut options, is_tls)?;
        let hosts = if is_unix {
            // The client parses the path and these three options.
            let mut client = Vec::new();
            for name in ["db", "user", "pass"] {
                let value = options.take(name)?;
                client.extend(value.map(|value| format!("{name}={}", encoded(&value))));
            }
            vec![connection(&format!("redis+unix://{rest}?{}", client.join("&")), "path or `db`")?]
        } else {
            hosts(is_tls, rest)?
        };
        options.finish()?;
        if !matches!(mode, Mode::Single) && (is_unix || hosts.is_empty()) {
            return Err(Error::config("Sentinels and clusters are named by their hosts"));
        }
        if matches!(mode, Mode::Single) && hosts.len() != 1 {
            return Err(Error::config(
                "the Redis URI names several hosts; say mode=sentinel or mode=cluster",
            ));
        }
        if matches!(mode, Mode::Cluster) && hosts[0].redis_settings().db() != 0 {
            return Err(Error::config("a cluster has no database but 0"));
        }
        let config = Self {
            prefix,
            operation_timeout: operation_timeout.unwrap_or(Duration::from_secs(2)),
            ttl_margin: ttl_margin.unwrap_or(Duration::from_secs(600)),
            wait,
            connections,
            mode,
            hosts,
            tls,
        };
        config.check()?;
        // So that certificates that can't be used are an error now.
        config.client(config.hosts[0].clone())?;
        Ok(config)
    }

    /// Checks what a program may have set since it was parsed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.prefix.contains(['{', '}']) {
            // They would be the hash tag, and decide the slots of all keys.
            return Err(Error::config(
                "prefix must have no braces: keys have a hash tag of their own",
            ));
        }
        if self.prefix.contains(OWNER) {
            return Err(Error::config(format_args!(
                "prefix must not contain `{OWNER}`: a session's key could be that of an owner's list under \
                 another prefix"
            )));
        }
        if self.prefix.len() > 120 {
            return Err(Error::config("prefix must be at most 120 bytes"));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.operation_timeout)
        {
            return Err(Error::config("operation_timeout must be 1ms to 1h"));
        }
        if self.ttl_margin > Duration::from_secs(365 * 24 * 3600) {
            return Err(Error::config("ttl_margin must be 0s to 365days"));
        }
        if !(1..=1000).contains(&self.connections) {
            return Err(Error::config("connections must be 1 to 1000"));
        }
        Ok(())
    }

    /// Makes the client of the server at this address, with the user, password and TLS of the URI.
    pub(crate) fn client_at(&self, host: &str, port: u16) -> Result<Client, Error> {
        let like = &self.hosts[0];
        let address = match like.addr() {
            ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: false,
                tls_params: None,
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        self.client(like.clone().set_addr(address))
    }

    /// Makes the client of a server, which doesn't connect yet.
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, Error> {
        let client = match &self.tls {
            Some(tls) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, tls.clone())
            }
            _ => Client::open(info),
        };
        // The message quotes nothing of the certificates or the URI.
        client.map_err(|_| Error::config("tls_ca, tls_cert or tls_key holds no usable PEM"))
    }

    /// Makes the clients of the Sentinels.
    pub(crate) fn sentinels(&self) -> Result<Vec<Client>, Error> {
        let Mode::Sentinel { user, password, .. } = &self.mode else { return Ok(Vec::new()) };
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let sentinels = self.hosts.iter();
        sentinels
            .map(|host| self.client(host.clone().set_redis_settings(settings.clone())))
            .collect()
    }

    /// The TTL for a session that expires after this time, in milliseconds.
    pub(crate) fn ttl(&self, life: Duration) -> u64 {
        let ttl = life.saturating_add(self.ttl_margin).min(LONGEST_TTL).as_millis();
        u64::try_from(ttl).unwrap_or(u64::MAX).max(1)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("operation_timeout", &self.operation_timeout)
            .field("ttl_margin", &self.ttl_margin)
            .field("wait", &self.wait)
            .field("connections", &self.connections)
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

fn take_duration(options: &mut Source, name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = options.take(name)? else { return Ok(None) };
    let duration = humantime::parse_duration(&text);
    duration
        .map(Some)
        .map_err(|_| Error::config(format_args!("{name} must be a duration such as 10m or 3s")))
}

fn take_mode(options: &mut Source) -> Result<Mode, Error> {
    let mode = options.take("mode")?;
    let mut of_sentinel = |name| options.take(name);
    let service = of_sentinel("service")?;
    let (user, password) = (of_sentinel("sentinel_user")?, of_sentinel("sentinel_password")?);
    let is_sentinel = mode.as_deref() == Some("sentinel");
    if !is_sentinel && (service.is_some() || user.is_some() || password.is_some()) {
        return Err(Error::config(
            "service, sentinel_user and sentinel_password go with mode=sentinel",
        ));
    }
    match mode.as_deref() {
        None | Some("single") => Ok(Mode::Single),
        Some("cluster") => Ok(Mode::Cluster),
        Some("sentinel") => {
            let service = service.unwrap_or_else(|| "mymaster".into());
            Ok(Mode::Sentinel { service, user, password })
        }
        Some(_) => Err(Error::config("mode must be single, sentinel or cluster")),
    }
}

/// Reads the files that hold certificates.
fn take_tls(options: &mut Source, is_tls: bool) -> Result<Option<TlsCertificates>, Error> {
    let mut read = |name: &str| -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = options.take(name)? else { return Ok(None) };
        if !is_tls {
            return Err(Error::config(format_args!("{name} goes with rediss:// only")));
        }
        let bytes = std::fs::read(Path::new(&path));
        bytes
            .map(Some)
            .map_err(|error| Error::config(format_args!("{name} can't be read: {error}")))
    };
    let root_cert = read("tls_ca")?;
    let client_tls = match (read("tls_cert")?, read("tls_key")?) {
        (None, None) => None,
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        _ => return Err(Error::config("tls_cert and tls_key go together")),
    };
    if is_tls && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails if another thread has just installed one, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let is_given = root_cert.is_some() || client_tls.is_some();
    Ok(is_given.then_some(TlsCertificates { client_tls, root_cert }))
}

/// Parses `user:password@host:port,host:port/db`. The client can parse it with one host only.
fn hosts(is_tls: bool, rest: &str) -> Result<Vec<ConnectionInfo>, Error> {
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let scheme = if is_tls { "rediss" } else { "redis" };
    let what = "hosts, the database, or user name and password, which must be percent-encoded";
    let infos = hosts.split(',');
    infos.map(|host| connection(&format!("{scheme}://{user}{host}/{database}"), what)).collect()
}

/// Parses a URI of one host. The client's error is dropped, because it may quote a password.
fn connection(uri: &str, what: &str) -> Result<ConnectionInfo, Error> {
    let wrong = || Error::config(format_args!("the Redis URI is wrong: the {what}"));
    let info = uri.into_connection_info().map_err(|_| wrong())?;
    if info.redis_settings().db() < 0 {
        return Err(wrong());
    }
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // Without it, a user needs one permission less.
    let settings = settings.set_skip_set_lib_name();
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let tcp = info.tcp_settings().clone().set_nodelay(true).set_keepalive(keepalive);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// Percent-encodes everything but letters and digits.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str) -> String {
        match RedisConfig::parse(source) {
            Err(Error::Config(message)) => message,
            other => panic!("{source:?}: {other:?}"),
        }
    }

    #[test]
    fn options_of_the_provider_are_taken_out_of_the_uri() {
        let config = RedisConfig::parse("redis://h").unwrap();
        assert_eq!((config.prefix.as_str(), config.wait, config.connections), ("session:", 0, 1));
        assert_eq!(config.operation_timeout, Duration::from_secs(2));
        assert_eq!(config.ttl_margin, Duration::from_secs(600));
        assert_eq!(config.hosts[0].addr().to_string(), "h:6379");

        let config = RedisConfig::parse(
            "redis://app:p%40s%23s@h:1/3?prefix=shop%3A&wait=2&operation_timeout=500ms&ttl_margin=1h",
        )
        .unwrap();
        assert_eq!((config.prefix.as_str(), config.wait, config.connections), ("shop:", 2, 8));
        assert_eq!(config.operation_timeout, Duration::from_millis(500));
        assert_eq!(config.ttl_margin, Duration::from_secs(3600));
        let settings = config.hosts[0].redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("app"), Some("p@s#s")));
        assert_eq!((settings.db(), settings.protocol()), (3, ProtocolVersion::RESP3));

        let config =
            RedisConfig::parse("redis+unix:///run/redis.sock?db=2&pass=p%26w&wait=1").unwrap();
        assert_eq!(config.hosts[0].addr().to_string(), "/run/redis.sock");
        let settings = config.hosts[0].redis_settings();
        assert_eq!((settings.db(), settings.password()), (2, Some("p&w")));
    }

    #[test]
    fn sentinels_and_clusters_have_several_hosts() {
        let config = RedisConfig::parse(
            "rediss://:pw@a,b:1,[::1]:2/4?mode=sentinel&service=main&sentinel_password=s",
        )
        .unwrap();
        let hosts: Vec<_> = config.hosts.iter().map(|host| host.addr().to_string()).collect();
        assert_eq!(hosts, ["a:6379", "b:1", "::1:2"]);
        assert_eq!(config.sentinels().unwrap().len(), 3);
        let sentinel = config.sentinels().unwrap()[0].get_connection_info().clone();
        assert_eq!(sentinel.redis_settings().password(), Some("s"));
        let primary = config.client_at("c", 5).unwrap().get_connection_info().clone();
        assert_eq!(primary.redis_settings().password(), Some("pw"));
        assert_eq!((primary.redis_settings().db(), primary.addr().to_string()), (4, "c:5".into()));
        assert!(matches!(primary.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let cluster = RedisConfig::parse("redis://a:1,b:2?mode=cluster").unwrap();
        assert!(matches!(cluster.mode, Mode::Cluster));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (source, part) in [
            ("", "redis://"),
            ("localhost", "redis://"),
            ("http://h/", "redis://"),
            ("redis://", "wrong"),
            ("redis://h:99999", "wrong"),
            ("redis://h/x", "wrong"),
            ("redis://h/-1", "wrong"),
            ("redis://0.0.0.0", "wrong"),
            ("redis://h?prefxi=x", "prefxi"),
            ("redis://h?protocol=resp2", "protocol"),
            ("redis://h?db=1", "db"),
            ("redis://h?prefix={a}", "braces"),
            ("redis://h?prefix=a&prefix=b", "prefix"),
            ("redis://h?prefix=session:owner:", "owner"),
            ("redis://h?wait=-1", "wait"),
            ("redis://h?wait=99999999999", "wait"),
            ("redis://h?connections=0", "connections"),
            ("redis://h?connections=many", "connections"),
            ("redis://h?operation_timeout=0s", "operation_timeout"),
            ("redis://h?operation_timeout=2days", "operation_timeout"),
            ("redis://h?operation_timeout=soon", "operation_timeout"),
            ("redis://h?ttl_margin=-1s", "ttl_margin"),
            ("redis://h?ttl_margin=100years", "ttl_margin"),
            ("redis://h?mode=primary", "mode"),
            ("redis://h?service=main", "mode=sentinel"),
            ("redis://a,b", "mode"),
            ("redis://a,,b?mode=cluster", "wrong"),
            ("redis://h/1?mode=cluster", "database"),
            ("redis+unix:///run/s?mode=cluster", "hosts"),
            ("redis+unix:///run/s?db=x", "wrong"),
            ("redis://h?tls_ca=/ca.pem", "rediss"),
            ("rediss://h?tls_ca=/nonexistent/ca.pem", "tls_ca"),
            ("rediss://h#insecure", "insecure"),
            ("redis://h?x", "="),
        ] {
            let message = error(source);
            assert!(message.contains(part), "{source:?}: {message}");
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        for source in [
            "redis://ada:hunter2@",
            "redis://ada:hunter2@h:port/",
            "redis://ada:hun/ter2@h/",
            "redis://ada:hun?ter2@h/",
            "redis://ada:hun#ter2@h/",
            "redis://ada:hun,ter2@h/",
            "redis://ada:hunter2@h/?unknown=1",
            "redis://ada:hunter2@h/?hunter2",
            "redis://ada:hunter2@h/?wait=hunter2",
            "redis://h/?sentinel_password=hunter2",
            "redis+unix:///run/s?pass=hunter2&db=hunter2",
            "rediss://ada:hunter2@h?tls_ca=/nonexistent",
            "ada:hunter2@h",
        ] {
            let shown = match RedisConfig::parse(source) {
                Err(error) => format!("{error} {error:?}"),
                Ok(config) => format!("{config:?}"),
            };
            assert!(!shown.contains("hun") && !shown.contains("ter2"), "{source}: {shown}");
        }
        let config = RedisConfig::parse("redis://ada:hunter2@h/").unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("ada"), "{shown}");
    }

    /// Its fields are public.
    #[test]
    fn what_a_program_sets_is_checked_when_it_is_used() {
        let config = || RedisConfig::parse("redis://h").unwrap();
        for (wrong, part) in [
            (RedisConfig { prefix: "{a}".into(), ..config() }, "braces"),
            (RedisConfig { prefix: "a".repeat(121), ..config() }, "120"),
            (RedisConfig { operation_timeout: Duration::ZERO, ..config() }, "operation_timeout"),
            (RedisConfig { operation_timeout: Duration::MAX, ..config() }, "operation_timeout"),
            (RedisConfig { ttl_margin: Duration::MAX, ..config() }, "ttl_margin"),
            (RedisConfig { connections: 0, ..config() }, "connections"),
            (RedisConfig { connections: usize::MAX, ..config() }, "connections"),
        ] {
            let error = crate::RedisProvider::new(wrong).unwrap_err();
            assert!(
                matches!(&error, Error::Config(message) if message.contains(part)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn idle_connections_are_kept_alive() {
        let config = RedisConfig::parse("redis://h,i?mode=cluster").unwrap();
        let client = config.client_at("j", 1).unwrap();
        assert!(client.get_connection_info().tcp_settings().keepalive().is_some());
    }

    #[test]
    fn no_ttl_overflows() {
        let config = RedisConfig::parse("redis://h?ttl_margin=0s").unwrap();
        assert_eq!(config.ttl(Duration::ZERO), 1);
        assert_eq!(config.ttl(Duration::from_secs(2)), 2_000);
        assert_eq!(config.ttl(Duration::MAX), LONGEST_TTL.as_millis() as u64);
    }
}

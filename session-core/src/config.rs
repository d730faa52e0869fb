//! [`Config`]: every option of a manager, with its default, for configuration files.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cross_site::CrossSiteOptions;
use crate::lifetime::check_duration;
use crate::provider::with_options;
use crate::transport::{CookieOptions, HeaderOptions, TransportKind, UrlOptions};
use crate::{Error, Lifetime, Limits};

/// The provider and the source string of a second store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The provider's registered name.
    pub provider: String,
    /// The provider's source string. Defaults to the empty string. `Debug` does not show it, because it may
    /// contain a password.
    #[serde(default)]
    pub source: String,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// The configuration of a manager, for TOML, JSON, YAML or any other format of serde.
///
/// Durations are written like `"30m"`, `"12h"` or `"1day 6h"`. An unknown key is an error that names the key.
///
/// ```
/// use session_core::{Config, Manager};
///
/// session_memory::init();
/// let config: Config = toml::from_str(
///     r#"
///         provider = "memory"
///         idle     = "15m"
///         absolute = "8h"
///
///         [cookie]
///         same_site = "strict"
///     "#,
/// )?;
/// let manager = Manager::from_config(&config)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The provider's registered name. Defaults to `memory`.
    pub provider: String,
    /// The provider's source string. Defaults to the empty string. `Debug` does not show it, because it may
    /// contain a password.
    pub source: String,
    /// The store of ended sessions, for a provider that keeps sessions at the client. The same as the options
    /// `revocations` and `revocations_source` of the source string. Defaults to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocations: Option<StoreConfig>,
    /// The namespace, which separates this application's ids and owners from those of other applications on
    /// the same store: an id of one namespace is not accepted in another. Must not contain NUL. Defaults to
    /// the empty string. Changing it ends all sessions.
    pub namespace: String,
    /// The transport: how clients send and receive ids. Defaults to `cookie`.
    pub transport: TransportKind,
    /// How long a session lives without use; at least a second. Defaults to 30 minutes.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How long a session lives at most, counted from the login, or from the creation if nobody is logged in;
    /// at least a second. Defaults to 12 hours.
    #[serde(with = "humantime_serde")]
    pub absolute: Duration,
    /// How long the session of a remembered visitor
    /// ([`LoadedSession::remember`](crate::LoadedSession::remember)) lives, used or not, counted from the
    /// login, or from the creation if nobody is logged in. At least a second, and usually longer than
    /// `absolute`. Defaults to 30 days.
    #[serde(with = "humantime_serde")]
    pub remember: Duration,
    /// How often expired sessions are removed from the store, plus or minus a tenth; at least a millisecond,
    /// or zero to start no timer thread. Defaults to 1 minute.
    #[serde(with = "humantime_serde")]
    pub gc_every: Duration,
    /// How long after the last recorded use a request that only reads the session records its use in the
    /// store; at least a millisecond, or zero to record each use. At most a quarter of `idle` applies.
    /// Defaults to a tenth of `idle`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub touch_every: Option<Duration>,
    /// How long after a session got a new id its old id counts as superseded: a request with it sees an empty
    /// session, stores nothing, and gets no cookie, so that the client keeps the new id. Later the old id is
    /// refused like an unknown one. The servers' clocks must agree to well within this time. At least a
    /// second, or zero to treat no id as superseded. Defaults to 10 seconds.
    #[serde(with = "humantime_serde")]
    pub superseded_for: Duration,
    /// How many live sessions an owner may have. After a login, the sessions of the oldest logins beyond this
    /// number are ended; the age of a login is by the clock of the server that handled it. Each login lists
    /// the owner's sessions for this. If that fails, or the process crashes at that moment, the surplus stays
    /// until the owner's next login. A provider that keeps no lists, such as `cookie`, makes this option a
    /// configuration error. Defaults to no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_per_owner: Option<NonZeroU32>,
    /// The cookie of the transports `cookie` and `auto`.
    pub cookie: CookieOptions,
    /// The query argument of the transports `url` and `auto`.
    pub url: UrlOptions,
    /// The header of the transport `header`.
    pub header: HeaderOptions,
    /// Which unsafe requests from other sites are refused. Defaults to all.
    pub cross_site: CrossSiteOptions,
    /// The limits of a session's size.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: "memory".into(),
            source: String::new(),
            revocations: None,
            namespace: String::new(),
            transport: TransportKind::default(),
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(12 * 60 * 60),
            remember: Duration::from_secs(30 * 86_400),
            gc_every: Duration::from_secs(60),
            touch_every: None,
            superseded_for: Duration::from_secs(10),
            sessions_per_owner: None,
            cookie: CookieOptions::default(),
            url: UrlOptions::default(),
            header: HeaderOptions::default(),
            cross_site: CrossSiteOptions::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Returns the configured lifetime of sessions.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { idle: self.idle, absolute: self.absolute }
    }

    /// Checks the durations.
    ///
    /// # Errors
    /// [`Error::Config`] names the duration that is too short.
    pub(crate) fn validate_durations(&self) -> Result<(), Error> {
        self.lifetime().validate()?;
        check_duration("remember", self.remember, "30d")?;
        if !self.superseded_for.is_zero() {
            check_duration("superseded_for", self.superseded_for, "10s")?;
        }
        for (name, every) in [("gc_every", Some(self.gc_every)), ("touch_every", self.touch_every)]
        {
            if every.is_some_and(|every| !every.is_zero() && every < Duration::from_millis(1)) {
                return Err(Error::config(format_args!(
                    "{name} is less than a millisecond; write at least \"1ms\", or \"0s\""
                )));
            }
        }
        Ok(())
    }

    /// Returns the source string with the options of [`revocations`](Self::revocations) added.
    pub(crate) fn whole_source(&self) -> Result<String, Error> {
        match &self.revocations {
            None => Ok(self.source.clone()),
            Some(StoreConfig { provider, source }) => with_options(
                &self.source,
                &[("revocations", provider), ("revocations_source", source)],
            ),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("provider", &self.provider)
            .field("revocations", &self.revocations)
            .field("namespace", &self.namespace)
            .field("transport", &self.transport)
            .field("idle", &self.idle)
            .field("absolute", &self.absolute)
            .field("remember", &self.remember)
            .field("gc_every", &self.gc_every)
            .field("touch_every", &self.touch_every)
            .field("superseded_for", &self.superseded_for)
            .field("sessions_per_owner", &self.sessions_per_owner)
            .field("cookie", &self.cookie)
            .field("url", &self.url)
            .field("header", &self.header)
            .field("cross_site", &self.cross_site)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_humane_and_the_rest_has_defaults() {
        let config: Config = toml::from_str(
            "provider = \"file\"\nidle = \"45m\"\n[cookie]\nname = \"id\"\nsame_site = \"strict\"",
        )
        .unwrap();
        assert_eq!(config.provider, "file");
        assert_eq!(config.idle, Duration::from_secs(45 * 60));
        assert_eq!(config.absolute, Duration::from_secs(12 * 60 * 60));
        assert_eq!(config.cookie.same_site, crate::transport::SameSite::Strict);
        let all = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&all).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for (text, key) in [
            ("idel = \"1m\"", "idel"),
            ("[cookie]\nnames = \"x\"", "names"),
            ("[url]\nargument = \"x\"", "argument"),
            ("[header]\nx = 1", "x"),
            ("[cross_site]\ntrust = 1", "trust"),
            ("[limits]\nsize = 1", "size"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err();
            assert!(error.message().contains(key), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_source() {
        let source = "mongodb://u:hunter2@h";
        let revocations = StoreConfig { provider: "mongo".into(), source: source.into() };
        let config =
            Config { source: source.into(), revocations: Some(revocations), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_store_of_revocations_is_an_option_of_the_source() {
        let text = |source: &str| {
            format!(
                "source = \"{source}\"\nrevocations = {{ provider = \"file\", source = \"path=/a b&sync=none\" }}"
            )
        };
        let whole = |source: &str| {
            let config: Config = toml::from_str(&text(source)).unwrap();
            assert_eq!(
                toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(),
                config
            );
            config.whole_source()
        };
        let options = "revocations=file&revocations_source=path%3D%2Fa%20b%26sync%3Dnone";
        assert_eq!(whole("").unwrap(), options);
        assert_eq!(whole("mode=signed").unwrap(), format!("mode=signed&{options}"));
        let error = whole("mongodb://h/db").unwrap_err();
        assert!(error.to_string().contains("revocations"), "{error}");
        let error = toml::from_str::<Config>("[revocations]\nsource = \"\"").unwrap_err();
        assert!(error.message().contains("provider"), "{error}");
    }
}

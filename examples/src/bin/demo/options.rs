//! The command line and the configuration file.

use std::path::Path;

use lexopt::prelude::*;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use session_core::Config;
use session_core::transport::TransportKind;

/// The text for `--help`.
pub(crate) const USAGE: &str = "\
demo [--listen ADDRESS:PORT] [--config FILE] [--provider NAME] [--source SOURCE]
     [--transport cookie|url|auto|header] [--server hyper|axum]

A demo server for HTTP sessions. Defaults: 127.0.0.1:8080, the memory provider, cookies, hyper.
FILE is a TOML file; flags override it. RUST_LOG sets what is logged to stderr.";

/// The options of a server to run.
#[derive(Debug)]
pub(crate) struct Options {
    /// The address to listen on. Defaults to `127.0.0.1:8080`. Port 0 selects a free port.
    pub(crate) listen: String,
    /// How the handlers are served.
    pub(crate) server: Server,
    /// The library's configuration.
    pub(crate) config: Config,
}

/// The wrapper around the handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Server {
    /// `SessionService`, around a hyper service.
    #[default]
    Hyper,
    /// `SessionLayer`, around an axum router.
    Axum,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    Serve(Box<Options>),
    Help,
}

impl Options {
    /// Parses the command line, and the configuration file that it names.
    ///
    /// # Errors
    /// An error message of one line. It never shows the source, which may contain a password.
    pub(crate) fn from_args(mut parser: lexopt::Parser) -> Result<Wanted, String> {
        let line = |error: lexopt::Error| error.to_string();
        let mut listen = "127.0.0.1:8080".to_owned();
        let mut help = false;
        let mut server = Server::default();
        let (mut file, mut provider, mut source, mut transport) = (None, None, None, None);
        while let Some(argument) = parser.next().map_err(line)? {
            let flag = match argument {
                Long("help") | Short('h') => {
                    help = true;
                    continue;
                }
                Long(
                    flag @ ("listen" | "config" | "provider" | "server" | "source" | "transport"),
                ) => flag.to_owned(),
                // The value is not shown, because it may be a source whose flag was forgotten.
                Value(_) => return Err("an argument without a flag; see --help".into()),
                other => return Err(other.unexpected().to_string()),
            };
            let value = parser.value().map_err(line)?;
            let value = value.into_string().map_err(|_| format!("--{flag} must be UTF-8"))?;
            match flag.as_str() {
                "listen" => listen = value,
                "config" => file = Some(value),
                "provider" => provider = Some(value),
                "server" => server = kind_of_server(&value)?,
                "source" => source = Some(value),
                _ => transport = Some(value),
            }
        }
        if help {
            return Ok(Wanted::Help);
        }
        check_address(&listen)?;
        let mut config = match file {
            Some(path) => read(Path::new(&path))?,
            None => Config::default(),
        };
        if let Some(provider) = provider {
            config.provider = provider;
        }
        if let Some(source) = source {
            config.source = source;
            // The file's table `revocations` belongs to the file's source.
            config.revocations = None;
        }
        if let Some(name) = transport {
            config.transport = kind(&name).map_err(|error| format!("--transport: {error}"))?;
        }
        Ok(Wanted::Serve(Box::new(Self { listen, server, config })))
    }
}

fn check_address(listen: &str) -> Result<(), String> {
    let port = listen.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok()?;
        (!host.is_empty()).then_some(port)
    });
    match port {
        Some(_) => Ok(()),
        None => {
            Err(format!("--listen must be ADDRESS:PORT, such as 127.0.0.1:8080, not {listen:?}"))
        }
    }
}

fn kind(name: &str) -> Result<TransportKind, serde::de::value::Error> {
    TransportKind::deserialize(name.into_deserializer())
}

fn kind_of_server(name: &str) -> Result<Server, String> {
    match name {
        "hyper" => Ok(Server::Hyper),
        "axum" => Ok(Server::Axum),
        _ => Err(format!("--server must be hyper or axum, not {name:?}")),
    }
}

fn read(path: &Path) -> Result<Config, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the configuration {shown}: {error}"))?;
    toml::from_str(&text).map_err(|error| {
        // Not the error's `Display`, which quotes the line, and with it a password in a source.
        let line = error.span().map(|span| {
            let before = text.as_bytes().iter().take(span.start);
            before.filter(|byte| **byte == b'\n').count() + 1
        });
        let place = line.map(|line| format!(" line {line}")).unwrap_or_default();
        format!("configuration {shown}{place}: {}", error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        match Options::from_args(lexopt::Parser::from_args(arguments))? {
            Wanted::Serve(options) => Ok(*options),
            Wanted::Help => Err("help".into()),
        }
    }

    #[test]
    fn flags_are_read_and_have_defaults() {
        let options = parsed(&[]).unwrap();
        assert_eq!(
            (options.listen.as_str(), &options.config),
            ("127.0.0.1:8080", &Config::default())
        );
        let options = parsed(&[
            "--listen=[::1]:0",
            "--provider",
            "file",
            "--source",
            "path=/x",
            "--transport",
            "auto",
            "--server=axum",
        ])
        .unwrap();
        assert_eq!(options.server, Server::Axum);
        assert_eq!(options.listen, "[::1]:0");
        assert_eq!(options.config.provider, "file");
        assert_eq!(options.config.source, "path=/x");
        assert_eq!(options.config.transport, TransportKind::Auto);
        assert_eq!(parsed(&["-h"]).unwrap_err(), "help");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value_that_may_be_a_secret() {
        let error = parsed(&["mongodb://user:hunter2@host/"]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(parsed(&["--transport", "pigeon"]).unwrap_err().contains("`cookie`"));
        assert!(parsed(&["--listen", "8080"]).unwrap_err().contains("ADDRESS:PORT"));
        assert!(parsed(&["--server", "inn"]).unwrap_err().contains("hyper or axum"));
        assert!(parsed(&["--colour"]).unwrap_err().contains("--colour"));
        assert!(parsed(&["--source"]).unwrap_err().contains("--source"));
    }
}

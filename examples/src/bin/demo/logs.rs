//! Logging.

use std::io::Write as _;

use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Prefixes of the targets whose events are logged: this crate and the library's crates.
///
/// These crates log no ids and values at any level. The crates of the HTTP server may: at `trace`, their
/// events may have the bytes of a connection, with cookies and URLs.
const OURS: [&str; 2] = ["demo", "session_"];

/// Starts logging to stderr with the levels in `RUST_LOG`; the default is `info`.
pub(crate) fn init() {
    let text = std::env::var("RUST_LOG").unwrap_or_default();
    let (wanted, unreadable) = wanted(&text);
    for directive in unreadable {
        // If stderr is closed, there is nowhere to report it.
        let _ = writeln!(std::io::stderr(), "demo: RUST_LOG: {directive:?} is ignored");
    }
    let ours = filter_fn(|event| OURS.iter().any(|prefix| event.target().starts_with(prefix)));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter(ours)
        .with_filter(wanted);
    tracing_subscriber::registry().with(layer).init();
}

/// Parses levels (`debug`) and targets with levels (`session_core=trace`), separated by commas. Returns
/// the directives that can't be parsed as well.
///
/// Not `EnvFilter`: its filters on spans are not needed here, and it depends on the `regex` crates.
fn wanted(text: &str) -> (Targets, Vec<&str>) {
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let (readable, unreadable): (Vec<_>, Vec<_>) =
        directives.partition(|directive| directive.parse::<Targets>().is_ok());
    let wanted = match readable.as_slice() {
        [] => Targets::new().with_default(LevelFilter::INFO),
        _ => readable.join(",").parse().expect("each of them can be read"),
    };
    (wanted, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_read_and_the_rest_is_returned() {
        let info = Targets::new().with_default(LevelFilter::INFO);
        assert_eq!(wanted(""), (info.clone(), vec![]));
        assert_eq!(wanted(" , "), (info.clone(), vec![]));
        assert_eq!(wanted("demo=x"), (info.clone(), vec!["demo=x"]));
        assert_eq!(wanted("INFO"), (info, vec![]));
        let both = Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("session_core", LevelFilter::TRACE);
        assert_eq!(wanted("warn, session_core=trace,a=b=c"), (both, vec!["a=b=c"]));
    }
}

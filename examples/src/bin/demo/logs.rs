//! What is logged.

use std::io::Write as _;

use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The crates whose events are let through: this one and the library's.
///
/// They keep ids and values out of their events at every level. A server's own crates don't: at
/// `trace` the bytes of a connection may be among their events, and with them cookies and URLs.
const OURS: [&str; 2] = ["demo", "session_"];

/// Logs to stderr what `RUST_LOG` asks for; `info` if it says nothing.
pub(crate) fn init() {
    let text = std::env::var("RUST_LOG").unwrap_or_default();
    let (wanted, unreadable) = wanted(&text);
    for directive in unreadable {
        // There is nowhere to report that stderr is closed.
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

/// Reads levels (`debug`) and targets with levels (`session_core=trace`), separated by commas, and
/// returns with them those that can't be read.
///
/// Not `EnvFilter`, which also knows of spans: there are none here, and it takes the `regex` crates
/// to build.
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

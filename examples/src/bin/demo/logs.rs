//! What is logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The crates whose events are let through: this one and the library's.
///
/// They keep ids and values out of their events at every level. A server's own crates don't: at
/// `trace` the bytes of a connection may be among their events, and with them cookies and URLs.
const OURS: [&str; 2] = ["demo", "session_"];

/// Logs to stderr what `RUST_LOG` asks for; `info` if it says nothing.
pub(crate) fn init() {
    let wanted = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let ours = filter_fn(|event| OURS.iter().any(|prefix| event.target().starts_with(prefix)));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter(ours)
        .with_filter(wanted);
    tracing_subscriber::registry().with(layer).init();
}

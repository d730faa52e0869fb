//! The demo server: shows all features of the library, for browsers, `curl` and tests.
//!
//! Only [`init_providers`] names the providers; the handlers work with any of them.

mod account;
mod app;
mod devices;
mod input;
mod integer;
mod logs;
mod messages;
mod options;
mod page;
mod reply;
mod route;
mod server;
mod values;
mod visit;

use std::io::Write as _;
use std::process::ExitCode;

use hyper_util::service::TowerToHyperService;
use session_core::{Manager, SessionService};
use tokio::net::TcpListener;
use tracing::info;

use crate::app::App;
use crate::options::{Options, Server, Wanted};

fn main() -> ExitCode {
    logs::init();
    init_providers();
    let options = match Options::from_args(lexopt::Parser::from_env()) {
        Ok(Wanted::Serve(options)) => options,
        Ok(Wanted::Help) => {
            print_line(options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(message) => return fail(BAD_USAGE, &message),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    // Providers that connect to a server need to be opened inside a runtime.
    let manager = {
        let _inside = runtime.enter();
        match Manager::from_config(&options.config) {
            Ok(manager) => manager,
            Err(error) => return fail(BAD_USAGE, &with_causes(&error)),
        }
    };
    let served = runtime.block_on(run(&options, manager.clone()));
    // The timer thread ends first, because it may be in a store operation that needs the runtime.
    manager.close();
    drop(runtime);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

/// Registers the providers. This is the only place that names them.
fn init_providers() {
    session_cookie::init();
    session_file::init();
    session_memory::init();
    #[cfg(feature = "mongo")]
    session_mongo::init();
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    session_sql::init();
    #[cfg(feature = "redis")]
    session_redis::init();
    for (name, is_built) in OPTIONAL {
        if !is_built {
            register_missing(name);
        }
    }
}

/// The providers that are left out by default, because their drivers take long to build, and whether this demo was
/// built with them. The features have the same names.
const OPTIONAL: [(&str, bool); 4] = [
    ("mongo", cfg!(feature = "mongo")),
    ("postgres", cfg!(feature = "postgres")),
    ("redis", cfg!(feature = "redis")),
    ("sqlite", cfg!(feature = "sqlite")),
];

/// Registers an error under a provider's name that says how to build the demo with that provider.
fn register_missing(name: &'static str) {
    let refused = session_core::provider::register(name, move |_| {
        Err(session_core::Error::config(format_args!(
            "this demo was built without the {name} provider; build it with \
             `cargo run --release -p examples --features {name} --bin demo`",
        )))
    });
    refused.expect("the name is registered here only");
}

async fn run(options: &Options, manager: Manager) -> Result<(), String> {
    let cannot = |error| format!("cannot listen on {}: {error}", options.listen);
    let listener = TcpListener::bind(&options.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    // The signals must be handled before the line below is printed, because a reader of the line may
    // send one at once.
    let stop =
        server::stop_signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    print_line(&format!("listening on http://{address}"));
    info!(provider = manager.provider_name(), server = ?options.server, "ready");
    let app = App::new(manager.clone(), address);
    match options.server {
        Server::Hyper => server::serve(listener, SessionService::new(manager, app), stop).await,
        Server::Axum => {
            server::serve(listener, TowerToHyperService::new(app.router()), stop).await;
        }
    }
    Ok(())
}

/// The exit code for a wrong flag, configuration or source.
const BAD_USAGE: u8 = 2;

/// Reports an error as one line on stderr, even if the message has line breaks.
fn fail(code: u8, message: &str) -> ExitCode {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // If stderr is closed, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "demo: {line}");
    ExitCode::from(code)
}

/// Returns an error with its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Prints to stdout. Ignores errors, because stdout may be closed.
fn print_line(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

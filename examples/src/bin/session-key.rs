//! Prints a new random key for sealed sessions, signed ids and encryption at rest, in the form that the
//! options `key`, `key_file` and `key_env` expect.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let written =
        session_cookie::SecretKey::generate().map_err(|error| error.to_string()).and_then(|key| {
            let printed = writeln!(std::io::stdout(), "{}", *key.text());
            printed.map_err(|error| error.to_string())
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, there is nowhere to report it.
            let _ = writeln!(std::io::stderr(), "session-key: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The program's command line: the tests by name, and the roles of its child processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lexopt::{Arg, ValueExt as _};

use crate::{crash, modes, remote};

/// The default number of kills.
const FEW_KILLS: usize = 60;

enum Role {
    Tests {
        kills: usize,
        seed: u64,
        wanted: Vec<String>,
    },
    List,
    /// Performs operations for another process.
    Serve {
        socket: String,
        directory: String,
    },
    /// Stores sessions under an umask.
    Masked {
        mask: String,
        directory: String,
    },
    /// Changes sessions until it is killed.
    Victim {
        directory: String,
        sync: String,
        seed: u64,
        shared: String,
    },
}

pub(crate) fn main() -> ExitCode {
    match role() {
        Ok(Role::List) => {
            for (name, _) in tests(0, 0) {
                println!("{name}: test");
            }
            ExitCode::SUCCESS
        }
        Ok(Role::Tests { kills, seed, wanted }) => run(kills, seed, &wanted),
        Ok(Role::Serve { socket, directory }) => remote::serve(&socket, &directory),
        Ok(Role::Masked { mask, directory }) => modes::masked(&mask, &directory),
        Ok(Role::Victim { directory, sync, seed, shared }) => {
            crash::victim(&directory, &sync, seed, &shared)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn role() -> Result<Role, lexopt::Error> {
    let mut arguments = lexopt::Parser::from_env();
    let (mut kills, mut seed, mut wanted) = (FEW_KILLS, 1, Vec::new());
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("serve") => {
                let (socket, directory) = (arguments.value()?, arguments.value()?);
                return Ok(Role::Serve {
                    socket: socket.string()?,
                    directory: directory.string()?,
                });
            }
            Arg::Long("masked") => {
                let (mask, directory) = (arguments.value()?, arguments.value()?);
                return Ok(Role::Masked { mask: mask.string()?, directory: directory.string()? });
            }
            Arg::Long("victim") => {
                let mut next = || arguments.value()?.string();
                let (directory, sync, seed, shared) = (next()?, next()?, next()?, next()?);
                let seed = seed.parse().map_err(|_| "the seed is no number")?;
                return Ok(Role::Victim { directory, sync, seed, shared });
            }
            Arg::Long("kills") => kills = arguments.value()?.parse()?,
            Arg::Long("seed") => seed = arguments.value()?.parse()?,
            Arg::Long("list") => return Ok(Role::List),
            Arg::Value(name) => wanted.push(name.string()?),
            // Options of the standard test runner are accepted and ignored.
            Arg::Long("test-threads" | "format" | "color" | "skip") => drop(arguments.value()?),
            _ => {}
        }
    }
    Ok(Role::Tests { kills, seed, wanted })
}

type Test = Box<dyn Fn()>;

fn tests(kills: usize, seed: u64) -> Vec<(String, Test)> {
    let cases = session_core::conformance::cases().iter().map(|case| {
        let test: Test = Box::new(|| case.run(&remote::Processes::new(4)));
        (format!("four_processes::{}", case.name()), test)
    });
    let mut tests: Vec<_> = cases.collect();
    tests.push(("the_umask_decides_nothing".into(), Box::new(modes::run)));
    tests.push(("killed_processes_lose_nothing".into(), Box::new(move || crash::run(kills, seed))));
    tests
}

fn run(kills: usize, seed: u64, wanted: &[String]) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests(kills, seed) {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(&**wanted)) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(test));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

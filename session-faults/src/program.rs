//! The command line of a test program that starts itself again as other processes.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use lexopt::{Arg, ValueExt as _};

/// The default number of kills.
const FEW_KILLS: usize = 60;

/// A test without its name.
pub type Test = Box<dyn Fn()>;

/// A role of a child process: the option that selects it, and its main function, which gets the arguments
/// after the option.
pub type Role = (&'static str, fn(&[String]) -> ExitCode);

/// What the command line asks of the tests that kill processes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The number of processes to kill: `--kills`, by default 60.
    pub kills: usize,
    /// The seed of random numbers: `--seed`, by default 1.
    pub seed: u64,
}

/// Runs the role that the first argument selects. Otherwise runs the tests whose names contain one of the
/// arguments, or all tests, or with `--list` prints their names. The other options of the standard test runner
/// are accepted and ignored.
pub fn main(roles: &[Role], tests: impl FnOnce(Options) -> Vec<(String, Test)>) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let role = roles.iter().find(|(option, _)| arguments.first().is_some_and(|is| is == option));
    if let Some((_, role)) = role {
        let text =
            |argument: &OsString| argument.clone().into_string().expect("arguments are text");
        return role(&arguments[1..].iter().map(text).collect::<Vec<_>>());
    }
    match parse(arguments) {
        Ok(Parsed { options, wanted, is_list }) => {
            let tests = tests(options).into_iter();
            let is_wanted = |name: &str| {
                wanted.is_empty() || wanted.iter().any(|wanted| name.contains(&**wanted))
            };
            let tests = tests.filter(|(name, _)| is_wanted(name));
            if is_list { list(tests) } else { run(tests) }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

struct Parsed {
    options: Options,
    /// Parts of names of tests.
    wanted: Vec<String>,
    is_list: bool,
}

fn parse(arguments: Vec<OsString>) -> Result<Parsed, lexopt::Error> {
    let mut arguments = lexopt::Parser::from_args(arguments);
    let options = Options { kills: FEW_KILLS, seed: 1 };
    let mut parsed = Parsed { options, wanted: Vec::new(), is_list: false };
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("kills") => parsed.options.kills = arguments.value()?.parse()?,
            Arg::Long("seed") => parsed.options.seed = arguments.value()?.parse()?,
            Arg::Long("list") => parsed.is_list = true,
            Arg::Value(name) => parsed.wanted.push(name.string()?),
            Arg::Long("test-threads" | "format" | "color" | "skip") => drop(arguments.value()?),
            _ => {}
        }
    }
    Ok(parsed)
}

fn list(tests: impl Iterator<Item = (String, Test)>) -> ExitCode {
    for (name, _) in tests {
        println!("{name}: test");
    }
    ExitCode::SUCCESS
}

fn run(tests: impl Iterator<Item = (String, Test)>) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        let outcome = catch_unwind(AssertUnwindSafe(test));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Classifies errors of the server and of the client library.

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

/// The cause of a failure, as text that may be shown. It quotes no error as a whole, because servers quote the command
/// that they refuse.
pub(crate) type Cause = String;

/// Why a server refused a command, as far as it decides what happens next.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server doesn't know the script's hash; the command is sent again with the whole script.
    UnknownScript,
    /// Another node has the slot: for good, or for this key while the slot moves.
    Elsewhere {
        host: String,
        port: u16,
        is_for_now: bool,
    },
    /// The server is not the primary any more.
    NotPrimary,
    /// The server can't do it now: it is starting, its cluster has lost nodes, or it has too few replicas.
    NotNow,
    /// The server has reached `maxmemory`.
    Full,
    /// The key holds a value of another type than a string.
    WrongType,
    Other,
}

/// Classifies an error that a server replied. `asked` is the host of the server.
pub(crate) fn refusal(error: &ServerError, asked: &str) -> Refusal {
    let details = error.details().unwrap_or_default();
    match error.kind() {
        Some(ServerErrorKind::NoScript) => Refusal::UnknownScript,
        Some(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
            elsewhere(details, asked, kind == ServerErrorKind::Ask).unwrap_or(Refusal::Other)
        }
        Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Refusal::NotPrimary,
        Some(
            ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown | ServerErrorKind::BusyLoading,
        ) => Refusal::NotNow,
        _ => match code(error) {
            "OOM" => Refusal::Full,
            "READONLY" => Refusal::NotPrimary,
            "WRONGTYPE" => Refusal::WrongType,
            "NOREPLICAS" => Refusal::NotNow,
            _ => Refusal::Other,
        },
    }
}

/// Returns the code of an error, which the server's manual explains. Servers before version 7 wrap the error of a
/// command in a script: `ERR Error running script (...): @user_script: 9: -OOM command not allowed`, or the same
/// without the part before the last `@`.
fn code(error: &ServerError) -> &str {
    let code = error.code();
    let details = error.details().unwrap_or_default();
    let is_code = |text: &&str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    let inner = || details.split_once(": -")?.1.split(' ').next().filter(is_code);
    match code {
        "ERR" => inner().unwrap_or(code),
        _ if code.starts_with('@') => inner().unwrap_or("ERR"),
        _ => code,
    }
}

/// Messages that have no code of their own and quote nothing.
const REASONS: [&str; 2] = ["DB index is out of range", "max number of clients reached"];

/// Describes a server's error by its code, because the rest may quote the command.
fn answered(code: &str, details: Option<&str>) -> Cause {
    let reason = REASONS.iter().find(|reason| details.is_some_and(|text| text.contains(**reason)));
    match reason {
        Some(reason) => format!("the server answered {code}: {reason}"),
        None => format!("the server answered {code}"),
    }
}

/// Parses `3999 127.0.0.1:6381`. Without a host, the address is on the host that was asked.
fn elsewhere(details: &str, asked: &str, is_for_now: bool) -> Option<Refusal> {
    let (host, port) = details.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
    let host = if host.is_empty() { asked } else { host.trim_matches(['[', ']']) };
    Some(Refusal::Elsewhere { host: host.to_owned(), port: port.parse().ok()?, is_for_now })
}

/// The cause behind a server's reply.
pub(crate) fn refused(error: &ServerError) -> Cause {
    answered(code(error), error.details())
}

/// The cause behind an error of the client.
pub(crate) fn cause(error: &RedisError) -> Cause {
    match error.kind() {
        ErrorKind::Io => format!("I/O error: {error}"),
        ErrorKind::AuthenticationFailed => "authentication failed".to_owned(),
        ErrorKind::RESP3NotSupported => {
            "the server is older than version 6, or its user may not say HELLO".to_owned()
        }
        _ => match error.code() {
            Some(code) => answered(code, error.detail()),
            None => format!("the client failed: {}", error.category()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn error(reply: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{reply}: {other:?}"),
        }
    }

    /// As version 6.2 replies, and as version 7 does.
    #[test]
    fn what_a_script_met_is_told_by_every_version() {
        let call = "ERR Error running script (call to f_7ea1): @user_script:1: ";
        for (met, code, is_right) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OOM",
                (|refusal| matches!(refusal, Refusal::Full)) as fn(&_) -> bool,
            ),
            ("READONLY You can't write against a read only replica.", "READONLY", |refusal| {
                matches!(refusal, Refusal::NotPrimary)
            }),
            ("MISCONF Redis is configured to save", "MISCONF", |refusal| {
                matches!(refusal, Refusal::Other)
            }),
        ] {
            for reply in [
                met.to_owned(),
                format!("{met} script: 7ea1, on @user_script:1."),
                format!("@user_script: 1: -{met}"),
                format!("{call}@user_script: 1: -{met}"),
            ] {
                let error = error(&reply);
                assert!(is_right(&refusal(&error, "")), "{reply}");
                assert_eq!(refused(&error), format!("the server answered {code}"));
            }
        }
    }

    #[test]
    fn a_cause_quotes_nothing_of_a_command() {
        for (reply, wanted) in [
            ("ERR unknown command 'EVAL', with args beginning with: 'hunter2'", "ERR"),
            ("ERR unknown command 'EVAL', with args beginning with: 'a: -hunter2 b'", "ERR"),
            ("ERR DB index is out of range", "ERR: DB index is out of range"),
            ("ERR max number of clients reached", "ERR: max number of clients reached"),
            ("@user_script:7: hunter2", "ERR"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS"),
        ] {
            let cause = refused(&error(reply));
            assert_eq!(cause, format!("the server answered {wanted}"));
        }
    }

    #[test]
    fn another_node_is_named_by_its_address() {
        for (details, wanted) in [
            ("3999 127.0.0.1:6381", Some(("127.0.0.1", 6381))),
            ("3999 redis-2.example:1", Some(("redis-2.example", 1))),
            ("3999 ::1:6381", Some(("::1", 6381))),
            ("3999 :6381", Some(("asked", 6381))),
            ("3999", None),
            ("3999 h:x", None),
            ("", None),
        ] {
            let found = match elsewhere(details, "asked", true) {
                Some(Refusal::Elsewhere { host, port, is_for_now: true }) => Some((host, port)),
                Some(other) => panic!("{other:?}"),
                None => None,
            };
            assert_eq!(found, wanted.map(|(host, port)| (host.to_owned(), port)), "{details:?}");
        }
    }
}

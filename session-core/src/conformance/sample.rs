//! Records to store.

use std::time::Duration;

use crate::provider::{Changes, Login, Record, Touch, Values, Verifier};
use crate::{Limits, SessionId, Timestamp, value};

/// How long sample records live.
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// The smallest step of time.
pub(crate) const MILLI: Duration = Duration::from_millis(1);

pub(crate) fn id() -> SessionId {
    SessionId::generate().expect("the system has random numbers")
}

/// A number as stores see it.
pub(crate) fn number(n: u64) -> std::sync::Arc<[u8]> {
    value::encode("", &n, &Limits::default()).expect("a number is a value")
}

/// The number that [`number`] encoded.
pub(crate) fn to_number(bytes: &[u8]) -> u64 {
    value::decode("", bytes, &Limits::default()).expect("the value is a number")
}

/// A record from now on for an hour, with a few values and an owner.
pub(crate) fn record(now: Timestamp) -> Record {
    Record {
        login: login("ada", now),
        cookie: 0xfeed_beef,
        values: [("a", number(1)), ("b", number(2)), ("c", number(3))].into_iter().collect(),
        ..empty(now, HOUR)
    }
}

/// A record that lives so long and holds nothing. [`Store`](super::store::Store) makes it the record of
/// the id that it is stored under.
pub(crate) fn empty(now: Timestamp, lives: Duration) -> Record {
    let record = Record::new(Verifier::NOBODY, now, now.saturating_add(lives));
    Record { used: whole_second(now), ..record }
}

/// A login of this owner.
pub(crate) fn login(owner: &str, at: Timestamp) -> Option<Box<Login>> {
    let label = "Firefox on Linux".into();
    Some(Box::new(Login { owner: owner.into(), at, label }))
}

/// The second of an instant: stores may keep the last use in whole seconds, rounded up.
pub(crate) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_secs() * 1000)
}

/// A touch that moves the expiry only.
pub(crate) fn until(expires: Timestamp) -> Touch {
    Touch { used: Timestamp::default(), expires }
}

/// Changes that set one key to a number.
pub(crate) fn set(key: &str, n: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, number(n));
    changes
}

/// Keys that a store's own syntax must not interpret.
pub(crate) fn awkward_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "",
        " ",
        ".",
        "..",
        "a.b",
        ".a",
        "a.",
        "a..b",
        "$",
        "$set",
        "$where",
        "_id",
        "__proto__",
        "/",
        "../../etc/passwd",
        "\\",
        "\0",
        "a\0b",
        "\0lifetime",
        "\0\0x",
        "\n",
        "\r\n",
        "\t",
        "'",
        "\"",
        "%",
        "%2e",
        "0",
        "-1",
        "null",
        "expires",
        "values",
        "owner",
        "é",
        "e\u{301}",
        "日本語",
        "🦀",
        "\u{202e}",
        "\u{feff}",
        "\u{10ffff}",
        "A",
        "a",
        "key with blanks ",
        "{\"$gt\":\"\"}",
    ]
    .map(str::to_owned)
    .into();
    keys.push("k".repeat(255));
    keys.push("é".repeat(512));
    keys
}

/// Values with every marker of MessagePack, in the shortest encoding and in longer ones: stores
/// keep the bytes as they are.
pub(crate) fn awkward_values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        &[0x00][..],
        &[0x7f],
        &[0xe0],
        &[0xc0],
        &[0xc2],
        &[0xc3],
        &[0xcc, 0x01], // 1, in two bytes
        &[0xcd, 0x00, 0x01],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // u64::MAX
        &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],                      // i64::MIN
        &[0xd3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // i64::MAX
        &[0xca, 0x7f, 0xc0, 0x00, 0x00],                         // f32 NaN
        &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0x2a],                // f64 NaN with a payload
        &[0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0],                   // -infinity
        &[0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0],                      // -0.0
        &[0xa0],
        &[0xd9, 0x00],       // an empty text, in two bytes
        &[0xa2, 0xff, 0xfe], // a text that is not UTF-8
        &[0xc4, 0x00],
        &[0xc4, 0x03, 0x00, 0xff, 0x0a],
        &[0x90],
        &[0x80],
        &[0xdc, 0x00, 0x00],
        &[0x82, 0xa1, b'a', 0x01, 0xa1, b'a', 0x02], // a key twice
        &[0x81, 0xa4, b'$', b'g', b't', b'.', 0xa0],
        &[0x93, 0x01, 0x91, 0x92, 0xc0, 0xc4, 0x01, 0x00, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xd4, 0x05, 0x01],
        &[0xd6, 0xff, 0, 0, 0, 1], // a timestamp
        &[0xc7, 0x00, 0x07],
    ]
    .map(<[u8]>::to_vec)
    .into();
    let mut nested = vec![0x91; 60];
    nested.push(0x80);
    values.push(nested);
    values
}

/// Values of this many keys that come to at most this many bytes, all included.
pub(crate) fn filled(keys: usize, bytes: usize) -> Values {
    let each = bytes / keys;
    let entries = (0..keys).map(|n| {
        let key = format!("key{n:05}");
        let length = each - key.len() - 5;
        let mut value = vec![0xc6]; // bytes, with a length of four bytes
        value.extend(u32::try_from(length).expect("a session is small").to_be_bytes());
        value.extend((0..length).map(|at| (at * 31 + n) as u8));
        (key, value)
    });
    entries.collect()
}

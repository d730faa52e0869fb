//! Tokens: making, parsing and recognizing them.

use crate::conformance::Harness;
use crate::conformance::expect::expect_eq;
use crate::conformance::sample::{id, record};
use crate::conformance::store::Store;
use crate::provider::{Token, Verifier};

/// A token's text, as the client sends it back, opens the record.
pub fn the_clients_text_is_read_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let read = token.with_client_text(|text| store.provider().token(text.as_bytes()));
    let read = read.expect("the provider reads what it wrote");
    expect_eq!(read.key(), token.key(), "the key of a token that was read from its text");
    expect_eq!(
        store.found(&read),
        Some(record),
        "the record, by a token that was read from its text"
    );
}

/// Malformed texts are refused without a call to the store.
pub fn hostile_texts_are_no_tokens(harness: &dyn Harness) {
    let store = Store::open(harness);
    let id = id().text();
    let huge = "A".repeat(400 * 1024);
    let texts = [
        "",
        " ",
        "A",
        &id[..42],
        &format!("{}A", &*id),
        &format!("{}=", &*id),
        &format!(" {}", &*id),
        &format!("\"{}\"", &*id),
        &format!("{},{}", &*id, &*id),
        &format!("{}\0", &id[..42]),
        &format!("{}%41", &id[..40]),
        &format!("{}\u{e9}", &id[..41]),
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "CON",
        "{\"$gt\":\"\"}",
        "\u{ff0e}\u{ff0e}/\u{ff0e}\u{ff0e}/",
        "\u{0}",
        "' OR 1=1 --",
        &huge,
    ];
    let bytes = [
        b"\xff".to_vec(),
        vec![0xff; id.len()],
        [&id.as_bytes()[..42], b"\x80"].concat(),
        [b"\xc3", &id.as_bytes()[..42]].concat(),
    ];
    for text in texts.into_iter().map(str::as_bytes).chain(bytes.iter().map(Vec::as_slice)) {
        assert!(
            store.provider().token(text).is_none(),
            "nonsense is read as a token: {:?}",
            String::from_utf8_lossy(&text[..text.len().min(80)])
        );
    }
}

/// A text that was cut, extended or changed is no token, or one that opens nothing: neither another key
/// nor another secret.
pub fn a_damaged_text_opens_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let text = token.with_client_text(str::to_owned);
    assert!(text.is_ascii(), "a token travels in headers");
    let mut damaged: Vec<Vec<u8>> =
        [format!("{text}A"), format!("{text}="), format!("A{text}")].map(String::into_bytes).into();
    let text = text.into_bytes();
    for at in 0..text.len() {
        damaged.push(text[..at].to_vec());
        let other = if text[at] == b'A' { b'B' } else { b'A' };
        for byte in [other, text[at] | 0x80] {
            let mut bytes = text.clone();
            bytes[at] = byte;
            damaged.push(bytes);
        }
    }
    for (n, text) in damaged.iter().enumerate() {
        if let Some(token) = store.provider().token(text) {
            expect_eq!(store.found(&token), None, "what a token opens whose text has damage {n}");
        }
    }
}

/// `Debug` shows the key at most: no secret and no token's text.
pub fn nothing_prints_a_token(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let unknown = store.provider().issue(store.new_id());
    let gone = store.save(&unknown, &crate::provider::Changes::new(), store.now);
    let shown = format!("{:?} {:#?} {token:?} {gone:?}", store.provider(), store.provider());
    let after_the_key = crate::SessionKey::TEXT_LEN;
    token.with_client_text(|text| {
        assert!(
            !shown.contains(text),
            "Debug of the provider, a token or an error shows a token's text"
        );
        let secret = &text[after_the_key.min(text.len() - 8)..];
        assert!(
            !shown.contains(&secret[..8]),
            "Debug of the provider, a token or an error shows the beginning of a secret"
        );
    });
    let secret = token.id().secret().as_bytes();
    let bytes = format!("{secret:?}");
    assert!(
        !shown.contains(bytes.trim_matches(['[', ']'])),
        "Debug of the provider, a token or an error shows a secret's bytes"
    );
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        !shown.to_lowercase().contains(&hex),
        "Debug of the provider, a token or an error shows a secret in hexadecimal"
    );
}

/// What a record keeps of a client's secret doesn't contain the secret, so whoever reads the store can't open a
/// session.
pub fn a_record_has_no_secret(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    for namespace in ["", "shop"] {
        let verifier = store.provider().verifier(&token, namespace);
        assert!(
            !contains_secret(&verifier, &token),
            "the verifier of the namespace {namespace:?} has the secret in it: a leaked store would open all \
             sessions. Only a store that never leaves the process's memory may use Verifier::plain, and says so \
             by Capabilities::hides_secrets"
        );
    }
}

/// Returns whether a verifier contains the token's secret.
pub(crate) fn contains_secret(verifier: &Verifier, token: &Token) -> bool {
    let secret = token.id().secret().as_bytes();
    verifier.as_bytes().windows(secret.len()).any(|bytes| bytes == secret)
}

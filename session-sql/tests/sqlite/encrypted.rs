//! What the file shows of encrypted sessions.

use session_core::provider::{Changes, Login, Page, Provider as _, Record, Verifier, open};
use session_core::{Error, SessionId};

use crate::scratch::{EXPIRES, NOW, Scratch};

const SECRETS: [&str; 4] =
    ["owner-4711", "the blue telephone", "ada.lovelace@example.org", "another value"];

/// By its name, as a program opens it. Without the key, the file shows no value, no owner and no label.
#[test]
fn encrypted_sessions_are_opened_by_name_and_show_nothing() {
    session_cookie::init();
    session_sql::init();
    let scratch = Scratch::in_memory();
    let key = session_cookie::SecretKey::generate().unwrap();
    let path = scratch.path();
    let source = |key: &str| format!("path={}&sync=none&{key}", path.display());
    let provider = open("encrypted+sqlite", &source(&format!("key={}", &*key.text()))).unwrap();
    let [owner, label, value, saved] = SECRETS;
    let id = SessionId::generate().unwrap();
    let (token, holder) = (id.into(), Verifier::digest(&id, ""));
    let record = Record {
        login: Some(Box::new(Login { owner: owner.into(), at: NOW, label: label.into() })),
        values: [("mail", value)].into_iter().collect(),
        ..Record::new(holder, NOW, EXPIRES)
    };
    scratch.block_on(async {
        provider.create(&id, record, NOW).await.unwrap();
        let mut changes = Changes::new();
        changes.set("other", saved.as_bytes());
        provider.save(&token, &holder, &changes, NOW).await.unwrap();
        let loaded = provider.load(&token, NOW).await.unwrap().unwrap();
        assert_eq!(loaded.values.get("mail"), Some(value.as_bytes()));
        assert_eq!(loaded.values.get("other"), Some(saved.as_bytes()));
        let listed = provider.list(owner, Page { after: None, limit: 5 }, NOW).await.unwrap();
        assert_eq!(&*listed.sessions[0].label, label);
    });
    // What was stored first, too: the file and the log have both.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(std::fs::read(path.with_extension("db-wal")).unwrap());
    let is_there = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    // The names of values are readable; so the test looks in the right place.
    assert!(is_there("mail") && is_there("other"));
    for secret in SECRETS {
        assert!(!is_there(secret), "{secret}");
    }
    // Without the key, it can't be read.
    let loaded = scratch.block_on(scratch.open().load(&token, NOW)).unwrap().unwrap();
    assert_ne!(loaded.values.get("mail"), Some(value.as_bytes()));
    let other = open("encrypted+sqlite", &source("ephemeral=true")).unwrap();
    let loaded = scratch.block_on(other.load(&token, NOW));
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{loaded:?}");
}

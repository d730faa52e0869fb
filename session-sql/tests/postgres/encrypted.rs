//! What the server sees of encrypted sessions.

use session_core::provider::{Login, Page, Record, Verifier, open};
use session_core::{Error, SessionId};
use session_sql::sqlx::Row as _;

use crate::sample::{EXPIRES, NOW, set};
use crate::server::{Server, with_options};

const SECRETS: [&str; 4] =
    ["owner-4711", "the blue telephone", "ada.lovelace@example.org", "another value"];

/// By its name, as a program opens it. Without the key, the row shows no value, no owner and no label.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn encrypted_sessions_are_opened_by_name_and_show_nothing() {
    session_cookie::init();
    session_sql::init();
    let server = Server::new();
    let key = session_cookie::SecretKey::generate().unwrap();
    let source = with_options(&server.source(""), &format!("key={}", &*key.text()));
    let provider = open("encrypted+postgres", &source).unwrap();
    let [owner, label, value, saved] = SECRETS;
    let id = SessionId::generate().unwrap();
    let (token, holder) = (id.into(), Verifier::digest(&id, ""));
    let record = Record {
        login: Some(Box::new(Login { owner: owner.into(), at: NOW, label: label.into() })),
        values: [("mail", value)].into_iter().collect(),
        ..Record::new(holder, NOW, EXPIRES)
    };
    server.block_on(async {
        provider.create(&id, record, NOW).await.unwrap();
        provider.save(&token, &holder, &set("other", saved.as_bytes()), NOW).await.unwrap();
        let loaded = provider.load(&token, NOW).await.unwrap().unwrap();
        assert_eq!(loaded.values.get("mail"), Some(value.as_bytes()));
        assert_eq!(loaded.values.get("other"), Some(saved.as_bytes()));
        let listed = provider.list(owner, Page { after: None, limit: 5 }, NOW).await.unwrap();
        assert_eq!(&*listed.sessions[0].label, label);
    });
    // The names of values are readable; so the test looks in the right place.
    let joined = |of| {
        format!("array_to_string(array(SELECT encode(e, 'escape') FROM unnest({of}) AS e), ' ')")
    };
    let columns = format!("owner, label, {}, {}", joined("names"), joined("data"));
    let row = server.query(&format!("SELECT {columns} FROM @")).remove(0);
    let names: String = row.get(2);
    assert!(names.contains("mail") && names.contains("other"), "{names}");
    let bytes =
        [row.get::<Vec<u8>, _>(0), row.get(1), row.get::<String, _>(3).into_bytes()].concat();
    for secret in SECRETS {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
    // Without the key, it can't be read.
    let loaded = server.block_on(server.provider("").load(&token, NOW)).unwrap().unwrap();
    assert_ne!(loaded.values.get("mail"), Some(value.as_bytes()));
    let other = with_options(&server.source(""), "ephemeral=true");
    let loaded = server.block_on(open("encrypted+postgres", &other).unwrap().load(&token, NOW));
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{loaded:?}");
}

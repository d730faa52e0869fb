//! Valid and invalid source strings.

use std::path::Path;

use session_core::transport::TransportKind;
use session_core::{Config, Error, Manager};

use crate::rotation::Scratch;
use crate::site::{Site, key, key_option};

fn error(provider: &str, source: &str) -> String {
    session_cookie::init();
    session_memory::init();
    match Manager::open(provider, source) {
        Err(Error::Config(message)) => message,
        other => panic!("{provider} {source:?}: {other:?}"),
    }
}

#[test]
fn wrong_sources_are_configuration_errors_that_show_no_key() {
    let good = key_option(1);
    let text = key(1).text();
    let zeros = "A".repeat(43);
    for provider in ["cookie", "signed+memory", "encrypted+memory"] {
        for (source, says) in [
            ("", "there is no key"),
            ("ephemeral=false", "there is no key"),
            ("ephemeral=maybe", "true or false"),
            ("key=", "key 1"),
            (&format!("key={}", &text[..42]), "key 1"),
            (&format!("key={}A", &*text), "key 1"),
            (&format!("key={zeros}"), "key 1"),
            (&format!("{good}&key={zeros}"), "key 2"),
            (&format!("{good}&{good}"), "twice"),
            (&format!("{good}&ephemeral=true"), "excludes other keys"),
            (&format!("{good}&colour=red"), "colour"),
            ("key_file=/nowhere/at/all", "/nowhere/at/all"),
            ("key_env=SESSION_COOKIE_TESTS_HAVE_NO_SUCH", "SESSION_COOKIE_TESTS_HAVE_NO_SUCH"),
        ] {
            let message = error(provider, source);
            assert!(message.contains(says), "{provider} {source:?}: {message}");
            assert!(!message.contains(&text[..12]), "{message}");
        }
        let many: Vec<String> = (1..=17).map(key_option).collect();
        assert!(error(provider, &many.join("&")).contains("17 keys"));
    }
    for (source, says) in [
        ("mode=open", "encrypted or signed"),
        ("revocations_source=x%3D1", "revocations=PROVIDER"),
        ("revocations=cookie", "at the server"),
        ("revocations=signed%2Bcookie", "at the server"),
        ("revocations=memory&revocations_source=x%3D1", "\"x\""),
    ] {
        let message = error("cookie", &format!("{good}&{source}"));
        assert!(message.contains(says), "{source}: {message}");
    }
    assert!(error("signed+cookie", &good).contains("without a wrapper"));
    let unknown = Manager::open("encrypted+nothing", &good).unwrap_err();
    assert!(matches!(unknown, Error::UnknownProvider { .. }), "{unknown:?}");
}

#[test]
fn keys_are_read_from_files() {
    let directory = Scratch::new();
    let file = directory.0.join("keys");
    let lines = format!("# the newest first\n\n{}\n  {}  \n", *key(2).text(), *key(1).text());
    write_keys(&file, &lines);
    let old = Site::open("cookie", &key_option(1)).enter("ada");
    let site = Site::open("cookie", &format!("key_file={}", file.display()));
    let (user, newer) = site.user(&old);
    assert_eq!(user.as_deref(), Some("ada"));
    assert_ne!(newer, old, "the first key of the file seals");
    // Keys in files come after those in the source itself.
    let source = format!("key_file={}&{}", file.display(), key_option(3));
    let sealed = Site::open("cookie", &source).enter("bob");
    assert_eq!(Site::open("cookie", &key_option(3)).user(&sealed).0.as_deref(), Some("bob"));

    write_keys(&file, "not a key\n");
    let message = error("cookie", &format!("key_file={}", file.display()));
    assert!(message.contains("key_file") && !message.contains("not a key\n"), "{message}");
    write_keys(&file, "# nothing but words\n");
    assert!(error("cookie", &format!("key_file={}", file.display())).contains("there is no key"));
}

#[cfg(unix)]
#[test]
fn a_file_of_keys_that_others_can_read_or_write_is_refused() {
    let directory = Scratch::new();
    let file = directory.0.join("keys");
    for provider in ["cookie", "signed+memory", "encrypted+memory"] {
        session_cookie::init();
        session_memory::init();
        for (mode, fine) in [
            (0o600, true),
            (0o400, true),
            (0o644, false),
            (0o640, false),
            (0o620, false),
            (0o602, false),
        ] {
            let _ = std::fs::remove_file(&file);
            write_keys(&file, &key(1).text());
            set_mode(&file, mode);
            let opened = Manager::open(provider, &format!("key_file={}", file.display()));
            assert_eq!(opened.is_ok(), fine, "{mode:o}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
    }
}

#[cfg(unix)]
fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_file: &Path, _mode: u32) {}

/// Writes a file that only its owner can read.
fn write_keys(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    set_mode(file, 0o600);
}

#[test]
fn transports_with_urls_are_refused_for_sealed_sessions_and_fine_for_signed_ids() {
    for transport in [TransportKind::Url, TransportKind::Auto] {
        let mut config = Config::default();
        config.transport = transport;
        config.source = key_option(1);
        for (provider, fine) in [("cookie", false), ("signed+memory", true)] {
            config.provider = provider.into();
            session_cookie::init();
            session_memory::init();
            assert_eq!(Manager::from_config(&config).is_ok(), fine, "{provider} {transport:?}");
        }
    }
}

#[test]
fn an_ephemeral_key_ends_with_its_provider() {
    let one = Site::open("cookie", "ephemeral=true");
    let visitor = one.enter("ada");
    assert_eq!(one.user(&visitor).0.as_deref(), Some("ada"));
    assert_eq!(Site::open("cookie", "ephemeral=true").user(&visitor).0, None);
}

/// The client's next request is recognized by the id in a link.
#[test]
fn signed_ids_work_in_links() {
    let site = Site::with_config(|config| {
        config.transport = TransportKind::Url;
        config.provider = "signed+memory".into();
        config.source = key_option(1);
    });
    futures_lite::future::block_on(async {
        let handle = site.manager.start(&http::Request::new(()));
        handle.load().await?.set("user", "ada")?;
        let link = handle.encode_url("/next");
        handle.finish(&mut http::Response::new(())).await?;
        let request = http::Request::builder().uri(&link).body(()).unwrap();
        let handle = site.manager.start(&request);
        assert_eq!(handle.load().await?.get::<String>("user")?.as_deref(), Some("ada"), "{link}");
        Ok::<_, Error>(())
    })
    .unwrap();
}

/// Sealed sessions can't be listed, so the ones beyond the limit can't be found.
#[test]
fn a_limit_of_sessions_per_owner_needs_a_provider_that_lists() {
    session_cookie::init();
    session_memory::init();
    for (provider, fine) in [("cookie", false), ("signed+memory", true), ("encrypted+memory", true)]
    {
        let mut config = Config::default();
        config.provider = provider.into();
        config.source = key_option(1);
        config.sessions_per_owner = 5.try_into().ok();
        match Manager::from_config(&config) {
            Err(Error::Config(text)) => {
                assert!(!fine && text.contains("sessions_per_owner"), "{text}");
            }
            opened => assert!(fine && opened.is_ok(), "{provider}"),
        }
    }
}

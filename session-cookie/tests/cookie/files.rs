//! The wrappers around a provider that stores on a disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use session_core::SessionId;

use crate::at_rest::{SECRETS, is_whole, use_it};
use crate::rotation::Scratch;
use crate::site::{Site, Visitor, key_option};

/// Returns the bytes of all files below a directory, by path.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

/// Returns whether a text is in a file or in a file's name.
fn contain(files: &BTreeMap<PathBuf, Vec<u8>>, text: &[u8]) -> bool {
    let is_in = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    files.iter().any(|(path, bytes)| is_in(bytes) || is_in(path.as_os_str().as_encoded_bytes()))
}

/// Returns the secret in a visitor's cookie.
fn secret(visitor: &Visitor) -> [u8; 20] {
    *SessionId::parse(visitor.text()).expect("is an id").secret().as_bytes()
}

#[test]
fn no_file_has_a_value_an_owner_a_label_or_a_secret() {
    for (provider, readable) in [("file", true), ("encrypted+file", false)] {
        let directory = Scratch::new();
        let path = directory.0.display();
        let source = match readable {
            true => format!("path={path}"),
            false => format!("path={path}&{}", key_option(1)),
        };
        let site = Site::open(provider, &source);
        let visitor = use_it(&site);
        is_whole(&site, &visitor);
        let found = files(&directory.0);
        for text in [SECRETS[0], SECRETS[1], SECRETS[3], SECRETS[4]] {
            assert_eq!(contain(&found, text.as_bytes()), readable, "{provider}: {text}");
        }
        assert!(!contain(&found, SECRETS[2].as_bytes()), "{provider}: the owner before");
        assert!(!contain(&found, &secret(&visitor)), "{provider}: the secret");
        let text = &visitor.text()[session_core::SessionKey::TEXT_LEN..];
        assert!(!contain(&found, text.as_bytes()), "{provider}: the secret's text");
    }
}

/// Each opening of the store stands for another server.
#[test]
fn servers_with_one_ring_share_a_directory() {
    let directory = Scratch::new();
    for provider in ["encrypted+file", "signed+file", "signed+encrypted+file"] {
        let site = |keys: &[u8]| {
            let keys: Vec<_> = keys.iter().map(|n| key_option(*n)).collect();
            let source = format!("path={}&{}", directory.0.display(), keys.join("&"));
            Site::open(provider, &source)
        };
        let [before, during, after] = [&[1][..], &[2, 1], &[2]].map(site);
        let visitor = use_it(&before);
        is_whole(&before, &visitor);
        let (_, newer) =
            during.request(&visitor, async |session| session.log_in(SECRETS[3])).unwrap();
        is_whole(&after, &newer);
        let (user, _) = after.user(&visitor);
        assert_eq!(user, None, "{provider}: the id before the login");
        let ((), left) = after.request(&newer, async |session| session.destroy().await).unwrap();
        assert!(left == Visitor::default(), "{provider}: a logout clears the cookie");
        let (read, _) =
            during.request(&newer, async |session| session.get::<String>("mail")).unwrap();
        assert_eq!(read, None, "{provider}: after the logout");
    }
    let found = files(&directory.0);
    assert!(!found.values().any(|bytes| bytes.starts_with(b"session")), "no session is left");
}

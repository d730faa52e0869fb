//! The key ring.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use session_core::Error;
use session_core::provider::Source;
use zeroize::Zeroizing;

use crate::SecretKey;
use crate::key::Key;

/// An ordered list of keys: the first one seals, and all of them open. Cloning is cheap. The keys are
/// wiped from memory with the last clone.
///
/// To rotate, put a new key before the others on all servers. What the old keys sealed is sealed anew
/// when a client presents it. Take the old key out once its sessions have reached their absolute
/// lifetime. If servers are updated one after the other, first append the new key behind the old one on
/// all servers, so that all can open what it seals, and then move it to the front.
#[derive(Clone)]
pub struct KeyRing(Arc<[Key]>);

/// More keys than any rotation needs. The number is limited because a forged cookie may be tried with
/// every key that has the cookie's key id.
const MAX_KEYS: usize = 16;

/// The largest key file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

impl KeyRing {
    /// The options of a source string that [`take`](Self::take) reads.
    pub const OPTIONS: [&str; 4] = ["key", "key_file", "key_env", "ephemeral"];

    /// Makes a ring of these keys.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no key, if there are more than 16, or if one is there twice.
    pub fn new(keys: &[SecretKey]) -> Result<Self, Error> {
        if keys.is_empty() {
            return Err(Error::config(
                "there is no key: give key=, key_file= or key_env= in the source string, or \
                 ephemeral=true for a key that ends with the process",
            ));
        }
        if keys.len() > MAX_KEYS {
            return Err(Error::config(format_args!(
                "there are {} keys; {MAX_KEYS} at most are allowed",
                keys.len()
            )));
        }
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].contains(key) {
                return Err(Error::config(format_args!("key {} is there twice", at + 1)));
            }
        }
        Ok(Self(keys.iter().map(Key::of).collect()))
    }

    /// Makes a ring of one new random key. What it seals can't be opened after the process has ended.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails.
    pub fn ephemeral() -> Result<Self, Error> {
        Self::new(&[SecretKey::generate()?])
    }

    /// Takes the keys out of a source string, in this order:
    /// - the values of `key`;
    /// - the keys in the files that `key_file` names, one key a line. Empty lines and lines that begin
    ///   with `#` are skipped. Other users must not be able to read or write the file;
    /// - the keys in the environment variables that `key_env` names, separated by whitespace or commas;
    /// - for `ephemeral=true`, one new random key instead.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no key; if a key is not 32 bytes as 43 characters of base64url, is
    /// all zeros, or is there twice; if a file or variable can't be read; or if there is a key beside
    /// `ephemeral=true`.
    pub fn take(source: &mut Source) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for text in source.take_all("key").into_iter().map(Zeroizing::new) {
            keys.push(parsed(&text, "option \"key\"", keys.len() + 1)?);
        }
        for path in source.take_all("key_file") {
            let text = read(Path::new(&path))?;
            let lines = text.lines().map(str::trim);
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                keys.push(parsed(line, "option \"key_file\"", keys.len() + 1)?);
            }
        }
        for name in source.take_all("key_env") {
            let text = std::env::var(&name).map(Zeroizing::new).map_err(|_| {
                Error::config(format_args!(
                    "the environment variable {name:?} is not set, or is not UTF-8"
                ))
            })?;
            let words = text.split(|c: char| c == ',' || c.is_whitespace());
            for word in words.filter(|word| !word.is_empty()) {
                keys.push(parsed(word, "option \"key_env\"", keys.len() + 1)?);
            }
        }
        let ephemeral = source.take_parsed("ephemeral", "true or false")?.unwrap_or(false);
        match (ephemeral, keys.is_empty()) {
            (true, true) => Self::ephemeral(),
            (true, false) => {
                Err(Error::config("ephemeral=true excludes other keys; remove it or the keys"))
            }
            (false, _) => Self::new(&keys),
        }
    }

    /// Returns the key that seals.
    pub(crate) fn first(&self) -> &Key {
        &self.0[0]
    }

    /// Returns all keys in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// Returns the keys whose id begins with this byte.
    pub(crate) fn with_short_id(&self, id: u8) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.id[0] == id)
    }

    /// Returns the key with this id.
    pub(crate) fn with_id(&self, id: [u8; 4]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

fn parsed(text: &str, option: &str, number: usize) -> Result<SecretKey, Error> {
    SecretKey::parse(text).ok_or_else(|| {
        Error::config(format_args!(
            "key {number}, of {option}, is not 32 random bytes as 43 characters of base64url; \
             make one with the command session-key"
        ))
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        Error::config(format_args!("cannot read the key file {shown}: {}", error.kind()))
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    if is_open_to_others(&file.metadata().map_err(cannot)?) {
        return Err(Error::config(format_args!(
            "the key file {shown} can be read or written by other users; run chmod 600 on it"
        )));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_file: &std::fs::Metadata) -> bool {
    false
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.len())
    }
}

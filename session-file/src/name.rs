//! The paths of sessions' files and of their entries in the owner index.

use session_core::SessionKey;
use sha2::{Digest as _, Sha256};

/// The number of folders. With a million sessions each folder has four thousand files, which every file
/// system's directory index handles well, and an empty store is small.
pub(crate) const FOLDERS: usize = 256;

/// The number of locks: enough that a few hundred concurrent operations, each of which may hold its lock
/// over an fsync, rarely contend.
pub(crate) const STRIPES: usize = 4096;

/// The path of a session's file below the store's directory: the session's key in hexadecimal, its first
/// byte as the folder, the other 11 as the file in it.
///
/// The digits are hexadecimal because some file systems ignore the case of names. Anyone who can list
/// the directory learns keys, which give no access to sessions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    key: SessionKey,
    path: [u8; 3 + 2 * FILE_BYTES],
}

/// The number of bytes of a key that name the file within its folder.
const FILE_BYTES: usize = SessionKey::BYTES - 1;

impl Name {
    pub(crate) fn of(key: SessionKey) -> Self {
        let digits: [u8; 2 * SessionKey::BYTES] = written(key.as_bytes());
        let (folder, file) = digits.split_at(2);
        let mut path = [b'/'; 3 + 2 * FILE_BYTES];
        path[..2].copy_from_slice(folder);
        path[3..].copy_from_slice(file);
        Self { key, path }
    }

    /// Parses the name of a file in a folder. Returns `None` if it is not a session's.
    pub(crate) fn read(folder: usize, file: &[u8]) -> Option<Self> {
        let mut key = [0; SessionKey::BYTES];
        let (first, rest) = key.split_first_mut()?;
        *first = u8::try_from(folder).ok()?;
        read_bytes(file, rest)?;
        Some(Self::of(SessionKey::from_bytes(key)))
    }

    /// Parses the name of an entry in an owner's folder. Returns `None` if it is not an entry's.
    pub(crate) fn read_entry(entry: &[u8]) -> Option<Self> {
        let mut key = [0; SessionKey::BYTES];
        read_bytes(entry, &mut key)?;
        Some(Self::of(SessionKey::from_bytes(key)))
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.key
    }

    /// Returns the number of the folder.
    pub(crate) fn folder(&self) -> usize {
        usize::from(self.key.as_bytes()[0])
    }

    /// Returns the file's name within its folder.
    pub(crate) fn file(&self) -> &[u8] {
        &self.path[3..]
    }

    /// Returns the file's path below the store's directory.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the name of the session's entry in its owner's folder: the whole key, so entries sort
    /// like keys.
    pub(crate) fn entry(&self) -> [u8; 2 * SessionKey::BYTES] {
        written(self.key.as_bytes())
    }

    /// Returns the number of the session's lock.
    pub(crate) fn stripe(&self) -> usize {
        let [_, high, low, ..] = *self.key.as_bytes();
        usize::from(u16::from_be_bytes([high, low])) % STRIPES
    }
}

/// Returns the name of a folder.
pub(crate) fn folder_name(folder: usize) -> [u8; 2] {
    written(&[folder as u8])
}

/// The path of an owner's folder in the owner index: a digest of the owner in hexadecimal, its first
/// byte as the folder, the rest as the folder in it.
///
/// An owner is any text of up to 1,024 bytes, which no file system accepts as a name. A reader of an
/// entry also looks at the owner in the session's record, so two owners with the same digest would do no
/// harm.
pub(crate) struct OwnerName {
    shard: u8,
    folder: [u8; 2 * OWNER_BYTES],
}

/// The number of bytes of the digest that name the owner's folder. With the first byte these are 128
/// bits, so digests don't collide by chance.
const OWNER_BYTES: usize = 15;

impl OwnerName {
    pub(crate) fn of(owner: &str) -> Self {
        let digest = Sha256::digest(owner);
        Self { shard: digest[0], folder: written(&digest[1..=OWNER_BYTES]) }
    }

    /// Returns the number of the folder that has the owner's folder.
    pub(crate) fn shard(&self) -> usize {
        self.shard.into()
    }

    /// Returns the name of the owner's folder.
    pub(crate) fn folder(&self) -> &[u8] {
        &self.folder
    }

    /// Returns whether this is a name of an owner's folder.
    pub(crate) fn is_folder(name: &[u8]) -> bool {
        read_bytes(name, &mut [0; OWNER_BYTES]).is_some()
    }

    /// Returns whether this is a name of a folder that has owners' folders.
    pub(crate) fn is_shard(name: &[u8]) -> bool {
        read_bytes(name, &mut [0]).is_some()
    }
}

/// Returns bytes in hexadecimal; `N` is twice their number.
fn written<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; N];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    digits
}

/// Parses what [`written`] makes of as many bytes as the buffer has. Returns `None` for anything else.
fn read_bytes(digits: &[u8], bytes: &mut [u8]) -> Option<()> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(())
}

/// Returns the value of a hexadecimal digit. Capital letters are refused, because they are never
/// written.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::of(SessionKey::from_bytes(std::array::from_fn(|at| 0xa0 + at as u8)))
    }

    /// Fixed vector: stored sessions must be found again.
    #[test]
    fn the_path_is_the_key_in_hexadecimal() {
        let name = name();
        assert_eq!(name.path(), b"a0/a1a2a3a4a5a6a7a8a9aaab");
        assert_eq!((name.folder(), &folder_name(name.folder())), (0xa0, b"a0"));
        assert_eq!(name.stripe(), 0xa1a2 % STRIPES);
    }

    #[test]
    fn a_name_is_read_back_and_nothing_else_is() {
        let name = name();
        assert!(Name::read(name.folder(), name.file()) == Some(name));
        let file = name.file();
        let upper = file.to_ascii_uppercase();
        for other in [&file[1..], &file[2..], b"", b".", b"..", &upper, &[file, b"00"].concat()] {
            assert!(Name::read(name.folder(), other).is_none(), "{other:?}");
        }
        assert!(Name::read(256, file).is_none());
        assert!(Name::read_entry(&name.entry()) == Some(name));
        assert!(Name::read_entry(file).is_none() && Name::read_entry(name.path()).is_none());
    }

    /// Fixed vector: the entries of stored sessions must be found again.
    #[test]
    fn an_owners_folder_is_a_digest_of_the_owner() {
        let owner = OwnerName::of("ada");
        assert_eq!(owner.shard(), 0xfd);
        assert_eq!(owner.folder(), b"ee430d40bd57deeac186cd9790033d");
        assert_eq!(name().entry(), *b"a0a1a2a3a4a5a6a7a8a9aaab");
        assert!(OwnerName::is_folder(owner.folder()) && OwnerName::is_shard(b"fd"));
        assert!(!OwnerName::is_folder(b"..") && !OwnerName::is_folder(&name().entry()));
        assert!(!OwnerName::is_shard(b"..") && !OwnerName::is_shard(b"FD"));
    }
}

//! Where a session's file is, and its entry in the index of owners.

use session_core::SessionKey;
use sha2::{Digest as _, Sha256};

/// The number of folders: at a million sessions each holds four thousand files, which a directory
/// index of any file system takes lightly, and an empty store is small.
pub(crate) const FOLDERS: usize = 256;

/// The number of locks: so many that a few hundred operations at once, each of which may hold its
/// lock over an fsync, seldom meet at one.
pub(crate) const STRIPES: usize = 4096;

/// The path of a session's file below the store's directory: the session's key in hexadecimal, its first
/// byte as the folder, the other 11 as the file in it.
///
/// Hexadecimal, as some file systems take capital and small letters for the same. Who can list the
/// directory learns keys, which open nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    key: SessionKey,
    path: [u8; 3 + 2 * FILE_BYTES],
}

/// The bytes of a key that name the file within its folder.
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

    /// The name of a file that was found in a folder; `None` unless this is how files are named.
    pub(crate) fn read(folder: usize, file: &[u8]) -> Option<Self> {
        let mut key = [0; SessionKey::BYTES];
        let (first, rest) = key.split_first_mut()?;
        *first = u8::try_from(folder).ok()?;
        read_bytes(file, rest)?;
        Some(Self::of(SessionKey::from_bytes(key)))
    }

    /// The session of an entry that was found in an owner's folder; `None` unless this is how entries are
    /// named.
    pub(crate) fn read_entry(entry: &[u8]) -> Option<Self> {
        let mut key = [0; SessionKey::BYTES];
        read_bytes(entry, &mut key)?;
        Some(Self::of(SessionKey::from_bytes(key)))
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.key
    }

    /// The number of the folder.
    pub(crate) fn folder(&self) -> usize {
        usize::from(self.key.as_bytes()[0])
    }

    /// The file's name within its folder.
    pub(crate) fn file(&self) -> &[u8] {
        &self.path[3..]
    }

    /// Folder and file.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The session's entry in its owner's folder: the whole key, whose order is that of the names.
    pub(crate) fn entry(&self) -> [u8; 2 * SessionKey::BYTES] {
        written(self.key.as_bytes())
    }

    /// The number of the lock.
    pub(crate) fn stripe(&self) -> usize {
        let [_, high, low, ..] = *self.key.as_bytes();
        usize::from(u16::from_be_bytes([high, low])) % STRIPES
    }
}

/// A folder's name.
pub(crate) fn folder_name(folder: usize) -> [u8; 2] {
    written(&[folder as u8])
}

/// Where the entries of an owner's sessions are, below the folder of all owners: a digest of the owner in
/// hexadecimal, its first byte as the folder, the others as the folder in it.
///
/// Owners are any text of up to 1,024 bytes, also such as no file system takes for a name. Whoever reads an
/// entry looks at the session's record, too, so two owners of one digest would do no harm.
pub(crate) struct OwnerName {
    shard: u8,
    folder: [u8; 2 * OWNER_BYTES],
}

/// The bytes of an owner's digest that name the owner's folder: with the first one 128 bits, which nobody
/// else's owner has by chance.
const OWNER_BYTES: usize = 15;

impl OwnerName {
    pub(crate) fn of(owner: &str) -> Self {
        let digest = Sha256::digest(owner);
        Self { shard: digest[0], folder: written(&digest[1..=OWNER_BYTES]) }
    }

    /// The number of the folder that the owner's folder is in.
    pub(crate) fn shard(&self) -> usize {
        self.shard.into()
    }

    /// The owner's folder.
    pub(crate) fn folder(&self) -> &[u8] {
        &self.folder
    }

    /// Whether owners' folders are named so.
    pub(crate) fn is_folder(name: &[u8]) -> bool {
        read_bytes(name, &mut [0; OWNER_BYTES]).is_some()
    }

    /// Whether folders that owners' folders are in are named so.
    pub(crate) fn is_shard(name: &[u8]) -> bool {
        read_bytes(name, &mut [0]).is_some()
    }
}

/// Bytes in hexadecimal; `N` is twice their number.
fn written<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; N];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    digits
}

/// Reads what [`written`] makes of so many bytes; `None` if it is anything else.
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

/// The value of a hexadecimal digit; capitals are not what we write.
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

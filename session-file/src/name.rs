//! Where a session's file is.

use session_core::SessionKey;

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
        let bytes = key.as_bytes();
        let mut path = [b'/'; 3 + 2 * FILE_BYTES];
        let [high, low, _, file @ ..] = &mut path;
        [*high, *low] = hexadecimal(bytes[0]);
        for (pair, byte) in file.as_chunks_mut().0.iter_mut().zip(&bytes[1..]) {
            *pair = hexadecimal(*byte);
        }
        Self { key, path }
    }

    /// The name of a file that was found in a folder; `None` unless this is how files are named.
    pub(crate) fn read(folder: usize, file: &[u8]) -> Option<Self> {
        let mut key = [0; SessionKey::BYTES];
        key[0] = u8::try_from(folder).ok()?;
        let (pairs, []) = file.as_chunks::<2>() else { return None };
        if pairs.len() != FILE_BYTES {
            return None;
        }
        for (byte, [high, low]) in key[1..].iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
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

    /// The number of the lock.
    pub(crate) fn stripe(&self) -> usize {
        let [_, high, low, ..] = *self.key.as_bytes();
        usize::from(u16::from_be_bytes([high, low])) % STRIPES
    }
}

/// A folder's name.
pub(crate) fn folder_name(folder: usize) -> [u8; 2] {
    hexadecimal(folder as u8)
}

fn hexadecimal(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
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
    }
}

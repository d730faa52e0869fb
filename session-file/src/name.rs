//! Where a session's file is.

use session_core::SessionId;

/// The number of folders: at a million sessions each holds four thousand files, which a directory
/// index of any file system takes lightly, and an empty store is small.
pub(crate) const FOLDERS: usize = 256;

/// The number of locks: so many that a few hundred operations at once, each of which may hold its
/// lock over an fsync, seldom meet at one.
pub(crate) const STRIPES: usize = 4096;

/// The path of a session's file below the store's directory: the SHA-256 of the id in hexadecimal,
/// its first byte as the folder, the other 31 as the file in it.
///
/// Who can list the directory learns no id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    digest: [u8; 32],
    path: [u8; 65],
}

impl Name {
    pub(crate) fn of(id: &SessionId) -> Self {
        Self::of_digest(id.digest())
    }

    fn of_digest(digest: [u8; 32]) -> Self {
        let mut path = [b'/'; 65];
        let [high, low, _, file @ ..] = &mut path;
        [*high, *low] = hexadecimal(digest[0]);
        for (pair, byte) in file.as_chunks_mut().0.iter_mut().zip(&digest[1..]) {
            *pair = hexadecimal(*byte);
        }
        Self { digest, path }
    }

    /// The name of a file that was found in a folder; `None` unless this is how files are named.
    pub(crate) fn read(folder: usize, file: &[u8]) -> Option<Self> {
        let mut digest = [0; 32];
        digest[0] = u8::try_from(folder).ok()?;
        let (pairs, []) = file.as_chunks::<2>() else { return None };
        if pairs.len() != 31 {
            return None;
        }
        for (byte, [high, low]) in digest[1..].iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self::of_digest(digest))
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The number of the folder.
    pub(crate) fn folder(&self) -> usize {
        usize::from(self.digest[0])
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
        usize::from(u16::from_be_bytes([self.digest[1], self.digest[2]])) % STRIPES
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

    /// Fixed vector: stored sessions must be found again.
    #[test]
    fn the_path_is_the_digest_in_hexadecimal() {
        let name = Name::of(&SessionId::from_bytes([0; 32]));
        let path = "66/687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        assert_eq!(name.path(), path.as_bytes());
        assert_eq!((name.folder(), &folder_name(name.folder())), (0x66, b"66"));
        assert_eq!(name.stripe(), 0x687a % STRIPES);
    }

    #[test]
    fn a_name_is_read_back_and_nothing_else_is() {
        let name = Name::of(&SessionId::from_bytes([1; 32]));
        assert!(Name::read(name.folder(), name.file()) == Some(name));
        let file = name.file();
        let upper = file.to_ascii_uppercase();
        for other in [&file[1..], &file[2..], b"", b".", b"..", &upper, &[file, b"00"].concat()] {
            assert!(Name::read(name.folder(), other).is_none(), "{other:?}");
        }
        assert!(Name::read(256, file).is_none());
    }
}

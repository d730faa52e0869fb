//! [`Limits`]: the maximum size, number of keys and nesting of a session's values.

use serde::{Deserialize, Serialize};

use crate::Error;

/// The limits of one session, which are checked before anything is written.
///
/// A change that makes a session smaller is always allowed, so that lowering a limit does not break sessions
/// that exceed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// The number of bytes of all keys and encoded values together; at most 2³⁰ (1 GiB). Defaults to 65,536
    /// (64 KiB).
    pub bytes: usize,
    /// The number of keys; at most 2³⁰. Defaults to 1,024.
    pub keys: usize,
    /// How deep arrays and maps may nest within a value; at most 512. Defaults to 64.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// The largest `depth` that can be configured: encoding and decoding recurse.
    pub const MAX_DEPTH: usize = 512;
    /// The largest `bytes` that can be configured: loaded values are indexed with 32 bits.
    pub const MAX_BYTES: usize = 1 << 30;

    pub(crate) const DEFAULT: Self = Self { bytes: 64 * 1024, keys: 1024, depth: 64 };

    /// No limits, for values that are already stored.
    pub(crate) const UNLIMITED: Self =
        Self { bytes: usize::MAX, keys: usize::MAX, depth: Self::MAX_DEPTH };

    /// Checks that the limits are in range.
    ///
    /// # Errors
    /// [`Error::Config`] names the limit that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        for (name, value, most) in [
            ("bytes", self.bytes, Self::MAX_BYTES),
            ("keys", self.keys, Self::MAX_BYTES),
            ("depth", self.depth, Self::MAX_DEPTH),
        ] {
            if value == 0 || value > most {
                return Err(Error::config(format_args!(
                    "limits.{name} is {value}; choose 1 to {most}"
                )));
            }
        }
        Ok(())
    }
}

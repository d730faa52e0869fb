//! The base64url of sealed sessions: unpadded and canonical (RFC 4648, section 5).

use std::sync::LazyLock;

/// Decodes with vector instructions, for which most sessions are long enough.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
pub(crate) static TEXT: LazyLock<base64::engine::Simd> =
    LazyLock::new(|| base64::engine::Simd::url_safe(base64::engine::general_purpose::NO_PAD));

/// There are no vector instructions that base64 knows of.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
pub(crate) static TEXT: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::prelude::BASE64_URL_SAFE_NO_PAD);

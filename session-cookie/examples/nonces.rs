//! Seals one session ten million times and checks that no nonce repeats. Run it with `--release`; it
//! needs 300 MB of memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_lite::future::block_on;
use session_cookie::{CookieConfig, CookieProvider, KeyRing};
use session_core::Timestamp;
use session_core::provider::{Provider as _, Record};

const SEALS: usize = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = CookieProvider::new(CookieConfig::new(KeyRing::ephemeral()?));
    let now = Timestamp::from_millis(1_800_000_000_000);
    let id = provider.new_id()?;
    let holder = provider.verifier(&id.into(), "");
    let record = Record::new(holder, now, now.saturating_add(Duration::from_secs(1800)));
    let mut seen = HashSet::<[u8; 12], BuildHasherDefault<Random>>::default();
    seen.reserve(SEALS);
    for _ in 0..SEALS {
        let sealed = block_on(provider.create(&id, record.clone(), now))?;
        let sealed = sealed.ok_or("a sealed session has a new token")?;
        let text = sealed.own_text().ok_or("a sealed session's token has its own text")?;
        // The head, format and key, is 2 bytes; the nonce's 12 bytes follow.
        let mut head = [0; 15];
        BASE64_URL_SAFE_NO_PAD.decode_slice(&text[..20], &mut head)?;
        let nonce = *head[2..].first_chunk().ok_or("a seal has a nonce")?;
        if !seen.insert(nonce) {
            return Err(format!("a nonce repeated after {} seals", seen.len()).into());
        }
    }
    println!("{SEALS} seals of one session, {} different nonces", seen.len());
    Ok(())
}

/// A hasher that takes the first eight bytes, because nonces are random already.
#[derive(Default)]
struct Random(u64);

impl Hasher for Random {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

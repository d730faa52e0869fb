//! Forged and damaged cookies.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::site::{Site, Visitor, key_option};

const MODES: [&str; 2] = ["", "&mode=signed"];

fn site(key: u8, mode: &str) -> Site {
    Site::open("cookie", &format!("{}{mode}", key_option(key)))
}

/// Checks that a cookie is ignored: there is no user, no cookie is set, and a new session gets a new id.
fn is_stranger(site: &Site, visitor: &Visitor, what: &str) {
    let (user, after) = site.user(visitor);
    assert_eq!(user, None, "{what}");
    assert_eq!(&after, visitor, "{what}: announced");
}

#[test]
fn every_flipped_bit_makes_a_stranger() {
    for mode in MODES {
        let site = site(1, mode);
        let visitor = site.enter("ada");
        let seal = BASE64_URL_SAFE_NO_PAD.decode(visitor.text()).unwrap();
        for bit in 0..seal.len() * 8 {
            let mut seal = seal.clone();
            seal[bit / 8] ^= 1 << (bit % 8);
            let text = BASE64_URL_SAFE_NO_PAD.encode(seal);
            is_stranger(&site, &visitor.carrying(&text), &format!("{mode} bit {bit}"));
        }
        // Flips every bit of the text, including unused ones, if it is still a valid cookie then.
        for bit in 0..visitor.text().len() * 8 {
            let mut text = visitor.text().as_bytes().to_vec();
            text[bit / 8] ^= 1 << (bit % 8);
            if text[bit / 8].is_ascii_graphic() && text[bit / 8] != b';' {
                let text = String::from_utf8(text).unwrap();
                is_stranger(&site, &visitor.carrying(&text), &format!("{mode} text bit {bit}"));
            }
        }
        assert_eq!(site.user(&visitor).0.as_deref(), Some("ada"), "the cookie itself is good");
    }
}

#[test]
fn every_truncation_and_extension_makes_a_stranger() {
    for mode in MODES {
        let site = site(1, mode);
        let visitor = site.enter("ada");
        let text = visitor.text();
        for at in 0..text.len() {
            is_stranger(&site, &visitor.carrying(&text[..at]), &format!("{mode} cut at {at}"));
            is_stranger(&site, &visitor.carrying(&text[at + 1..]), &format!("{mode} without {at}"));
        }
        for added in ["A", "AA", "AAA", "AAAA", "=", ".", "%3D"] {
            let longer = format!("{text}{added}");
            is_stranger(&site, &visitor.carrying(&longer), &format!("{mode} with {added}"));
        }
        let huge = text.repeat(4096 / text.len() + 1);
        is_stranger(&site, &visitor.carrying(&huge), "repeated");
    }
}

/// Parts of two cookies can't be combined to a third one.
#[test]
fn parts_of_two_cookies_make_a_stranger() {
    for mode in MODES {
        let site = site(1, mode);
        let (one, two) = (site.enter("ada"), site.enter("bob"));
        assert_eq!(one.text().len(), two.text().len());
        for at in 1..one.text().len() {
            let joined = format!("{}{}", &one.text()[..at], &two.text()[at..]);
            if joined != one.text() && joined != two.text() {
                is_stranger(&site, &one.carrying(&joined), &format!("{mode} joined at {at}"));
            }
        }
    }
}

#[test]
fn a_cookie_under_another_name_makes_a_stranger() {
    for mode in MODES {
        let named = |name: &str| {
            Site::with_config(|config| {
                config.provider = "cookie".into();
                config.source = format!("{}{mode}", key_option(1));
                config.cookie.name = name.into();
            })
        };
        let (admin, shop) = (named("admin"), named("shop"));
        let visitor = shop.enter("ada");
        is_stranger(&admin, &Visitor::with("admin", visitor.text()), mode);
        let prefix = named("sho");
        is_stranger(&prefix, &Visitor::with("sho", visitor.text()), mode);
        assert_eq!(shop.user(&visitor).0.as_deref(), Some("ada"));
    }
}

#[test]
fn a_cookie_of_another_key_or_mode_makes_a_stranger() {
    let [encrypted, signed] = MODES.map(|mode| site(1, mode));
    let (sealed, readable) = (encrypted.enter("ada"), signed.enter("ada"));
    is_stranger(&signed, &sealed, "encrypted, where signed is wanted");
    is_stranger(&encrypted, &readable, "signed, where encrypted is wanted");
    for (mode, visitor) in [(MODES[0], sealed), (MODES[1], readable)] {
        for other in 2..=255 {
            is_stranger(&site(other, mode), &visitor, &format!("{mode} key {other}"));
        }
    }
}

/// Nothing is parsed that was not sealed.
#[test]
fn what_is_not_sealed_is_never_read() {
    for mode in MODES {
        let site = site(1, mode);
        let visitor = site.enter("ada");
        let seal = BASE64_URL_SAFE_NO_PAD.decode(visitor.text()).unwrap();
        let with_format = |format: u8| {
            let mut seal = seal.clone();
            seal[0] = format;
            BASE64_URL_SAFE_NO_PAD.encode(seal)
        };
        for format in (0..=255).filter(|format| *format != seal[0]) {
            let text = with_format(format);
            is_stranger(&site, &visitor.carrying(&text), &format!("{mode} format {format}"));
        }
        for text in [
            r#"{"user":"ada"}"#,
            "eyJ1c2VyIjoiYWRhIn0",
            "user=ada",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            &"A".repeat(64),
            &"A".repeat(107),
            &"AQ".repeat(60),
        ] {
            is_stranger(&site, &visitor.carrying(text), text);
        }
        // A signed cookie without its signature, and one whose signature is zeros.
        let unsigned = BASE64_URL_SAFE_NO_PAD.encode(&seal[..seal.len() - 16]);
        is_stranger(&site, &visitor.carrying(&unsigned), "without a signature");
        let mut zeros = seal.clone();
        let tag = zeros.len() - 16;
        zeros[tag..].fill(0);
        let zeros = BASE64_URL_SAFE_NO_PAD.encode(zeros);
        is_stranger(&site, &visitor.carrying(&zeros), "with a signature of zeros");
    }
}

#[test]
fn expiry_is_inside_and_holds_to_the_millisecond() {
    for mode in MODES {
        let site = site(1, mode);
        let visitor = site.enter("ada");
        site.clock.advance(Duration::from_millis(30 * 60_000 - 1));
        let (user, newer) = site.user(&visitor);
        assert_eq!(user.as_deref(), Some("ada"));
        assert_ne!(newer, visitor, "a read as late as that extends the session");
        site.clock.advance(Duration::from_millis(1));
        is_stranger(&site, &visitor, "the idle time is over");
        assert_eq!(site.user(&newer).0.as_deref(), Some("ada"));
    }
}

#[test]
fn the_absolute_lifetime_is_inside_and_no_use_extends_it() {
    for mode in MODES {
        let site = site(1, mode);
        let mut visitor = site.enter("ada");
        for _ in 0..12 * 4 - 1 {
            site.clock.advance(Duration::from_secs(15 * 60));
            let (user, newer) = site.user(&visitor);
            assert_eq!(user.as_deref(), Some("ada"));
            visitor = newer;
        }
        site.clock.advance(Duration::from_secs(15 * 60));
        is_stranger(&site, &visitor, "12 hours are over");
        // With a longer lifetime and the same key, the sealed times still hold.
        let longer = Site::with_config(|config| {
            config.provider = "cookie".into();
            config.source = format!("{}{mode}", key_option(1));
            config.absolute = Duration::from_secs(1000 * 3600);
            config.idle = Duration::from_secs(1000 * 3600);
        });
        longer.clock.advance(Duration::from_secs(12 * 3600));
        is_stranger(&longer, &visitor, "sealed for 12 hours");
    }
}

#[test]
fn a_cookie_from_the_future_makes_a_stranger() {
    let (ahead, behind) = (site(1, ""), site(1, ""));
    ahead.clock.advance(Duration::from_secs(50));
    let visitor = ahead.enter("ada");
    assert_eq!(behind.user(&visitor).0.as_deref(), Some("ada"), "clocks differ a little");
    ahead.clock.advance(Duration::from_secs(600));
    is_stranger(&behind, &ahead.enter("ada"), "created ten minutes from now");
}

/// The largest session that can be saved can be read until its end, given a new id, and ended.
#[test]
fn a_full_cookie_never_becomes_too_large_by_age() {
    for mode in MODES {
        let site = site(1, mode);
        let full = (2_800..3_100).rev().find_map(|length| {
            let text = "x".repeat(length);
            site.request(&Visitor::default(), async |session| session.set("text", &text)).ok()
        });
        let ((), mut visitor) = full.expect("something fits");
        for _ in 0..12 * 4 - 1 {
            site.clock.advance(Duration::from_secs(15 * 60));
            let read = site.request(&visitor, async |session| session.get::<String>("text"));
            let (text, newer) = read.expect("reading works");
            assert!(text.is_some());
            visitor = newer;
        }
        let renewed = site.request(&visitor, async |session| session.regenerate());
        let ((), visitor) = renewed.expect("a new id fits");
        let ended = site.request(&visitor, async |session| session.destroy().await);
        assert_eq!(ended.expect("ending works").1, Visitor::default());
    }
}

//! Values.
//!
//! Everything that serde can represent is read back unchanged, under any key. Reading a value as another
//! type is an error that names key and type and leaves the session usable.

use std::collections::{BTreeMap, HashMap};

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use session_core::{Error, Session};

use crate::support::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cart {
    owner: Option<String>,
    lines: Vec<Line>,
    notes: BTreeMap<String, u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Line {
    Nothing,
    Item(u32),
    Pair(i8, char),
    Named { sku: String, price: f32 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u64);

/// Sets a value in one request and reads it in the next.
fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| handle.load().await.unwrap().set("k", value).unwrap());
    visitor.visit(async |handle| handle.load().await.unwrap().get("k").unwrap().unwrap()).0
}

fn assert_round_trips<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(round_trip(value), *value);
}

#[test]
fn structs_enums_options_and_maps_round_trip() {
    assert_round_trips(&Cart {
        owner: Some("ada".into()),
        lines: vec![
            Line::Nothing,
            Line::Item(7),
            Line::Pair(-1, 'ß'),
            Line::Named { sku: "x".into(), price: 0.1 },
        ],
        notes: [("a".into(), 1), (String::new(), 0)].into(),
    });
    assert_round_trips(&Unit);
    assert_round_trips(&Wrapped(u64::MAX));
    assert_round_trips(&());
    assert_round_trips(&true);
    assert_round_trips(&'\u{10ffff}');
    assert_round_trips(&(1u8, "two".to_owned(), [3i64; 3]));
    assert_round_trips(&Some(1u8));
    assert_round_trips(&None::<u8>);
    assert_round_trips(&vec![Some(1u8), None]);
    assert_round_trips(&HashMap::from([(1u64, vec!["a".to_owned()]), (2, vec![])]));
    assert_round_trips(&BTreeMap::from([(Line::Nothing.to_string(), Line::Item(1))]));
    assert_round_trips(&"\0 \u{7f} \u{1f600} \"quoted\"".to_owned());
    assert_round_trips(&String::new());
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[test]
fn bytes_and_the_extremes_of_numbers_round_trip() {
    assert_round_trips(&serde_bytes::ByteBuf::from((0..=255).collect::<Vec<u8>>()));
    assert_round_trips(&serde_bytes::ByteBuf::new());
    for n in [i64::MIN, i64::from(i32::MIN), -129, -128, -33, -32, -1, 0, 127, 128, i64::MAX] {
        assert_round_trips(&n);
    }
    for n in [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX] {
        assert_round_trips(&n);
    }
    for x in [0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::EPSILON, 5e-324] {
        assert_eq!(round_trip(&x).to_bits(), x.to_bits());
    }
    assert_round_trips(&f64::INFINITY);
    assert_round_trips(&f64::NEG_INFINITY);
    assert!(round_trip(&f64::NAN).is_nan());
    assert!(round_trip(&f32::NAN).is_nan());
}

#[test]
fn a_nan_that_is_set_again_is_an_equal_value() {
    let site = Site::new();
    let visitor = site.visitor();
    let set = || {
        visitor.visit(async |handle| handle.load().await.unwrap().set("x", &f64::NAN).unwrap());
    };
    set();
    site.store.calls();
    set();
    assert_eq!(site.store.calls(), ["load"]);
}

const KEYS: [&str; 14] = [
    "",
    " ",
    ".",
    "a.b",
    "$",
    "$set",
    "/",
    "../..",
    "\0",
    "\0url",
    "\0\0",
    "ключ",
    "\u{1f511}",
    "_id",
];

#[test]
fn every_key_is_allowed_and_none_meets_another() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for (n, key) in KEYS.iter().enumerate() {
            session.set(key, &n).unwrap();
        }
        session.set_persistent(true).unwrap();
        session.add_flash("", "message").await.unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for (n, key) in KEYS.iter().enumerate() {
            assert_eq!(session.get::<usize>(key).unwrap(), Some(n), "{key:?}");
        }
        let mut sorted = KEYS;
        sorted.sort_unstable();
        assert_eq!(session.keys(), sorted);
        assert!(session.is_persistent(), "an application's key is not the library's");
    });
}

#[test]
fn the_wrong_type_is_an_error_that_names_key_and_type_and_the_session_stays_usable() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        handle.load().await.unwrap().set("user name", "a secret value").unwrap();
    });
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let check = |error: Error| {
            assert!(matches!(error, Error::Decode { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("\"user name\"") && text.contains("u64"), "{text}");
            assert!(!text.contains("secret") && !format!("{error:?}").contains("secret"));
        };
        check(session.get::<u64>("user name").unwrap_err());
        check(session.take::<u64>("user name").unwrap_err());
        check(session.update("user name", |n: Option<u64>| n.unwrap()).await.unwrap_err());
        assert_eq!(session.get::<String>("user name").unwrap().unwrap(), "a secret value");
        session.set("n", &1u64).unwrap();
    });
    assert!(reply.is_plain());
    assert_eq!(visitor.get("n"), Some(1));
}

/// A deployment changed a type. The stored values don't make every page an error.
#[test]
fn a_lenient_session_goes_on_where_a_type_changed() {
    let site = Site::new();
    let visitor = site.visitor();
    let stale = || {
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("cart", "tea").unwrap();
            session.set("n", &1u64).unwrap();
        });
    };
    stale();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap().lenient();
        assert_eq!(session.get::<Vec<u64>>("cart").unwrap(), None);
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        assert_eq!(session.get::<u64>("nothing").unwrap(), None);
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(
            session.get::<String>("cart").unwrap().unwrap(),
            "tea",
            "reading deletes nothing"
        );
        let cart = session
            .lenient()
            .update("cart", |cart: Option<Vec<u64>>| [cart.unwrap_or_default(), vec![1]].concat())
            .await;
        assert_eq!(cart.unwrap(), [1]);
        assert_eq!(session.get::<Vec<u64>>("cart").unwrap().unwrap(), [1]);
    });
    stale();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap().lenient();
        assert_eq!(session.take::<Vec<u64>>("cart").unwrap(), None);
        assert_eq!(session.take::<String>("cart").unwrap().as_deref(), Some("tea"));
        assert_eq!(session.keys(), ["n"]);
        let left = session.try_update("n", |n: Option<String>| Ok::<_, Error>(n)).await;
        assert_eq!((left.unwrap(), session.keys()), (None, vec!["n".to_owned()]));
    });
}

/// Of two requests after the deployment, neither loses the other one's update of the stale value.
#[test]
fn lenient_updates_at_once_lose_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| handle.load().await.unwrap().set("n", "stale").unwrap());
    let requests = [(); 8].map(|()| visitor.begin(http::Method::POST));
    for request in &requests {
        block_on(request.session.lenient().update("n", add_one)).unwrap();
    }
    assert_eq!(visitor.get("n"), Some(8));
}

#[test]
fn of_messages_a_lenient_session_keeps_those_of_the_wanted_type() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", "old").await.unwrap();
        session.add_flash("info", &1u64).await.unwrap();
        session.add_flash("info", &2u64).await.unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert!(session.take_flash::<u64>("info").await.is_err());
        assert_eq!(session.lenient().take_flash::<u64>("info").await.unwrap(), [1, 2]);
        assert_eq!(session.take_flash::<String>("info").await.unwrap(), ["old"]);
    });
}

/// Handlers that need only the four operations take a `dyn Session`, as documented.
#[test]
fn a_lenient_session_is_lenient_as_a_dyn_session() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("cart", 1);
    let request = visitor.begin(Method::GET);
    let lenient = request.session.lenient();
    assert_eq!(lenient.get::<String>("cart").unwrap(), None);
    let dynamic: &dyn Session = &lenient;
    let read = dynamic.get::<String>("cart");
    assert!(matches!(read, Ok(None)), "{read:?}");
}

#[test]
fn a_lenient_try_update_that_sees_nothing_and_leaves_nothing_deletes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("coupon", 1);
    let request = visitor.begin(Method::POST);
    let lenient = request.session.lenient();
    let redeem = |coupon: Option<String>| Ok::<_, Error>(coupon.filter(|_| false));
    assert_eq!(block_on(lenient.try_update("coupon", redeem)).unwrap(), None);
    request.finish().unwrap();
    assert_eq!(visitor.get("coupon"), Some(1), "the old servers' value is gone");
}

#[test]
fn a_lenient_take_of_what_it_cannot_read_deletes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("coupon", 1);
    let request = visitor.begin(Method::POST);
    assert_eq!(request.session.lenient().take::<String>("coupon").unwrap(), None);
    request.finish().unwrap();
    assert_eq!(visitor.get("coupon"), Some(1), "the old servers' value is gone");
}

#[test]
fn a_lenient_take_flash_leaves_the_messages_that_it_cannot_read() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", &1u64).await.unwrap();
        session.add_flash("info", "two").await.unwrap();
    });
    let request = visitor.begin(Method::POST);
    let taken = block_on(request.session.lenient().take_flash::<String>("info")).unwrap();
    assert_eq!(taken, ["two"]);
    request.finish().unwrap();
    let left = visitor.visit(async |handle| {
        handle.load().await.unwrap().lenient().take_flash::<u64>("info").await.unwrap()
    });
    assert_eq!(left.0, [1], "the old servers' message is gone, unseen");
}

#[test]
fn what_serde_cannot_represent_is_an_error_and_changes_nothing() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("a secret value"))
        }
    }
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("k", 1);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let error = session.set("k", &Fails).unwrap_err();
        assert!(matches!(&error, Error::Encode { key, .. } if &**key == "k"), "{error:?}");
        assert!(!error.to_string().contains("secret"));
        session.add_flash("k", &Fails).await.unwrap_err();
    });
    assert_eq!(visitor.get("k"), Some(1));
}

#[test]
fn take_reads_and_removes() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (taken, _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let taken = [session.take::<u64>("n").unwrap(), session.take("n").unwrap()];
        assert!(session.keys().is_empty());
        taken
    });
    assert_eq!(taken, [Some(1), None]);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(site.count(), 1, "an emptied session is a session still");
}

#[test]
fn clear_removes_all_values_and_nothing_else() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("a", &1).unwrap();
        session.set("\0b", &2).unwrap();
        session.set_persistent(true).unwrap();
        session.add_flash("news", "kept").await.unwrap();
    });
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("c", &3).unwrap();
        session.clear().unwrap();
        assert!(session.keys().is_empty());
    });
    assert!(reply.is_plain());
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert!(session.keys().is_empty());
        assert!(session.is_persistent());
        assert_eq!(session.take_flash::<String>("news").await.unwrap(), ["kept"]);
    });
}

#[test]
fn keys_are_listed_in_order_with_the_changes_of_this_request() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for key in ["m", "b", "z"] {
            session.set(key, &1).unwrap();
        }
    });
    let (keys, _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("a", &1).unwrap();
        session.set("m", &2).unwrap();
        session.delete("z").unwrap();
        session.keys()
    });
    assert_eq!(keys, ["a", "b", "m"]);
}

#[test]
fn a_dyn_session_does_what_the_session_does() {
    fn through(session: &dyn Session) {
        session.set("n", &41u64).unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(41));
        session.set_encoded("n", vec![42]).unwrap();
        assert_eq!(session.get_encoded("n").unwrap(), Some(vec![42]));
        session.set("gone", "x").unwrap();
        session.delete("gone").unwrap();
        let id = || session.id().unwrap().text().to_string();
        assert_eq!(id(), id());
        for bad in [&[][..], &[0xc1], &[1, 2], &[0x92, 1]] {
            let error = session.set_encoded("n", bad.to_vec()).unwrap_err();
            assert!(matches!(error, Error::Encode { .. }), "{error:?}");
        }
        let mut deep = vec![0x91; 65];
        deep.push(0xc0);
        let error = session.set_encoded("n", deep).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: "value depth", limit: 64 }));
    }
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| through(&handle.load().await.unwrap()));
    assert_eq!(visitor.get("n"), Some(42));
}

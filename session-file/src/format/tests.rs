use proptest::prelude::*;
use session_core::provider::{Login, Verifier};

use super::*;

/// The session that the corpus was written for.
const KEY: SessionKey = SessionKey::from_bytes([0xd1; SessionKey::BYTES]);
const OTHER: SessionKey = SessionKey::from_bytes([9; SessionKey::BYTES]);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(0x0102_0304_0506_0700 + millis)
}

/// A record in which no two things are alike.
fn record(login: Option<(&str, &str)>, values: &[(&str, &[u8])]) -> Record {
    Record {
        holder: Verifier::from_bytes(std::array::from_fn(|byte| 0x20 + byte as u8)),
        created: at(8),
        renewed: at(9),
        used: at(10),
        expires: EXPIRES,
        login: login.map(|(owner, label)| {
            Box::new(Login { owner: owner.into(), at: at(11), label: label.into() })
        }),
        cookie: 0,
        values: values.iter().copied().collect(),
        note: None,
    }
}

fn sample() -> Record {
    let values: [(&str, &[u8]); 3] =
        [("", &[0xc0]), ("count", &[0x07]), ("name", &[0xa2, b'h', b'i'])];
    Record { cookie: 0xfeed_beef, ..record(Some(("ada", "phone")), &values) }
}

/// Sets length and checksum of a file that was tampered with, as malice would.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(file.len()).expect("it is small").to_be_bytes();
    file[12..16].copy_from_slice(&length);
    let checksum = crc32fast::hash(&file[12..]).to_be_bytes();
    file[8..12].copy_from_slice(&checksum);
    file
}

fn hex(file: &[u8]) -> String {
    file.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with a file, if anything is.
fn check(file: &[u8]) -> Result<(), &'static str> {
    match decode(file, KEY, EXPIRES) {
        Ok(_) => Ok(()),
        Err(Error::Unreadable { reason }) => Err(reason),
        Err(other) => panic!("reading a file fails with {other:?}"),
    }
}

/// Fixed vectors: files on disk must stay readable. What follows the header is fixed by the tests of
/// `Record::to_bytes`.
#[test]
fn files_are_written_as_documented() {
    let key = SessionKey::from_bytes(std::array::from_fn(|byte| 0x10 + byte as u8));
    for (record, header) in [
        (record(None, &[]), "73657373696f6e01320de22b00000075101112131415161718191a1b"),
        (sample(), "73657373696f6e013ebc068f000000a3101112131415161718191a1b"),
    ] {
        let file = encode(&record, key);
        assert_eq!(hex(&file[..HEADER]), header);
        assert_eq!(file[HEADER..], record.to_bytes());
    }
}

#[test]
fn a_file_is_read_back_under_its_key_alone() {
    for record in [sample(), record(None, &[]), record(Some(("", "")), &[])] {
        let file = encode(&record, KEY);
        let later = EXPIRES.saturating_add(std::time::Duration::from_secs(1));
        let touched = decode(&file, KEY, later).expect("it is a session's");
        assert_eq!(touched, Record { expires: later, ..record }, "the expiry is the file system's");
        let other = decode(&file, OTHER, EXPIRES);
        let reason = "it was written for another session";
        assert!(matches!(other, Err(Error::Unreadable { reason: r }) if r == reason), "{other:?}");
    }
}

#[test]
fn a_file_cut_anywhere_or_with_a_byte_more_is_refused() {
    let file = encode(&sample(), KEY);
    for length in 0..file.len() {
        assert!(check(&file[..length]).is_err(), "cut at {length}");
    }
    let longer = [&file[..], &[0xc0]].concat();
    assert!(check(&longer).is_err());
    // Even where length and checksum say that it is so.
    for length in HEADER..file.len() {
        assert!(check(&resealed(file[..length].into())).is_err(), "{length}");
    }
    assert_eq!(check(&resealed(longer)), Err("bytes follow its last value"));
}

#[test]
fn any_flipped_bit_is_found() {
    let file = encode(&sample(), KEY);
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&file).is_err(), "bit {bit}");
    }
}

#[test]
fn unknown_versions_are_refused() {
    for at in [7, HEADER] {
        for version in [0, 2] {
            let mut file = encode(&sample(), KEY);
            file[at] = version;
            assert_eq!(check(&resealed(file)), Err("its version is unknown"), "{version} at {at}");
        }
    }
}

/// Files of all kinds, made by another program from the format's description: the good ones can be
/// read, the others not. New findings belong there, too.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let files = std::fs::read_dir(folder).expect("the corpus is there").map(|file| {
        let file = file.expect("is listed");
        let name = file.file_name().into_string().expect("is text");
        (name, std::fs::read(file.path()).expect("is read"))
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() >= 30, "the corpus is not whole");
    files
}

#[test]
fn the_corpus_is_read_as_its_names_say() {
    for (name, file) in corpus() {
        match check(&file) {
            Ok(()) => assert!(name.starts_with("good-"), "{name} can be read"),
            Err(reason) => assert!(name.starts_with("bad-"), "{name}: {reason}"),
        }
    }
}

/// What can be read is what would be written: damage under a valid checksum is either refused, or
/// makes another record, never something in between.
fn check_refused_or_canonical(file: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(read) = decode(file, KEY, EXPIRES) {
        let expires = Record::from_bytes(&file[HEADER..]).expect("it was just read").expires;
        prop_assert_eq!(encode(&Record { expires, ..read }, KEY), file);
    }
    Ok(())
}

fn any_record() -> impl Strategy<Value = Record> {
    let value = prop_oneof![
        Just(vec![0xc0]),
        (0..128u8).prop_map(|n| vec![n]),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| [
            &[0xc4, bytes.len() as u8],
            &bytes[..]
        ]
        .concat()),
    ];
    let values = prop::collection::btree_map(".{0,6}", value, 0..6);
    let login = (".{0,6}", any::<u64>(), ".{0,6}").prop_map(|(owner, at, label)| {
        let at = Timestamp::from_millis(at);
        Box::new(Login { owner: owner.into(), at, label: label.into() })
    });
    let times = any::<[u64; 3]>().prop_map(|times| times.map(Timestamp::from_millis));
    let head = (any::<[u8; 32]>(), times, any::<u32>());
    (head, prop::option::of(login), values).prop_map(
        |((holder, [created, renewed, used], cookie), login, values)| Record {
            holder: Verifier::from_bytes(holder),
            created,
            renewed,
            used,
            expires: EXPIRES,
            login,
            cookie,
            values: values.into_iter().collect(),
            note: None,
        },
    )
}

proptest! {
    #[test]
    fn records_round_trip(record in any_record(), key: [u8; SessionKey::BYTES]) {
        let key = SessionKey::from_bytes(key);
        let file = encode(&record, key);
        prop_assert_eq!(decode(&file, key, record.expires).expect("it is a session's"), record);
    }

    #[test]
    fn reading_anything_never_panics(file: Vec<u8>) {
        let _ = decode(&file, KEY, EXPIRES);
    }

    #[test]
    fn tampered_files_are_refused_or_canonical(
        record in any_record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = encode(&record, KEY);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(16 + cut.index(file.len() - 15));
        }
        check_refused_or_canonical(&resealed(file))?;
    }

    /// From the corpus on: bytes changed, and pieces of one file put into another.
    #[test]
    fn mixtures_of_the_corpus_are_refused_or_canonical(
        start in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<[prop::sample::Index; 3]>()),
            0..3,
        ),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        sealed: bool,
    ) {
        let corpus = corpus();
        let pick = |index: prop::sample::Index| &corpus[index.index(corpus.len())].1;
        let mut file = pick(start).clone();
        for (from, [first, second, at]) in pieces {
            let other = pick(from);
            let ends = [first, second].map(|index| index.index(other.len() + 1));
            let (begin, end) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
            let at = at.index(file.len() + 1);
            file.splice(at..at, other[begin..end].iter().copied());
        }
        for (at, byte) in changes {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = byte;
            }
        }
        if sealed && file.len() >= 16 {
            file = resealed(file);
        }
        check_refused_or_canonical(&file)?;
    }
}

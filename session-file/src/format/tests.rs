use proptest::prelude::*;

use super::*;

const DIGEST: [u8; 32] = [0xd1; 32];
const NEXT: [u8; 32] = [0x4e; 32];
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn record(owner: Option<&str>, values: &[(&str, &[u8])]) -> Record {
    Record {
        created: Timestamp::from_millis(0x0102_0304_0506_0708),
        expires: EXPIRES,
        owner: owner.map(Into::into),
        values: values.iter().copied().collect(),
    }
}

fn sample() -> Record {
    record(Some("ada"), &[("", &[0xc0]), ("count", &[0x07]), ("name", &[0xa2, b'h', b'i'])])
}

/// Sets length and checksum of a file that was tampered with, as malice would.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    let length = number(file.len());
    file[12..16].copy_from_slice(&length);
    let checksum = crc32fast::hash(&file[12..]).to_be_bytes();
    file[8..12].copy_from_slice(&checksum);
    file
}

fn hex(file: &[u8]) -> String {
    file.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fixed vectors: files on disk must stay readable.
#[test]
fn files_are_written_as_documented() {
    let empty = "73657373696f6e01".to_owned()
        + "81cee450"
        + "00000060"
        + &"d1".repeat(32)
        + &"00".repeat(32)
        + "0102030405060708"
        + "ffffffff"
        + "00000000";
    assert_eq!(hex(&encode(&record(None, &[]), &DIGEST, None)), empty);
    let full = "73657373696f6e01".to_owned()
        + "16c54cbd"
        + "00000089"
        + &"d1".repeat(32)
        + &"4e".repeat(32)
        + "0102030405060708"
        + "00000003"
        + "00000003"
        + "616461"
        + "0000000000000001c0"
        + "0000000500000001636f756e7407"
        + "00000004000000036e616d65a26869";
    assert_eq!(hex(&encode(&sample(), &DIGEST, Some(&NEXT))), full);
}

#[test]
fn a_file_is_read_back_under_its_id_and_the_one_it_moves_to() {
    let file = encode(&sample(), &DIGEST, Some(&NEXT));
    assert_eq!(file.len(), encoded_len(&sample()));
    assert_eq!(decode(&file, &DIGEST, EXPIRES), Ok(sample()));
    assert_eq!(decode(&file, &NEXT, EXPIRES), Ok(sample()));
    assert_eq!(decode(&file, &[9; 32], EXPIRES), Err("it was written for another session"));
    let file = encode(&sample(), &DIGEST, None);
    assert_eq!(decode(&file, &NEXT, EXPIRES), Err("it was written for another session"));
}

#[test]
fn a_file_cut_anywhere_or_with_a_byte_more_is_refused() {
    let file = encode(&sample(), &DIGEST, None);
    for length in 0..file.len() {
        assert!(decode(&file[..length], &DIGEST, EXPIRES).is_err(), "cut at {length}");
    }
    let longer = [&file[..], &[0xc0]].concat();
    assert!(decode(&longer, &DIGEST, EXPIRES).is_err());
    // Even where length and checksum say that it is so.
    for length in HEADER..file.len() {
        assert!(decode(&resealed(file[..length].into()), &DIGEST, EXPIRES).is_err(), "{length}");
    }
    assert_eq!(decode(&resealed(longer), &DIGEST, EXPIRES), Err("bytes follow its last value"));
}

#[test]
fn any_flipped_bit_is_found() {
    let file = encode(&sample(), &DIGEST, None);
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&file, &DIGEST, EXPIRES).is_err(), "bit {bit}");
    }
}

#[test]
fn valid_checksums_are_not_trusted() {
    let file = encode(&sample(), &DIGEST, None);
    let tampered = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&resealed(file), &DIGEST, EXPIRES)
    };
    let first_key = HEADER + 3;
    for lengths_at in [88, 92, first_key, first_key + 4] {
        for length in [u32::MAX, u32::MAX - 1, 1 << 31, 1 << 16, 100] {
            let result = tampered(lengths_at, &length.to_be_bytes());
            assert!(result.is_err(), "a length of {length} at {lengths_at}");
        }
    }
    assert_eq!(tampered(HEADER, &[0xff]), Err("a text is not UTF-8"), "the owner");
    assert_eq!(tampered(first_key + 8, &[0xc1]), Err("a value is not MessagePack"));
    assert_eq!(tampered(7, &[2]), Err("its version is unknown"));
    assert_eq!(tampered(7, &[0]), Err("its version is unknown"));

    // A whole key in the place of another: in no order, or twice.
    let twice = record(None, &[("a", &[1]), ("b", &[2])]);
    let file = encode(&twice, &DIGEST, None);
    for (second, wanted) in [(b'a', Err("its keys are not in order")), (b'c', Ok(()))] {
        let mut file = file.clone();
        let at = file.len() - 2;
        file[at] = second;
        assert_eq!(decode(&resealed(file), &DIGEST, EXPIRES).map(drop), wanted);
    }
}

#[test]
fn values_deeper_than_any_limit_are_refused() {
    for (depth, wanted) in [(512, Ok(())), (1000, Err("a value nests too deep"))] {
        let mut value = vec![0x91; depth];
        value.push(0xc0);
        let file = encode(&record(None, &[("deep", &value)]), &DIGEST, None);
        assert_eq!(decode(&file, &DIGEST, EXPIRES).map(drop), wanted, "depth {depth}");
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
        match decode(&file, &DIGEST, EXPIRES) {
            Ok(_) => assert!(name.starts_with("good-"), "{name} can be read"),
            Err(reason) => assert!(name.starts_with("bad-"), "{name}: {reason}"),
        }
    }
}

/// What can be read is what would be written: damage under a valid checksum is either refused, or
/// makes another record, never something in between.
fn check_refused_or_canonical(file: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(read) = decode(file, &DIGEST, EXPIRES) {
        let next: [u8; 32] = file[48..80].try_into().unwrap();
        let digest: [u8; 32] = file[16..48].try_into().unwrap();
        prop_assert_eq!(encode(&read, &digest, Some(&next)), file);
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
    (any::<u64>(), prop::option::of(".{0,6}"), values).prop_map(|(created, owner, values)| Record {
        created: Timestamp::from_millis(created),
        expires: EXPIRES,
        owner: owner.map(Into::into),
        values: values.into_iter().collect(),
    })
}

proptest! {
    #[test]
    fn records_round_trip(record in any_record(), renamed: bool) {
        let file = encode(&record, &DIGEST, renamed.then_some(&NEXT));
        prop_assert_eq!(file.len(), encoded_len(&record));
        prop_assert_eq!(decode(&file, &DIGEST, EXPIRES), Ok(record));
    }

    #[test]
    fn reading_anything_never_panics(file: Vec<u8>) {
        let _ = decode(&file, &DIGEST, EXPIRES);
    }

    #[test]
    fn tampered_files_are_refused_or_canonical(
        record in any_record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = encode(&record, &DIGEST, None);
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

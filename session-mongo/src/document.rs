//! The stored document.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::{CStr, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use session_core::{Error, Record, SessionId, Timestamp, Values};

use crate::field;

/// The SHA-256 of the session's id: unique, and what every operation finds its document by.
pub(crate) const KEY: &str = "key";
/// The version of this layout.
pub(crate) const VERSION: &str = "v";
/// When the session was created.
pub(crate) const CREATED: &str = "created";
/// The instant from which it is gone.
pub(crate) const EXPIRES: &str = "expires";
/// The account it belongs to; not there for nobody's.
pub(crate) const OWNER: &str = "owner";
/// The encoded values by [field name](crate::field::name).
pub(crate) const VALUES: &str = "values";

/// The only version there is.
pub(crate) const CURRENT: i32 = 1;

/// How many bytes of keys and values a session may have: MongoDB's documents end at 16 MiB, and
/// the rest is for field names and bookkeeping.
pub(crate) const MAX_BYTES: usize = 15 << 20;

/// Why a document is not a session. Loading reports it as [`Error::Unreadable`].
fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}

/// What the id of a document's session looks like in `key`.
pub(crate) fn key(id: &SessionId) -> Bson {
    Bson::Binary(binary(&id.digest()))
}

/// Opaque bytes.
pub(crate) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// An instant as a Date, which has one bit less: the last instants of all are one.
pub(crate) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The instant of a Date. Those before 1970 are 1970; the last one is the last one.
fn timestamp(date: DateTime) -> Timestamp {
    match date.timestamp_millis() {
        i64::MAX => Timestamp::MAX,
        millis => Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)),
    }
}

/// The document of a new session; a replacement has no `_id` of its own.
pub(crate) fn encode(
    id: &SessionId,
    record: &Record,
    own: Option<ObjectId>,
) -> Result<RawDocumentBuf, Error> {
    if record.values.size() > MAX_BYTES {
        return Err(Error::TooLarge { what: "session bytes", limit: MAX_BYTES });
    }
    let generic = |bytes| RawBinaryRef { subtype: BinarySubtype::Generic, bytes };
    let mut values = RawDocumentBuf::new();
    for (key, value) in record.values.iter() {
        let name = field::name(key);
        let name: &CStr = (&*name).try_into().expect("field names have no NUL");
        values.append(name, generic(value));
    }
    let mut document = RawDocumentBuf::new();
    if let Some(own) = own {
        document.append(cstr!("_id"), own);
    }
    document.append(cstr!("key"), generic(&id.digest()));
    document.append(cstr!("v"), CURRENT);
    document.append(cstr!("created"), date(record.created));
    document.append(cstr!("expires"), date(record.expires));
    if let Some(owner) = &record.owner {
        document.append(cstr!("owner"), &**owner);
    }
    document.append(cstr!("values"), values);
    Ok(document)
}

/// The fields that [`decode`] reads: what others keep in the document stays at the server.
pub(crate) fn projection() -> Document {
    doc! { "_id": 0, VERSION: 1, CREATED: 1, EXPIRES: 1, OWNER: 1, VALUES: 1 }
}

/// The record of a stored document, whatever it may hold.
///
/// Values are taken as they are; nothing below them is parsed. Fields of others are left alone.
pub(crate) fn decode(document: &RawDocument) -> Result<Record, Error> {
    let mut version = None;
    let mut created = None;
    let mut expires = None;
    let mut owner = None;
    let mut values = None;
    for element in document {
        let (name, value) = element.map_err(|_| unreadable("the document is damaged"))?;
        match name.as_str() {
            VERSION => version = Some(value),
            CREATED => created = Some(value),
            EXPIRES => expires = Some(value),
            OWNER => owner = Some(value),
            VALUES => values = Some(value),
            _ => {}
        }
    }
    // Tools that copy databases through JavaScript change the type of numbers.
    let current = match version {
        Some(RawBsonRef::Int32(version)) => version == CURRENT,
        Some(RawBsonRef::Int64(version)) => version == i64::from(CURRENT),
        Some(RawBsonRef::Double(version)) => version == f64::from(CURRENT),
        _ => false,
    };
    if !current {
        return Err(unreadable("its field `v` is not 1"));
    }
    let (Some(RawBsonRef::DateTime(created)), Some(RawBsonRef::DateTime(expires))) =
        (created, expires)
    else {
        return Err(unreadable("its fields `created` and `expires` are not both dates"));
    };
    let owner = match owner {
        None | Some(RawBsonRef::Null) => None,
        Some(RawBsonRef::String(owner)) => Some(owner.into()),
        Some(_) => return Err(unreadable("its field `owner` is not a string")),
    };
    let Some(RawBsonRef::Document(values)) = values else {
        return Err(unreadable("its field `values` is not a document"));
    };
    let values = decode_values(values)?;
    Ok(Record { created: timestamp(created), expires: timestamp(expires), owner, values })
}

fn decode_values(document: &RawDocument) -> Result<Values, Error> {
    if document.as_bytes().len() > MAX_BYTES {
        return Err(unreadable("it is too large"));
    }
    let mut entries = Vec::new();
    for element in document {
        let (name, value) = element.map_err(|_| unreadable("the document is damaged"))?;
        let Some(key) = field::key(name.as_str()) else { continue };
        match value {
            RawBsonRef::Binary(value) if value.subtype == BinarySubtype::Generic => {
                entries.push((key, value.bytes));
            }
            _ => return Err(unreadable("one of its values is not binary")),
        }
    }
    Ok(entries.into_iter().collect())
}

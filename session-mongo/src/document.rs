//! The layout of a stored document.

use std::borrow::Cow;

use mongodb::bson::raw::{CStr, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use session_core::provider::{Login, Record, Summary, Values, Verifier};
use session_core::{Error, SessionKey, Timestamp};

use crate::field;

/// The session's key, by which every operation finds the document.
pub(crate) const ID: &str = "_id";
/// The version of this layout.
pub(crate) const VERSION: &str = "v";
/// The verifier of the client's secret.
pub(crate) const HOLDER: &str = "holder";
/// When the session was created.
pub(crate) const CREATED: &str = "created";
/// When the session got its current secret.
pub(crate) const RENEWED: &str = "renewed";
/// When the session was last used.
pub(crate) const USED: &str = "used";
/// When the session expires.
pub(crate) const EXPIRES: &str = "expires";
/// Who is logged in, since when, and the session's label; absent if nobody is logged in.
pub(crate) const LOGIN: &str = "login";
/// The path of the owner's field.
pub(crate) const OWNER: &str = "login.owner";
/// The fingerprint of the cookie that the client was sent last.
pub(crate) const COOKIE: &str = "cookie";
/// The encoded values by [field name](crate::field::name).
pub(crate) const VALUES: &str = "values";

/// The current version.
pub(crate) const CURRENT: i32 = 1;

/// The most bytes of keys and values that a session may have. MongoDB limits documents to 16 MiB, and
/// the rest is for field names and the other fields. The server refuses larger documents in any case.
pub(crate) const MAX_BYTES: usize = 15 << 20;

/// Makes the error for a document that can't be read as a session.
fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}

/// Encodes a session's key for `_id`.
pub(crate) fn id(key: &SessionKey) -> Binary {
    binary(key.as_bytes())
}

/// Encodes a verifier for `holder`.
pub(crate) fn holder(holder: &Verifier) -> Binary {
    binary(holder.as_bytes())
}

/// Encodes opaque bytes.
pub(crate) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// Encodes a time as a Date. A Date has one bit less, so all times beyond its range become its last one.
pub(crate) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// Decodes a Date. Times before 1970 become 1970, and the last Date becomes [`Timestamp::MAX`].
fn timestamp(date: DateTime) -> Timestamp {
    match date.timestamp_millis() {
        i64::MAX => Timestamp::MAX,
        millis => Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)),
    }
}

/// Encodes a login for `login`.
pub(crate) fn login(login: &Login) -> Document {
    doc! { "owner": &*login.owner, "at": date(login.at), "label": &*login.label }
}

/// Encodes a record as a document.
///
/// # Errors
/// [`Error::TooLarge`] if the keys and values have more than [`MAX_BYTES`].
pub(crate) fn encode(key: &SessionKey, record: &Record) -> Result<RawDocumentBuf, Error> {
    if record.values.size() > MAX_BYTES {
        return Err(Error::TooLarge { what: "session bytes", limit: MAX_BYTES });
    }
    let generic = |bytes| RawBinaryRef { subtype: BinarySubtype::Generic, bytes };
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), generic(key.as_bytes()));
    document.append(cstr!("v"), CURRENT);
    document.append(cstr!("holder"), generic(record.holder.as_bytes()));
    document.append(cstr!("created"), date(record.created));
    document.append(cstr!("renewed"), date(record.renewed));
    document.append(cstr!("used"), date(record.used));
    document.append(cstr!("expires"), date(record.expires));
    if let Some(login) = &record.login {
        let mut fields = RawDocumentBuf::new();
        fields.append(cstr!("owner"), &*login.owner);
        fields.append(cstr!("at"), date(login.at));
        fields.append(cstr!("label"), &*login.label);
        document.append(cstr!("login"), fields);
    }
    document.append(cstr!("cookie"), i64::from(record.cookie));
    let mut values = RawDocumentBuf::new();
    for (key, value) in record.values.iter() {
        let name = field::name(key);
        let name: &CStr = (&*name).try_into().expect("field names have no NUL");
        values.append(name, generic(value));
    }
    document.append(cstr!("values"), values);
    Ok(document)
}

/// Projects a document to the fields that [`decode`] reads. Other programs' fields stay at the server.
pub(crate) fn projection() -> Document {
    let mut fields = summary_projection();
    fields.insert(ID, 0);
    fields.insert(VALUES, 1);
    fields
}

/// Projects a document to the fields that [`summary`] reads: all but the values.
pub(crate) fn summary_projection() -> Document {
    doc! {
        ID: 1, VERSION: 1, HOLDER: 1, CREATED: 1, RENEWED: 1, USED: 1, EXPIRES: 1, LOGIN: 1, COOKIE: 1,
    }
}

/// Decodes a stored document, which may hold anything.
///
/// The values' contents are not parsed. Other programs' fields are ignored.
pub(crate) fn decode(document: &RawDocument) -> Result<Record, Error> {
    let fields = Fields::read(document)?;
    let Some(RawBsonRef::Document(values)) = fields.values else {
        return Err(unreadable("its field `values` is not a document"));
    };
    Ok(Record { values: decode_values(values)?, ..fields.record()? })
}

/// Returns the session's key of a stored document; `None` if its `_id` is not a session's key.
pub(crate) fn key(document: &RawDocument) -> Option<SessionKey> {
    generic(document.get(ID).ok()?).map(SessionKey::from_bytes)
}

/// Decodes a stored document, which may hold anything, for the list of an owner's sessions. Returns
/// `None` if it is not a live session (loading it reports why), and if it is not the owner's: in a
/// collection with a collation, the server may find `Ada` for `ada`.
pub(crate) fn summary(document: &RawDocument, owner: &str, now: Timestamp) -> Option<Summary> {
    let record = Fields::read(document).ok()?.record().ok()?;
    let is_listed = record.is_live(now) && record.owner() == Some(owner);
    record.summary(key(document)?).filter(|_| is_listed)
}

/// The fields of a document, not decoded yet.
#[derive(Default)]
struct Fields<'d> {
    version: Option<RawBsonRef<'d>>,
    holder: Option<RawBsonRef<'d>>,
    created: Option<RawBsonRef<'d>>,
    renewed: Option<RawBsonRef<'d>>,
    used: Option<RawBsonRef<'d>>,
    expires: Option<RawBsonRef<'d>>,
    login: Option<RawBsonRef<'d>>,
    cookie: Option<RawBsonRef<'d>>,
    values: Option<RawBsonRef<'d>>,
}

impl<'d> Fields<'d> {
    fn read(document: &'d RawDocument) -> Result<Self, Error> {
        let mut fields = Self::default();
        for element in document {
            let (name, value) = element.map_err(|_| unreadable("the document is damaged"))?;
            if let Some(field) = fields.of(name.as_str()) {
                *field = Some(value);
            }
        }
        Ok(fields)
    }

    /// Decodes the record without its values.
    fn record(&self) -> Result<Record, Error> {
        if whole(self.version) != Some(i64::from(CURRENT)) {
            return Err(unreadable("its field `v` is not 1"));
        }
        let holder =
            generic(self.holder).ok_or(unreadable("its field `holder` is not 32 bytes"))?;
        let instant = |field: Option<RawBsonRef<'_>>| match field {
            Some(RawBsonRef::DateTime(date)) => Ok(timestamp(date)),
            _ => Err(unreadable(
                "its fields `created`, `renewed`, `used` and `expires` are not all dates",
            )),
        };
        let cookie = whole(self.cookie).and_then(|cookie| u32::try_from(cookie).ok());
        Ok(Record {
            holder: Verifier::from_bytes(holder),
            created: instant(self.created)?,
            renewed: instant(self.renewed)?,
            used: instant(self.used)?,
            expires: instant(self.expires)?,
            login: decode_login(self.login)?,
            cookie: cookie.ok_or(unreadable("its field `cookie` is not a number of 32 bits"))?,
            values: Values::default(),
            note: None,
        })
    }

    fn of(&mut self, name: &str) -> Option<&mut Option<RawBsonRef<'d>>> {
        Some(match name {
            VERSION => &mut self.version,
            HOLDER => &mut self.holder,
            CREATED => &mut self.created,
            RENEWED => &mut self.renewed,
            USED => &mut self.used,
            EXPIRES => &mut self.expires,
            LOGIN => &mut self.login,
            COOKIE => &mut self.cookie,
            VALUES => &mut self.values,
            _ => return None,
        })
    }
}

/// Returns the bytes of a Binary of subtype 0 and of this length.
fn generic<const LENGTH: usize>(value: Option<RawBsonRef<'_>>) -> Option<[u8; LENGTH]> {
    match value? {
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Generic => {
            binary.bytes.try_into().ok()
        }
        _ => None,
    }
}

/// Returns a whole number of any numeric type, because tools that copy databases through JavaScript
/// change the types of numbers.
fn whole(value: Option<RawBsonRef<'_>>) -> Option<i64> {
    match value? {
        RawBsonRef::Int32(number) => Some(number.into()),
        RawBsonRef::Int64(number) => Some(number),
        RawBsonRef::Double(number) if number.fract() == 0.0 => Some(number as i64),
        _ => None,
    }
}

fn decode_login(login: Option<RawBsonRef<'_>>) -> Result<Option<Box<Login>>, Error> {
    let document = match login {
        None | Some(RawBsonRef::Null) => return Ok(None),
        Some(RawBsonRef::Document(document)) => document,
        Some(_) => return Err(unreadable("its field `login` is not a document")),
    };
    let wrong = |_| unreadable("its field `login` lacks a valid `owner`, `at` or `label`");
    Ok(Some(Box::new(Login {
        owner: document.get_str("owner").map_err(wrong)?.into(),
        at: timestamp(document.get_datetime("at").map_err(wrong)?),
        label: document.get_str("label").map_err(wrong)?.into(),
    })))
}

/// Decodes the values without a limit on their size. The server limits documents to 16 MiB, and whatever
/// was stored within that limit must be loadable.
fn decode_values(document: &RawDocument) -> Result<Values, Error> {
    let mut entries: Vec<(Cow<'_, str>, &[u8])> = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::SessionId;

    const NOW: Timestamp = Timestamp::from_millis(5);
    const EXPIRES: Timestamp = Timestamp::from_millis(9);

    /// In a collection with a collation, the server may take different owners for the same.
    #[test]
    fn a_list_shows_live_sessions_of_this_very_owner() {
        let id = SessionId::from_bytes([7; 32]);
        let login = Login { owner: "ada".into(), at: NOW, label: "Firefox".into() };
        let record = Record::new(Verifier::from_bytes([1; 32]), NOW, EXPIRES);
        let record = Record { login: Some(Box::new(login)), ..record };
        let document = encode(&id.key(), &record).unwrap();
        let listed = |owner, now| summary(&document, owner, now);
        assert_eq!(listed("ada", NOW), record.summary(id.key()));
        assert_eq!(listed("ada", EXPIRES), None);
        for owner in ["Ada", "\u{e1}da", "ada\0", "ada ", "ad", ""] {
            assert_eq!(listed(owner, NOW), None, "{owner:?}");
        }
        let anonymous = encode(&id.key(), &Record { login: None, ..record }).unwrap();
        assert_eq!(summary(&anonymous, "", NOW), None);
    }
}

//! The stored document.

use std::borrow::Cow;

use mongodb::bson::raw::{CStr, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use session_core::provider::{Login, Record, Summary, Values, Verifier};
use session_core::{Error, SessionKey, Timestamp};

use crate::field;

/// The session's key: what every operation finds its document by.
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
/// The instant from which it is gone.
pub(crate) const EXPIRES: &str = "expires";
/// Who is logged in, since when, and what the session is called; not there if nobody is.
pub(crate) const LOGIN: &str = "login";
/// The path to whoever is logged in.
pub(crate) const OWNER: &str = "login.owner";
/// The fingerprint of what the client was told last.
pub(crate) const COOKIE: &str = "cookie";
/// The encoded values by [field name](crate::field::name).
pub(crate) const VALUES: &str = "values";

/// The only version there is.
pub(crate) const CURRENT: i32 = 1;

/// How many bytes of keys and values a session may have: MongoDB's documents end at 16 MiB, and
/// the rest is for field names and bookkeeping. The server refuses what is over it nonetheless.
pub(crate) const MAX_BYTES: usize = 15 << 20;

/// Why a document is not a session. Loading reports it as [`Error::Unreadable`].
fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}

/// A session's key as it is in `_id`.
pub(crate) fn id(key: &SessionKey) -> Binary {
    binary(key.as_bytes())
}

/// A verifier as it is in `holder`.
pub(crate) fn holder(holder: &Verifier) -> Binary {
    binary(holder.as_bytes())
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

/// A login as it is in `login`.
pub(crate) fn login(login: &Login) -> Document {
    doc! { "owner": &*login.owner, "at": date(login.at), "label": &*login.label }
}

/// The document of a record.
///
/// # Errors
/// [`Error::TooLarge`] if MongoDB could not hold it.
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

/// The fields that [`decode`] reads: what others keep in the document stays at the server.
pub(crate) fn projection() -> Document {
    let mut fields = summary_projection();
    fields.insert(ID, 0);
    fields.insert(VALUES, 1);
    fields
}

/// The fields that [`summary`] reads: all but the values.
pub(crate) fn summary_projection() -> Document {
    doc! {
        ID: 1, VERSION: 1, HOLDER: 1, CREATED: 1, RENEWED: 1, USED: 1, EXPIRES: 1, LOGIN: 1, COOKIE: 1,
    }
}

/// The record of a stored document, whatever it may hold.
///
/// Values are taken as they are; nothing below them is parsed. Fields of others are left alone.
pub(crate) fn decode(document: &RawDocument) -> Result<Record, Error> {
    let fields = Fields::read(document)?;
    let Some(RawBsonRef::Document(values)) = fields.values else {
        return Err(unreadable("its field `values` is not a document"));
    };
    Ok(Record { values: decode_values(values)?, ..fields.record()? })
}

/// The key of a stored document; `None` if its `_id` is something else.
pub(crate) fn key(document: &RawDocument) -> Option<SessionKey> {
    generic(document.get(ID).ok()?).map(SessionKey::from_bytes)
}

/// What the list of an owner shows of a stored document, whatever it may hold. `None` if it is no live
/// session; loading it says why. `None` as well if it isn't the owner's: a collection may have been made
/// to take `Ada` for `ada`.
pub(crate) fn summary(document: &RawDocument, owner: &str, now: Timestamp) -> Option<Summary> {
    let record = Fields::read(document).ok()?.record().ok()?;
    let is_listed = record.is_live(now) && record.owner() == Some(owner);
    record.summary(key(document)?).filter(|_| is_listed)
}

/// The fields of a document as they are found.
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

    /// The record without its values.
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

/// A Binary of the kind that [`binary`] makes, and of this length.
fn generic<const LENGTH: usize>(value: Option<RawBsonRef<'_>>) -> Option<[u8; LENGTH]> {
    match value? {
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Generic => {
            binary.bytes.try_into().ok()
        }
        _ => None,
    }
}

/// A whole number. Tools that copy databases through JavaScript change the type of numbers.
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
    let wrong = |_| unreadable("its field `login` has not an `owner`, an `at` and a `label`");
    Ok(Some(Box::new(Login {
        owner: document.get_str("owner").map_err(wrong)?.into(),
        at: timestamp(document.get_datetime("at").map_err(wrong)?),
        label: document.get_str("label").map_err(wrong)?.into(),
    })))
}

/// However large the document is: the server's own limit, 16 MiB, bounds it, and whatever was stored under
/// that limit has to be found again.
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

    /// Whatever the server takes for the same, as it does in a collection with a collation.
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

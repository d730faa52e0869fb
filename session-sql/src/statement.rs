//! Statements, and those that are the same for both databases.

use session_core::provider::{Login, Page, Record};
use session_core::{SessionKey, Timestamp};
use sqlx::{Arguments as _, Database, Encode, Type};

use crate::TableName;
use crate::row::RECORD;
use crate::time::to_column;

/// A statement with its arguments. Its text contains nothing from outside but the table's name, which is an identifier.
pub(crate) struct Statement<D: Database> {
    pub(crate) text: String,
    pub(crate) arguments: D::Arguments,
}

/// Columns, each with the placeholder of its new value.
pub(crate) type Columns = Vec<(&'static str, String)>;

impl<D: Database> Statement<D> {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), arguments: D::Arguments::default() }
    }

    /// Adds an argument and returns its placeholder.
    pub(crate) fn bind<'t, T: Encode<'t, D> + Type<D>>(&mut self, value: T) -> String {
        self.arguments.add(value).expect("bytes and numbers can be encoded");
        format!("${}", self.arguments.len())
    }
}

impl<D> Statement<D>
where
    D: Database,
    for<'t> i64: Encode<'t, D> + Type<D>,
    for<'t> &'t [u8]: Encode<'t, D> + Type<D>,
    for<'t> Option<i64>: Encode<'t, D> + Type<D>,
    for<'t> Option<&'t [u8]>: Encode<'t, D> + Type<D>,
{
    pub(crate) fn bind_key(&mut self, key: &SessionKey) -> String {
        self.bind(&key.as_bytes()[..])
    }

    pub(crate) fn bind_time(&mut self, time: Timestamp) -> String {
        self.bind(to_column(time))
    }

    /// Returns the columns of a login, which are null without one.
    pub(crate) fn login(&mut self, login: Option<&Login>) -> Columns {
        vec![
            ("owner", self.bind(login.map(|login| login.owner.as_bytes()))),
            ("authenticated", self.bind(login.map(|login| to_column(login.at)))),
            ("label", self.bind(login.map(|login| login.label.as_bytes()))),
        ]
    }

    /// Returns the columns of a new record, without its values.
    pub(crate) fn record(&mut self, key: &SessionKey, record: &Record) -> Columns {
        let mut columns = vec![
            ("key", self.bind_key(key)),
            ("holder", self.bind(&record.holder.as_bytes()[..])),
            ("created", self.bind_time(record.created)),
            ("renewed", self.bind_time(record.renewed)),
            ("used", self.bind_time(record.used)),
            ("expires", self.bind_time(record.expires)),
            ("due", self.bind_time(record.expires)),
            ("cookie", self.bind(i64::from(record.cookie))),
        ];
        columns.extend(self.login(record.login.as_deref()));
        columns
    }

    /// Inserts a record. If an expired one has the key, sets its columns to what `set` returns for them.
    pub(crate) fn insert(
        &mut self,
        table: &TableName,
        columns: &Columns,
        now: &str,
        set: impl Fn(&str) -> String,
    ) {
        let joined = |item: &dyn Fn(&(&'static str, String)) -> String| {
            columns.iter().map(item).collect::<Vec<_>>().join(", ")
        };
        self.text = format!(
            "INSERT INTO {table} AS s ({}) VALUES ({}) ON CONFLICT (key) DO UPDATE SET {} WHERE s.expires <= {now}",
            joined(&|(name, _)| (*name).to_owned()),
            joined(&|(_, value)| value.clone()),
            joined(&|(name, _)| format!("{name} = {}", set(name))),
        );
    }

    /// Deletes a record, in whatever state.
    pub(crate) fn destroy(table: &TableName, key: &SessionKey) -> Self {
        let mut s = Self::new();
        let key = s.bind_key(key);
        s.text = format!("DELETE FROM {table} WHERE key = {key}");
        s
    }

    /// Returns a page of the owner's sessions, including expired ones: with a condition on `expires`, a page could read
    /// any number of expired rows.
    pub(crate) fn list(table: &TableName, owner: &str, page: Page) -> Self {
        let mut s = Self::new();
        let owner = s.bind(owner.as_bytes());
        // The empty key sorts before all others.
        let after = page.after.as_ref().map_or(&[][..], |key| key.as_bytes());
        let after = s.bind(after);
        // One more, to know whether others follow.
        let limit = s.bind(i64::try_from(page.size() + 1).unwrap_or(i64::MAX));
        s.text = format!(
            "SELECT {RECORD}, key FROM {table} WHERE owner = {owner} AND key > {after} AND octet_length(key) = 12 \
             ORDER BY key LIMIT {limit}"
        );
        s
    }

    /// Returns the number of live sessions.
    pub(crate) fn count(table: &TableName, now: Timestamp) -> Self {
        let mut s = Self::new();
        let now = s.bind_time(now);
        s.text = format!("SELECT count(*) FROM {table} WHERE expires > {now}");
        s
    }

    /// The query for the keys of records that expired, but no more than this.
    pub(crate) fn expired(&mut self, table: &TableName, now: Timestamp, limit: usize) -> String {
        let now = self.bind_time(now);
        let limit = self.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        format!(
            "SELECT key FROM {table} WHERE due <= {now} AND expires <= {now} ORDER BY due LIMIT {limit}"
        )
    }
}

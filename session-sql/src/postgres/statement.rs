//! The statements for PostgreSQL.
//!
//! Functions that take arrays of any type have their schema's name. Otherwise another user could create one for `bytea`
//! arrays, which PostgreSQL would prefer and run with the rights of the provider's user. `unnest` with several
//! arguments needs no schema, because PostgreSQL looks for it in its own schema only.

use std::fmt::Write as _;

use session_core::provider::{Changes, ExpiryChange, Record, Touch, Verifier};
use session_core::{SessionKey, Timestamp};
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::{AssertSqlSafe, Connection as _};

use super::PostgresConfig;
use super::connections::limit_statements;
use crate::TableName;
use crate::row::{MAX_BYTES, RECORD};

/// Whether the row is small enough to be read. The limit is twice [`MAX_BYTES`], because PostgreSQL adds some bytes to
/// each element. The server knows the size without reading the values.
macro_rules! fits {
    () => {
        "pg_catalog.pg_column_size(s.names)::bigint + pg_catalog.pg_column_size(s.data) <= 134217728"
    };
}
const _: () = assert!(MAX_BYTES == 67_108_864, "as `fits` and `SOUND` have it");

/// The condition that a row is not damaged: others can't be changed. `CASE` keeps functions from arrays of a form for
/// which they are errors.
///
/// Only a [`load`] checks whether texts are UTF-8 and whether a name is there twice. PostgreSQL's test for UTF-8 raises
/// an error, and a save would have to look at every name.
const SOUND: &str = concat!(
    "octet_length(s.holder) = 32 AND s.cookie BETWEEN 0 AND 4294967295 \
     AND s.size BETWEEN 0 AND 67108864 \
     AND (s.owner IS NULL) = (s.authenticated IS NULL) AND (s.owner IS NULL) = (s.label IS NULL) \
     AND CASE WHEN NOT (",
    fits!(),
    ") OR pg_catalog.cardinality(s.names) <> pg_catalog.cardinality(s.data) THEN false \
         WHEN pg_catalog.cardinality(s.names) = 0 THEN true \
         WHEN pg_catalog.array_ndims(s.names) <> 1 OR pg_catalog.array_lower(s.names, 1) <> 1 \
           OR pg_catalog.array_ndims(s.data) <> 1 OR pg_catalog.array_lower(s.data, 1) <> 1 THEN false \
         ELSE pg_catalog.array_position(s.names, NULL) IS NULL \
           AND pg_catalog.array_position(s.data, NULL) IS NULL END"
);

/// The results that the statement of a save returns.
pub(crate) mod verdict {
    pub(crate) const SAVED: i32 = 0;
    pub(crate) const GONE: i32 = 1;
    pub(crate) const CONFLICT: i32 = 2;
    pub(crate) const TOO_MANY_BYTES: i32 = 3;
    pub(crate) const TOO_MANY_KEYS: i32 = 4;
    /// The conditions held when the statement began, and a concurrent save has changed the row since.
    pub(crate) const OVERTAKEN: i32 = 5;
    /// The holder is already the one that the save sets.
    pub(crate) const RENEWED: i32 = 6;
}

/// A statement for PostgreSQL.
pub(crate) type Statement = crate::statement::Statement<Postgres>;

impl Statement {
    /// Runs the statement and returns its rows. Calls `applying` before sending what may apply it; if that wasn't
    /// called, nothing was written.
    ///
    /// Through a pooler, the statement is a transaction, because a pooler may switch the server's connection between
    /// the messages of a statement.
    pub(crate) async fn run(
        self,
        connection: &mut PgConnection,
        config: &PostgresConfig,
        applying: impl FnOnce(),
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = sqlx::query_with::<Postgres, _>(AssertSqlSafe(self.text), self.arguments);
        if !config.pooler {
            applying();
            return query.fetch_all(connection).await;
        }
        let begin = format!("BEGIN; SELECT {}", limit_statements(config.operation_timeout, true));
        let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
        let rows = query.persistent(false).fetch_all(&mut *transaction).await?;
        applying();
        transaction.commit().await?;
        Ok(rows)
    }
}

/// Inserts a record, or replaces an expired one. Returns a row if it did.
///
/// With `again`, an earlier attempt may have stored the record. If it did, the record stays as it is, because this
/// attempt may arrive late and must not undo what was saved since.
pub(crate) fn create(
    table: &TableName,
    key: &SessionKey,
    record: &Record,
    now: Timestamp,
    again: bool,
) -> Statement {
    let mut s = Statement::new();
    let (names, data): (Vec<&[u8]>, Vec<&[u8]>) =
        record.values.iter().map(|(name, value)| (name.as_bytes(), value)).unzip();
    let mut columns = s.record(key, record);
    columns.push(("size", s.bind(length(record.values.size()))));
    columns.push(("names", s.bind(names)));
    columns.push(("data", s.bind(data)));
    let now = s.bind_time(now);
    s.insert(table, &columns, &now, |name| match again {
        true => format!("CASE WHEN s.expires <= {now} THEN excluded.{name} ELSE s.{name} END"),
        false => format!("excluded.{name}"),
    });
    if again {
        s.text += " OR s.holder = excluded.holder";
    }
    s.text += " RETURNING 1";
    s
}

/// Returns the record, if it is live.
pub(crate) fn load(table: &TableName, key: &SessionKey, now: Timestamp) -> Statement {
    let mut s = Statement::new();
    let (key, now) = (s.bind_key(key), s.bind_time(now));
    let fits = fits!();
    s.text = format!(
        "SELECT {RECORD}, CASE WHEN {fits} THEN names END, CASE WHEN {fits} THEN data END, size \
         FROM {table} AS s WHERE key = {key} AND expires > {now}",
    );
    s
}

/// Merges changes into the record that `holder` has. Returns a [`verdict`].
///
/// Only the changed values are sent, and no stored ones are returned. If another statement is changing the row, this
/// one waits for it, and then judges and merges the row that it left. If nothing was written, the verdict is about the
/// row as it was when the statement began.
pub(crate) fn save(
    table: &TableName,
    key: &SessionKey,
    holder: &Verifier,
    changes: &Changes,
    now: Timestamp,
    expectations: bool,
) -> Statement {
    let mut s = Statement::new();
    let (key, now) = (s.bind_key(key), s.bind_time(now));
    let by = s.bind(holder.as_bytes());
    let held = format!("s.expires > {now} AND s.holder = {by} AND {SOUND}");
    // The other conditions, in the order in which they are judged.
    let mut conditions: Vec<(String, i32)> = Vec::new();
    if expectations && let Some(expected) = expected(&mut s, changes) {
        conditions.push((expected, verdict::CONFLICT));
    }
    let mut set = merge(&mut s, changes, &mut conditions);
    set.extend(times(&mut s, changes.expiry, &now));
    if let Some(login) = &changes.login {
        let columns = s.login(login.as_deref());
        set.extend(columns.into_iter().map(|(name, value)| format!("{name} = {value}")));
    }
    let mut renewed = String::new();
    if let Some(secret) = &changes.secret {
        let new = s.bind(secret.holder.as_bytes());
        set.push(format!("holder = {new}, renewed = {}", s.bind_time(secret.at)));
        if secret.holder != *holder {
            renewed =
                format!("WHEN s.expires > {now} AND s.holder = {new} THEN {} ", verdict::RENEWED);
        }
    }
    if let Some(cookie) = changes.cookie {
        set.push(format!("cookie = {}", s.bind(i64::from(cookie))));
    }
    if set.is_empty() {
        // An `UPDATE` has to set something.
        set.push("cookie = s.cookie".to_owned());
    }
    let mut judged = format!("WHEN ({held}) IS NOT TRUE THEN {} ", verdict::GONE);
    for (condition, otherwise) in &conditions {
        _ = write!(judged, "WHEN ({condition}) IS NOT TRUE THEN {otherwise} ");
    }
    // `CASE` fixes the order: the conditions look into arrays, which `held` has checked.
    let allowed = match &conditions[..] {
        [] => held,
        conditions => {
            let all: Vec<_> =
                conditions.iter().map(|(condition, _)| format!("({condition})")).collect();
            format!("CASE WHEN {held} THEN {} ELSE false END", all.join(" AND "))
        }
    };
    s.text = format!(
        "WITH done AS (UPDATE {table} AS s SET {} WHERE s.key = {key} AND {allowed} RETURNING 1) \
         SELECT CASE WHEN EXISTS (SELECT FROM done) THEN {} ELSE coalesce((\
         SELECT CASE {renewed}{judged}ELSE {} END FROM {table} AS s WHERE s.key = {key}), {}) END",
        set.join(", "),
        verdict::SAVED,
        verdict::OVERTAKEN,
        verdict::GONE,
    );
    s
}

/// The condition that stored values are the expected ones, if any are expected.
fn expected(s: &mut Statement, changes: &Changes) -> Option<String> {
    match &changes.expected[..] {
        [] => None,
        [only] => {
            let name = s.bind(only.key.as_bytes());
            let value = s.bind(only.value.as_deref());
            let stored = format!("s.data[pg_catalog.array_position(s.names, {name})]");
            Some(format!("{stored} IS NOT DISTINCT FROM {value}"))
        }
        several => {
            let names: Vec<&[u8]> =
                several.iter().map(|expected| expected.key.as_bytes()).collect();
            let values: Vec<Option<&[u8]>> =
                several.iter().map(|expected| expected.value.as_deref()).collect();
            let (names, values) = (s.bind(names), s.bind(values));
            Some(format!(
                "NOT EXISTS (SELECT FROM unnest({names}, {values}) AS e (name, value) \
                 WHERE s.data[pg_catalog.array_position(s.names, e.name)] IS DISTINCT FROM e.value)"
            ))
        }
    }
}

/// Returns what a save sets the values to, and adds the conditions that keep them within the limits.
fn merge(s: &mut Statement, changes: &Changes, conditions: &mut Vec<(String, i32)>) -> Vec<String> {
    let set: Vec<(&[u8], &[u8])> =
        changes.iter().filter_map(|(key, value)| Some((key.as_bytes(), value?))).collect();
    let (names, data): (Vec<&[u8]>, Vec<&[u8]>) = set.iter().copied().unzip();
    let added: usize = set.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = length(changes.limits.bytes.min(MAX_BYTES));
    let keys = length(changes.limits.keys);
    // A result that is no larger than before is always allowed.
    let mut within = |bytes_after: &str, keys_after: &str| {
        conditions.push((
            format!("{bytes_after} <= {bytes} OR {bytes_after} <= s.size"),
            verdict::TOO_MANY_BYTES,
        ));
        conditions.push((
            format!("{keys_after} <= {keys} OR {keys_after} <= pg_catalog.cardinality(s.names)"),
            verdict::TOO_MANY_KEYS,
        ));
    };
    if changes.is_empty() {
        return Vec::new();
    }
    if changes.replace {
        let (size, count) = (s.bind(length(added)), s.bind(length(set.len())));
        within(&size, &count);
        let (names, data) = (s.bind(names), s.bind(data));
        return vec![format!("names = {names}, data = {data}, size = {size}")];
    }
    if let ([(name, value)], 1) = (&set[..], changes.iter().len()) {
        // Assigned at the name's index, or appended; no other value is read.
        let (added, alone) = (s.bind(length(added)), s.bind(length(name.len())));
        let (name, value) = (s.bind(*name), s.bind(*value));
        let stored = format!("pg_catalog.array_position(s.names, {name})");
        let at = format!("coalesce({stored}, pg_catalog.cardinality(s.names) + 1)");
        let size =
            format!("s.size + {added} - coalesce({alone} + octet_length(s.data[{stored}]), 0)");
        within(
            &size,
            &format!(
                "CASE WHEN {stored} IS NULL THEN pg_catalog.cardinality(s.names) + 1 ELSE 0 END"
            ),
        );
        return vec![format!("names[{at}] = {name}, data[{at}] = {value}, size = {size}")];
    }
    let all: Vec<&[u8]> = changes.iter().map(|(name, _)| name.as_bytes()).collect();
    let (all, names, data) = (s.bind(all), s.bind(names), s.bind(data));
    let merged = format!(
        "(SELECT o.name, o.value FROM unnest(s.names, s.data) AS o (name, value) WHERE o.name <> ALL ({all}) \
         UNION ALL SELECT c.name, c.value FROM unnest({names}, {data}) AS c (name, value)) AS m"
    );
    if !set.is_empty() {
        let sum = "coalesce(sum(octet_length(m.name) + octet_length(m.value)), 0)";
        within(
            &format!("(SELECT {sum} FROM {merged})"),
            &format!("(SELECT count(*) FROM {merged})"),
        );
    }
    vec![format!(
        "(names, data, size) = (SELECT coalesce(pg_catalog.array_agg(m.name), '{{}}'), \
         coalesce(pg_catalog.array_agg(m.value), '{{}}'), \
         coalesce(sum(octet_length(m.name) + octet_length(m.value)), 0)::integer FROM {merged})"
    )]
}

/// Returns what a save or a touch sets the times to.
fn times(s: &mut Statement, expiry: ExpiryChange, now: &str) -> Option<String> {
    let (touch, extends) = match expiry {
        ExpiryChange::Keep => return None,
        ExpiryChange::Extend(touch) => (touch, true),
        ExpiryChange::Set(touch) => (touch, false),
    };
    let (used, expires) = (s.bind_time(touch.used), s.bind_time(touch.expires));
    let expires = match extends {
        true => format!("greatest(s.expires, {expires})"),
        false => expires,
    };
    // Only `due` is indexed, and it moves once in an eighth of the session's life. An update that changes no indexed
    // column can stay in its page.
    Some(format!(
        "used = greatest(s.used, {used}), expires = {expires}, \
         due = CASE WHEN s.due BETWEEN {now} AND {expires} \
         AND s.due - {now} >= ({expires} - {now}) / 8 * 7 THEN s.due ELSE {expires} END"
    ))
}

/// Moves the times of a live record forward. Returns a row if there is one.
pub(crate) fn touch(
    table: &TableName,
    key: &SessionKey,
    touch: Touch,
    now: Timestamp,
) -> Statement {
    let mut s = Statement::new();
    let (key, now) = (s.bind_key(key), s.bind_time(now));
    let times = times(&mut s, ExpiryChange::Extend(touch), &now).expect("it moves the times");
    s.text = format!(
        "UPDATE {table} AS s SET {times} WHERE s.key = {key} AND s.expires > {now} AND {SOUND} RETURNING 1"
    );
    s
}

/// Deletes expired records, at most `limit` of them and none that another statement is changing. Returns their number.
pub(crate) fn purge(table: &TableName, now: Timestamp, limit: usize) -> Statement {
    let mut s = Statement::new();
    let expired = s.expired(table, now, limit);
    s.text = format!(
        "WITH done AS (DELETE FROM {table} WHERE key = ANY (ARRAY({expired} FOR UPDATE SKIP LOCKED)) RETURNING 1) \
         SELECT count(*) FROM done"
    );
    s
}

/// A number of bytes or keys as an `integer`.
fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

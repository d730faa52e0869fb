//! The guide's provider over a database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};

#[allow(unreachable_pub, dead_code, reason = "the guide shows a crate of its own")]
#[path = "../../src/provider/guide/table.rs"]
mod guide;

use guide::{
    COUNT, DELETE, Database, Failure, INSERT, LIST, PURGE, Row, SELECT, TABLE, TOUCH,
    TableProvider, UPDATE, Value,
};

/// A table in memory that does what the guide's statements say.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Mutex<BTreeMap<Vec<u8>, Stored>>>);

#[derive(Clone, Debug)]
struct Stored {
    version: u64,
    used: u64,
    expires: u64,
    owner: Option<Vec<u8>>,
    record: Vec<u8>,
}

impl Table {
    fn read<T>(&self, read: impl FnOnce(&mut BTreeMap<Vec<u8>, Stored>) -> T) -> T {
        read(&mut self.0.lock().expect("no thread panics"))
    }

    fn select(&self, statement: &str, values: &[Value]) -> Vec<Row> {
        let row = |(key, stored): (&Vec<u8>, &Stored)| Row {
            key: SessionKey::from_bytes(key[..].try_into().expect("a key")),
            version: stored.version,
            used: instant(stored.used),
            expires: instant(stored.expires),
            record: stored.record.clone(),
        };
        self.read(|rows| match statement {
            SELECT => {
                let (key, now) = (bytes(&values[0]), number(&values[1]));
                let found = rows.get_key_value(&key).filter(|(_, stored)| stored.expires > now);
                found.map(row).into_iter().collect()
            }
            LIST => {
                let (owner, after) = (bytes(&values[0]), bytes(&values[1]));
                let rows = rows
                    .iter()
                    .filter(|(key, stored)| stored.owner.as_ref() == Some(&owner) && **key > after);
                rows.take(number(&values[2]) as usize).map(row).collect()
            }
            _ => panic!("it reads no rows: {statement}"),
        })
    }

    fn change(&self, statement: &str, values: &[Value]) -> usize {
        let stored = |version, values: &[Value]| Stored {
            version,
            used: number(&values[0]),
            expires: number(&values[1]),
            owner: (values[2] != Value::Null).then(|| bytes(&values[2])),
            record: bytes(&values[3]),
        };
        self.read(|rows| match statement {
            INSERT => {
                let (key, now) = (bytes(&values[0]), number(&values[5]));
                let version = match rows.get(&key) {
                    Some(old) if old.expires > now => return 0,
                    old => old.map_or(1, |old| old.version + 1),
                };
                rows.insert(key, stored(version, &values[1..]));
                1
            }
            UPDATE => match rows.get_mut(&bytes(&values[0])) {
                Some(row) if row.version == number(&values[1]) => {
                    *row = stored(row.version + 1, &values[2..]);
                    1
                }
                _ => 0,
            },
            TOUCH => match rows.get_mut(&bytes(&values[0])) {
                Some(row) if row.expires > number(&values[3]) => {
                    row.version += 1;
                    row.used = row.used.max(number(&values[1]));
                    row.expires = row.expires.max(number(&values[2]));
                    1
                }
                _ => 0,
            },
            DELETE => usize::from(rows.remove(&bytes(&values[0])).is_some()),
            PURGE => {
                let now = number(&values[0]);
                let expired = rows.iter().filter(|(_, row)| row.expires <= now);
                let expired = expired.take(number(&values[1]) as usize);
                let expired: Vec<_> = expired.map(|(key, _)| key.clone()).collect();
                expired.iter().filter(|key| rows.remove(*key).is_some()).count()
            }
            _ => panic!("it changes no rows: {statement}"),
        })
    }
}

/// The last instant of the database stands for all later ones.
fn instant(millis: u64) -> Timestamp {
    if millis == i64::MAX as u64 { Timestamp::MAX } else { Timestamp::from_millis(millis) }
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Number(number) => *number,
        other => panic!("no number: {other:?}"),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bytes(bytes) => bytes.clone(),
        other => panic!("no bytes: {other:?}"),
    }
}

impl Database for Table {
    async fn execute(&self, statement: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        Ok(self.change(statement, &values) as u64)
    }

    async fn query(
        &self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Failure> {
        Ok(self.select(statement, &values))
    }

    async fn count(&self, statement: &'static str, values: Vec<Value>) -> Result<u64, Failure> {
        assert_eq!(statement, COUNT, "it counts nothing");
        let now = number(&values[0]);
        Ok(self.read(|rows| rows.values().filter(|row| row.expires > now).count()) as u64)
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        futures_lite::future::block_on(future)
    }
}

/// The table, and two providers on it.
struct Tabled {
    table: Table,
}

impl Harness for Tabled {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(TableProvider::new(self.table.clone()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        Some(self.table.read(|rows| rows.values().filter(|row| row.owner.is_some()).count()))
    }

    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        Some(self.table.read(|rows| instant(rows[&key.as_bytes()[..]].expires)))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        self.table.read(|rows| {
            let row = rows.get_mut(&key.as_bytes()[..]).expect("the row is there");
            row.record.truncate(row.record.len() / 2);
        });
        true
    }
}

session_core::conformance_tests!(Tabled { table: Table::default() });

/// No statement names a column that the table has not.
#[test]
fn the_table_has_what_the_statements_name() {
    for column in ["key", "version", "used", "expires", "owner", "record"] {
        assert!(TABLE.contains(&format!("{column} B")), "{column}");
    }
}

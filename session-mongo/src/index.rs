//! The collection's indexes.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::IndexOptions;
use session_core::Error;
use tracing::warn;

use crate::MongoConfig;
use crate::client::Sessions;
use crate::document::{EXPIRES, KEY};
use crate::failure;

/// An index of this key or name exists with other options.
const CONFLICTS: [i32; 2] = [85, 86];
/// We may not.
const UNAUTHORIZED: [i32; 1] = [13];

/// Makes the indexes as the configuration wants them.
///
/// A user that may not make indexes is no error: whoever keeps that right to himself makes them by
/// hand. A warning names them.
pub(crate) async fn ensure(sessions: &Sessions, config: &MongoConfig) -> Result<(), Error> {
    match ensure_all(sessions, config).await {
        Ok(()) => Ok(()),
        Err(error) if failure::is_code(&error, &UNAUTHORIZED) => {
            warn!(
                "the database user may not create indexes; the collection needs a unique one on \
                 `key` and one on `expires`"
            );
            Ok(())
        }
        Err(error) => Err(failure::of_read(&error)),
    }
}

async fn ensure_all(sessions: &Sessions, config: &MongoConfig) -> Result<(), DriverError> {
    let unique = IndexOptions::builder().unique(true).build();
    sessions
        .create_index(IndexModel::builder().keys(doc! { KEY: 1 }).options(unique).build())
        .await?;
    match create_expiry(sessions, config).await {
        Err(error) if failure::is_code(&error, &CONFLICTS) => change_expiry(sessions, config).await,
        done => done,
    }
}

/// By default names, so that indexes that someone made by hand are the same ones.
async fn create_expiry(sessions: &Sessions, config: &MongoConfig) -> Result<(), DriverError> {
    let expire_after = config.ensure_ttl.then_some(config.ttl_margin);
    let options = IndexOptions::builder().expire_after(expire_after).build();
    sessions
        .create_index(IndexModel::builder().keys(doc! { EXPIRES: 1 }).options(options).build())
        .await?;
    Ok(())
}

/// The index is there with another margin, or TTL was switched on or off.
async fn change_expiry(sessions: &Sessions, config: &MongoConfig) -> Result<(), DriverError> {
    if config.ensure_ttl {
        let change = doc! {
            "collMod": sessions.name(),
            "index": {
                "keyPattern": { EXPIRES: 1 },
                "expireAfterSeconds": i64::try_from(config.ttl_margin.as_secs()).unwrap_or(i64::MAX),
            },
        };
        match run(sessions, change).await {
            Ok(()) => return Ok(()),
            // Servers before 5.1 can't add a TTL to an index without one.
            Err(error) if failure::is_reply(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let drop = doc! { "dropIndexes": sessions.name(), "index": { EXPIRES: 1 } };
    let dropped = run(sessions, drop).await;
    // What counts is whether there is room for the new one: FerretDB's reply to a drop is not of the
    // form that drivers want.
    create_expiry(sessions, config).await.map_err(|error| dropped.err().unwrap_or(error))
}

async fn run(sessions: &Sessions, command: Document) -> Result<(), DriverError> {
    let database = sessions.client().database(&sessions.namespace().db);
    database.run_command(command).await.map(|_| ())
}

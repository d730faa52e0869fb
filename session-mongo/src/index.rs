//! Preparation of the collection before the first operation: its version and its indexes.

use mongodb::IndexModel;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::IndexOptions;
use session_core::Error;
use tracing::warn;

use crate::MongoConfig;
use crate::client::Documents;
use crate::document::{EXPIRES, HOLDER, ID, OWNER};
use crate::failure;

/// IndexOptionsConflict and IndexKeySpecsConflict: an index with these fields or this name exists with
/// other options.
const CONFLICTS: [i32; 2] = [85, 86];
/// Unauthorized.
const UNAUTHORIZED: [i32; 1] = [13];
/// NamespaceNotFound: there is no such collection yet.
const NOT_FOUND: [i32; 1] = [26];

/// The field with a unique index by which unpublished versions found sessions.
const OLD_KEY: &str = "key";

/// Refuses a collection that an older version made. Creates the indexes that the configuration asks for.
///
/// If the database user may not create indexes, an administrator has to create them by hand. That is not
/// an error: a warning names each missing index.
pub(crate) async fn prepare(documents: &Documents, config: &MongoConfig) -> Result<(), Error> {
    match is_old(documents).await {
        Ok(false) => {}
        Ok(true) => {
            return Err(Error::config(format_args!(
                "the collection {:?} was made by an older version of session-mongo, whose sessions \
                 can't be read; drop the collection, or set the option `collection` to another name",
                documents.name()
            )));
        }
        Err(error) => return Err(failure::of_read(&error)),
    }
    let expiry = match create_expiry(documents, config).await {
        Err(error) if failure::is_code(&error, &CONFLICTS) => {
            change_expiry(documents, config).await
        }
        done => done,
    };
    made("`expires`", expiry)?;
    let owners = match create_owners(documents).await {
        // An index with another name, or over all documents, works as well.
        Err(error) if failure::is_code(&error, &CONFLICTS) => {
            has_index(documents, &owners()).await.and_then(|found| found.then_some(()).ok_or(error))
        }
        done => done,
    };
    made("`login.owner` and `_id`", owners)
}

/// Checks the result of creating an index. A missing permission becomes a warning.
fn made(fields: &str, result: Result<(), DriverError>) -> Result<(), Error> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if failure::is_code(&error, &UNAUTHORIZED) => {
            warn!("the database user may not create indexes; create one on {fields} by hand");
            Ok(())
        }
        Err(error) => Err(failure::of_read(&error)),
    }
}

/// Returns whether the collection has the unique index of older versions, or one of their documents,
/// whose `_id` is an ObjectId.
async fn is_old(documents: &Documents) -> Result<bool, DriverError> {
    match has_index(documents, &doc! { OLD_KEY: 1 }).await {
        Ok(false) => {}
        Err(error) if failure::is_code(&error, &NOT_FOUND) => return Ok(false),
        // The documents are checked below.
        Err(error) if failure::is_code(&error, &UNAUTHORIZED) => {}
        found => return found,
    }
    let (first, last) = (ObjectId::from_bytes([0; 12]), ObjectId::from_bytes([0xff; 12]));
    let old = doc! {
        ID: { "$gte": first, "$lte": last },
        OLD_KEY: { "$type": "binData" },
        HOLDER: { "$exists": false },
    };
    Ok(documents.find_one(old).projection(doc! { ID: 1 }).await?.is_some())
}

/// Returns whether the collection has an index of these fields in this order, ascending or descending.
async fn has_index(documents: &Documents, keys: &Document) -> Result<bool, DriverError> {
    let mut indexes = documents.list_indexes().await?;
    while indexes.advance().await? {
        if indexes.deserialize_current()?.keys.keys().eq(keys.keys()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the fields of the index by which an owner's sessions are listed.
fn owners() -> Document {
    doc! { OWNER: 1, ID: 1 }
}

/// Creates the index by owner. It has entries only for sessions with an owner.
async fn create_owners(documents: &Documents) -> Result<(), DriverError> {
    let owned = doc! { OWNER: { "$exists": true } };
    let options = IndexOptions::builder().partial_filter_expression(owned).build();
    documents.create_index(IndexModel::builder().keys(owners()).options(options).build()).await?;
    Ok(())
}

/// Creates the index by expiry. Its name is the default one, so an index that was created by hand is
/// recognized.
async fn create_expiry(documents: &Documents, config: &MongoConfig) -> Result<(), DriverError> {
    let expire_after = config.ensure_ttl.then_some(config.ttl_margin);
    let options = IndexOptions::builder().expire_after(expire_after).build();
    documents
        .create_index(IndexModel::builder().keys(doc! { EXPIRES: 1 }).options(options).build())
        .await?;
    Ok(())
}

/// Changes the existing index by expiry, whose margin differs, or for which TTL was switched on or off.
async fn change_expiry(documents: &Documents, config: &MongoConfig) -> Result<(), DriverError> {
    if config.ensure_ttl {
        let change = doc! {
            "collMod": documents.name(),
            "index": {
                "keyPattern": { EXPIRES: 1 },
                "expireAfterSeconds": i64::try_from(config.ttl_margin.as_secs()).unwrap_or(i64::MAX),
            },
        };
        match run(documents, change).await {
            Ok(()) => return Ok(()),
            // Servers before 5.1 can't add a TTL to an index.
            Err(error) if failure::is_reply(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let drop = doc! { "dropIndexes": documents.name(), "index": { EXPIRES: 1 } };
    let dropped = run(documents, drop).await;
    // What counts is whether the new index can be created: FerretDB's reply to a drop is one that the
    // driver can't parse.
    create_expiry(documents, config).await.map_err(|error| dropped.err().unwrap_or(error))
}

async fn run(documents: &Documents, command: Document) -> Result<(), DriverError> {
    let database = documents.client().database(&documents.namespace().db);
    database.run_command(command).await.map(|_| ())
}

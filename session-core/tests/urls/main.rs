//! Ids in URLs: where they go, by the verdict of a browser's own parser.

mod judge;
mod links;

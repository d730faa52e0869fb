//! The error on systems that the provider doesn't support.

use session_core::Error;
use session_file::{FileConfig, FileProvider};

#[test]
fn opening_says_that_this_system_will_not_do() {
    match FileProvider::open(FileConfig::new("/sessions")) {
        Err(Error::Config(message)) => assert!(message.contains("does not run on"), "{message}"),
        other => panic!("{other:?}"),
    }
}

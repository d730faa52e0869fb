//! The contract of [`Provider`](crate::provider::Provider), as tests that every provider runs.
//!
//! The library's promises depend on what the suite tests. Where it and other documentation
//! differ, the suite is right. A provider's crate needs a [`Harness`], which opens a store for a
//! case, and one line that makes a test of each case:
//!
//! ```
//! use std::sync::Arc;
//! use session_core::provider::Provider;
//! use session_core::conformance::{Capabilities, Harness};
//!
//! # mod my_store { pub fn open() -> std::sync::Arc<dyn session_core::provider::Provider> { unimplemented!() } }
//! struct MyStore(Arc<dyn Provider>);
//!
//! impl Harness for MyStore {
//!     fn provider(&self) -> Arc<dyn Provider> {
//!         Arc::clone(&self.0)
//!     }
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { count: false, ..Capabilities::default() }
//!     }
//! }
//!
//! // In a test binary:
//! session_core::conformance_tests!(MyStore(my_store::open()));
//! ```
//!
//! A case that fails says what was done, what was expected and what was found, and where the broken promise is
//! documented.
//!
//! Three optional methods of the harness let the suite test more than the provider's answers: when the
//! [store removes a record](Harness::store_expiry), how a [damaged record](Harness::damage) is treated, and how
//! an operation fails whose [connection ends or stalls](Harness::through). The cases of a missing method pass and
//! print that they were not run. Implement each method that the store makes possible, as here for the [blob
//! store](crate::provider#a-blob-store) of the guide, whose server counts down how long a blob lives:
//!
//! ```
//! # use std::net::SocketAddr;
//! # struct Server;
//! # impl Server {
//! #     fn start() -> Self { Self }
//! #     fn address(&self) -> SocketAddr { unimplemented!() }
//! #     fn time_left(&self, _: &SessionKey) -> Duration { unimplemented!() }
//! #     fn truncate(&self, _: &SessionKey) {}
//! # }
//! # fn open(_: SocketAddr, _: Duration) -> Arc<dyn Provider> { unimplemented!() }
#![doc = include_str!("../provider/guide/harness.rs")]
//! ```
//!
//! If tests of a store should only run on demand, put an attribute before the harness; each test gets it:
//! `conformance_tests!(#[ignore = "needs a server"] MyStore(my_store::open()));`
//!
//! Nothing in the suite sleeps or reads the system's clock: times are [`Harness::now`] and later times that cases
//! compute from it. Only the cases of [`Harness::through`] wait for the provider's own time limits, and give up after
//! [`Harness::time_limit`].

#[doc(hidden)]
pub mod cases;
mod expect;
mod harness;
mod interleave;
mod layers;
mod proxy;
mod random;
mod sample;
mod site;
mod store;

pub use harness::{Capabilities, Harness, HarnessFuture};
pub use proxy::Proxy;

// For the tests of this workspace. Not a stable part of the API: it changes in any release.
#[doc(hidden)]
pub use cases::{Case, cases};
#[doc(hidden)]
pub use interleave::{Task, abandon_after, interleave};
#[doc(hidden)]
pub use layers::{Counting, Delayed, Fault, Faulty, Operation};

/// Prints that a case, or the rest of it, is not run.
fn skip(why: &str) {
    eprintln!("not tested: {why}");
}

/// Makes a `#[test]` of each case, named as the case, in the current module.
///
/// The expression is evaluated once for each case and is that case's [`Harness`]: it opens a store
/// of its own, empty at first, so that cases can run side by side. Attributes before it are put on
/// each test.
#[macro_export]
macro_rules! conformance_tests {
    // One by one: an expression may begin with an attribute, too.
    (@after [$($attributes:tt)*] #[$($attribute:tt)*] $($rest:tt)+) => {
        $crate::conformance_tests! { @after [$($attributes)* #[$($attribute)*]] $($rest)+ }
    };
    (@after [$($attributes:tt)*] $harness:expr $(,)?) => {
        $crate::__conformance_cases! { tests [$($attributes)*] $harness }
    };
    ($($input:tt)+) => {
        $crate::conformance_tests! { @after [] $($input)+ }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ([$(#[$attribute:meta])*] $harness:expr, $name:ident) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            $crate::conformance::Case::named(stringify!($name)).run(&$harness);
        }
    };
}

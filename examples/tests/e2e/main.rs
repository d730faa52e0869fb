//! Tests of the demo server from outside: as a process, over HTTP, with `curl`, in a browser and behind
//! a cache. What the demo doesn't have is tested on small applications in the tests' process.

mod browser;
#[cfg(unix)] // Needs Debian's nginx.
mod caches;
mod callbacks;
mod client;
mod count;
mod curl;
mod demo;
mod devices;
mod exits;
mod files;
mod flags;
mod foreign;
mod hostile;
mod late;
#[cfg(unix)] // Stops the demo by a signal, as `mongo`, `redis` and `stop` do.
mod leaks;
#[cfg(unix)] // Uses the file provider.
mod limit;
mod login;
#[cfg(all(feature = "mongo", unix))]
mod mongo;
#[cfg(unix)]
mod nginx;
mod parallel;
#[cfg(all(feature = "postgres", unix))]
mod postgres;
mod proxy;
#[cfg(all(feature = "redis", unix))]
mod redis;
mod sealed;
#[cfg(all(
    any(feature = "mongo", feature = "postgres", feature = "redis", feature = "sqlite"),
    unix
))]
mod several;
mod site;
#[cfg(all(feature = "sqlite", unix))]
mod sqlite;
mod statuses;
#[cfg(unix)]
mod stop;
mod url;
mod values;
mod visitor;
mod webdriver;

//! The demo server, from outside: as a process, over HTTP, with `curl`, in a browser and behind a cache. What it
//! does not show, small applications in the tests' own process do.

mod browser;
#[cfg(unix)] // It needs Debian's nginx.
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
#[cfg(unix)] // It ends the demo by a signal; so do `mongo` and `stop`.
mod leaks;
#[cfg(unix)] // As the file provider is.
mod limit;
mod login;
#[cfg(all(feature = "mongo", unix))]
mod mongo;
#[cfg(unix)]
mod nginx;
mod parallel;
mod proxy;
mod sealed;
mod site;
mod statuses;
#[cfg(unix)]
mod stop;
mod url;
mod values;
mod visitor;
mod webdriver;

//! The demo server, from outside: as a process, over HTTP, with `curl` and in a browser.

mod browser;
mod client;
mod count;
mod curl;
mod demo;
mod devices;
mod files;
mod flags;
mod hostile;
mod late;
#[cfg(unix)] // It ends the demo by a signal; so do the next two.
mod leaks;
mod login;
#[cfg(all(feature = "mongo", unix))]
mod mongo;
mod parallel;
mod proxy;
mod sealed;
mod statuses;
#[cfg(unix)]
mod stop;
mod url;
mod values;
mod visitor;
mod webdriver;

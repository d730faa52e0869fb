//! The demo server, from outside: as a process, over HTTP, with `curl` and in a browser.

mod browser;
mod client;
mod count;
mod curl;
mod demo;
mod flags;
mod hostile;
mod leaks;
mod login;
#[cfg(feature = "mongo")]
mod mongo;
mod parallel;
mod sealed;
mod statuses;
mod stop;
mod url;
mod values;
mod webdriver;

//! The log of the test binary at every level, and the log of one thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::Lazy;
use tracing_subscriber::fmt::MakeWriter;

static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static INSTALLED: Lazy<()> = Lazy::new(|| {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(Journal)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("nobody else installs one");
});

/// What was logged since this was opened, by this test and by concurrent ones.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    from: usize,
}

impl Log {
    pub(crate) fn open() -> Self {
        Lazy::force(&INSTALLED);
        Self { from: lock().len() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(lock()[self.from..].to_vec()).expect("the formatter writes text")
    }

    /// Fails if any of the secrets was logged.
    pub(crate) fn assert_silent_about<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let text = self.text();
        for secret in secrets {
            assert!(secret.len() >= 8, "too short to be searched for");
            assert!(!text.contains(secret), "a secret was logged: {secret}");
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Vec<u8>> {
    TEXT.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Journal;

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Journal {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Runs a function, and returns what it logged, as long as it stays on this thread.
pub(crate) fn logged_by<T>(f: impl FnOnce() -> T) -> (T, String) {
    let text = Buffer::default();
    let writer = text.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let returned = tracing::subscriber::with_default(subscriber, f);
    let text = text.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (returned, String::from_utf8(text).expect("the formatter writes text"))
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

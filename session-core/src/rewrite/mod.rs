//! Ids in HTML pages, for visitors without cookies.
//!
//! lol_html reads a page as it streams by and says where its elements are; the bytes are copied
//! here, and changed at those places only. So nothing else of a page can change, whatever its
//! encoding, and when the parser gives up, the rest goes by as it is.

mod base;
mod body;
#[cfg(test)]
mod browser_oracle;
mod element_handlers;
mod entity;
mod forbidden_words;
mod foreign_content;
mod form;
mod markup;
mod page;
mod refresh;
mod response;
#[cfg(test)]
mod tests;
mod well_formed;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use encoding_rs::X_USER_DEFINED;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings};
use parking_lot::Mutex;
use tracing::warn;

use forbidden_words::ForbiddenWords;

pub(crate) use body::RewrittenBody;
pub(crate) use page::Insertion;
use page::{Edit, Page};
pub(crate) use response::prepare;

/// How many bytes of a page are looked at in one step, and so the size of a frame.
pub(crate) const STEP: usize = 16 * 1024;

/// How much of a page is held at most: its longest tag, and one entry for each open element.
const MEMORY_LIMIT: usize = 1024 * 1024;

/// What the parser puts out, of which only the length counts.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A page on its way to the client.
pub(crate) struct Rewriter {
    /// `None` once the parser is done or gave up: what follows goes by as it is. The lock is never
    /// taken; it makes bodies `Sync`, which a parser is not.
    parser: Mutex<Option<HtmlRewriter<'static, Sink>>>,
    page: Arc<Mutex<Page>>,
    /// How many bytes the parser is done with.
    parsed: Arc<AtomicUsize>,
    /// How many bytes of the page were handed on.
    passed: usize,
    /// Those that were not, as the parser is amid a tag.
    held: BytesMut,
    /// Looks at what goes by when the parser gave up with ids written.
    marks: ForbiddenWords,
}

impl Rewriter {
    /// A rewriter of a page of this path and query that puts these ids into it.
    pub(crate) fn new(ids: Vec<Insertion>, path_and_query: String) -> Self {
        let page = Arc::new(Mutex::new(Page::new(ids, path_and_query)));
        let parsed = Arc::new(AtomicUsize::new(0));
        let memory = MemorySettings::new().with_max_allowed_memory_usage(MEMORY_LIMIT);
        // An encoding that stands for every encoding that has ASCII in it: each other byte is a
        // character of its own, which comes back as the same byte.
        let encoding = AsciiCompatibleEncoding::new(X_USER_DEFINED).expect("has ASCII in it");
        let settings = Settings::new_send()
            .with_encoding(encoding)
            .with_memory_settings(memory)
            .with_enable_esi_tags(false);
        let count = Arc::clone(&parsed);
        let sink: Sink = Box::new(move |chunk| {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        });
        let parser = HtmlRewriter::new(element_handlers::watch(&page, settings), sink);
        Self {
            parser: Mutex::new(Some(parser)),
            page,
            parsed,
            passed: 0,
            held: BytesMut::new(),
            marks: ForbiddenWords::default(),
        }
    }

    /// Takes the page's next bytes, and returns those that can go on.
    pub(crate) fn feed(&mut self, data: Bytes) -> Bytes {
        let Some(parser) = self.parser.get_mut() else { return self.pass_unread(data) };
        // Escape sequences switch to encodings without ASCII in them, as far as a browser guesses.
        let parsed = match memchr::memchr(forbidden_words::ESCAPE, &data) {
            Some(_) => Err("it has escape sequences".to_owned()),
            None => parser.write(&data).map_err(|error| error.to_string()),
        };
        let window = if self.held.is_empty() {
            data
        } else {
            self.held.extend_from_slice(&data);
            self.held.split().freeze()
        };
        let read = self.parsed.load(Ordering::Relaxed).saturating_sub(self.passed);
        let read = read.min(window.len());
        self.go_on(&window, read, parsed.err(), false)
    }

    /// Ends the page, and returns its last bytes.
    pub(crate) fn finish(&mut self) -> Bytes {
        let rest = self.held.split().freeze();
        match self.parser.get_mut().take().map(HtmlRewriter::end) {
            None => self.pass_unread(rest),
            Some(Ok(())) => self.go_on(&rest, rest.len(), None, true),
            Some(Err(error)) => self.go_on(&rest, 0, Some(error.to_string()), true),
        }
    }

    /// Passes on these bytes, of which the parser read this many, maybe until it failed. Those that
    /// must wait for more are held; once there are no more to come, or the parser is no longer to be
    /// trusted, the rest goes by unread.
    fn go_on(
        &mut self,
        window: &Bytes,
        read: usize,
        mut failure: Option<String>,
        is_last: bool,
    ) -> Bytes {
        let mut page = self.page.lock();
        let edited = page.edited().unwrap_or(0).saturating_sub(self.passed);
        let known = edited.clamp(read, window.len());
        let checked = page.check(self.passed, &window[..known]);
        let (Ok(sound) | Err(sound)) = checked;
        if checked.is_err() || is_last && sound < known {
            failure.get_or_insert_with(|| "not all browsers read it alike".to_owned());
            page.forget_edits(self.passed + sound);
        }
        drop(page);
        let head = self.pass(window.slice(..sound));
        let Some(reason) = failure else {
            self.held.extend_from_slice(&window[sound..]);
            return head;
        };
        warn!(reason, "from here on a page is left without session ids");
        *self.parser.get_mut() = None;
        let rest = self.pass_unread(window.slice(sound..));
        [head, rest].concat().into()
    }

    /// Passes on what the parser did not read. Ids that are in the page already must not be led
    /// elsewhere by it, so its words of that power become others.
    fn pass_unread(&mut self, bytes: Bytes) -> Bytes {
        if !self.page.lock().is_written() {
            return bytes;
        }
        let harmful = self.marks.find(&bytes);
        if harmful.is_empty() {
            return bytes;
        }
        let mut changed = BytesMut::with_capacity(bytes.len() + harmful.len());
        let mut from = 0;
        for at in harmful {
            changed.extend_from_slice(&bytes[from..at]);
            changed.extend_from_slice(b"-");
            from = at;
        }
        changed.extend_from_slice(&bytes[from..]);
        changed.freeze()
    }

    /// Makes the edits of these bytes, which come next.
    fn pass(&mut self, bytes: Bytes) -> Bytes {
        let start = self.passed;
        let end = start + bytes.len();
        self.passed = end;
        let edits = self.page.lock().take_edits(end);
        if edits.is_empty() {
            return bytes;
        }
        let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
        let mut changed = BytesMut::with_capacity(bytes.len() + added);
        let mut at = start;
        for Edit { range, text } in edits {
            // The parser tells of places in their order, once they are parsed.
            if range.start < at || range.end > end {
                continue;
            }
            changed.extend_from_slice(&bytes[at - start..range.start - start]);
            changed.extend_from_slice(&text);
            at = range.end;
        }
        changed.extend_from_slice(&bytes[at - start..]);
        changed.freeze()
    }
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriter").field("passed", &self.passed).finish_non_exhaustive()
    }
}

//! [`Rewriter`]: puts ids into the links and forms of HTML pages, for visitors without cookies.
//!
//! lol_html parses a page as it is streamed and reports where its elements are. The bytes are copied here,
//! and only those places are edited. So nothing else of a page can change, whatever its encoding, and if the
//! parser fails, the rest of the page is sent unchanged.

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

/// The number of bytes of a page that are processed in one step, which is the maximum size of a frame.
pub(crate) const STEP: usize = 16 * 1024;

/// The parser's memory limit in bytes: for the longest tag, and an entry for each open element.
const MEMORY_LIMIT: usize = 1024 * 1024;

/// Receives the parser's output, of which only the length is used.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Rewrites one page as it is streamed.
pub(crate) struct Rewriter {
    /// `None` after the parser ended or failed: the rest of the page is sent unparsed. The lock is never
    /// contended; it makes bodies `Sync`, which the parser is not.
    parser: Mutex<Option<HtmlRewriter<'static, Sink>>>,
    page: Arc<Mutex<Page>>,
    /// The number of bytes that the parser has finished.
    parsed: Arc<AtomicUsize>,
    /// The number of bytes of the page that were sent on.
    emitted: usize,
    /// The bytes that were not sent on yet, because the parser is within a tag.
    held_back: BytesMut,
    /// Searches the unparsed rest of a page with ids.
    forbidden_words: ForbiddenWords,
}

impl Rewriter {
    /// Returns a rewriter that puts these ids into the page of this path and query.
    pub(crate) fn new(ids: Vec<Insertion>, path_and_query: String) -> Self {
        let page = Arc::new(Mutex::new(Page::new(ids, path_and_query)));
        let parsed = Arc::new(AtomicUsize::new(0));
        let memory = MemorySettings::new().with_max_allowed_memory_usage(MEMORY_LIMIT);
        // The encoding stands for every encoding that is compatible with ASCII: each other byte is a
        // character of its own, which is encoded as the same byte.
        let encoding = AsciiCompatibleEncoding::new(X_USER_DEFINED).expect("has ASCII in it");
        let settings = Settings::new_send()
            .with_encoding(encoding)
            .with_memory_settings(memory)
            .with_enable_esi_tags(false);
        let count = Arc::clone(&parsed);
        let sink: Sink = Box::new(move |chunk| {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        });
        let parser = HtmlRewriter::new(element_handlers::register(&page, settings), sink);
        Self {
            parser: Mutex::new(Some(parser)),
            page,
            parsed,
            emitted: 0,
            held_back: BytesMut::new(),
            forbidden_words: ForbiddenWords::default(),
        }
    }

    /// Processes the next bytes of the page, and returns the bytes that can be sent on.
    pub(crate) fn feed(&mut self, data: Bytes) -> Bytes {
        let Some(parser) = self.parser.get_mut() else { return self.pass_unparsed(data) };
        // Browsers that guess an encoding may take escape sequences for switches to an encoding that is not
        // compatible with ASCII.
        let parsed = match memchr::memchr(forbidden_words::ESCAPE, &data) {
            Some(_) => Err("the page has escape sequences".to_owned()),
            None => parser.write(&data).map_err(|error| error.to_string()),
        };
        let window = if self.held_back.is_empty() {
            data
        } else {
            self.held_back.extend_from_slice(&data);
            self.held_back.split().freeze()
        };
        let read = self.parsed.load(Ordering::Relaxed).saturating_sub(self.emitted);
        let read = read.min(window.len());
        self.advance(&window, read, parsed.err(), false)
    }

    /// Ends the page, and returns its last bytes.
    pub(crate) fn finish(&mut self) -> Bytes {
        let rest = self.held_back.split().freeze();
        match self.parser.get_mut().take().map(HtmlRewriter::end) {
            None => self.pass_unparsed(rest),
            Some(Ok(())) => self.advance(&rest, rest.len(), None, true),
            Some(Err(error)) => self.advance(&rest, 0, Some(error.to_string()), true),
        }
    }

    /// Returns the bytes of `window` that can be sent on, with edits. The parser has finished the first
    /// `read` of them, and failed then if there is a `failure`. Bytes that must wait for more are held back.
    /// At the end of the page, or after a failure, the rest is returned unparsed.
    fn advance(
        &mut self,
        window: &Bytes,
        read: usize,
        mut failure: Option<String>,
        is_last: bool,
    ) -> Bytes {
        let mut page = self.page.lock();
        let edit_end = page.last_edit_end().unwrap_or(0).saturating_sub(self.emitted);
        let known = edit_end.clamp(read, window.len());
        let checked = page.check(self.emitted, &window[..known]);
        let (Ok(sound) | Err(sound)) = checked;
        if checked.is_err() || is_last && sound < known {
            failure.get_or_insert_with(|| "browsers may parse the page differently".to_owned());
            page.forget_edits(self.emitted + sound);
        }
        drop(page);
        let head = self.apply_edits(window.slice(..sound));
        let Some(reason) = failure else {
            self.held_back.extend_from_slice(&window[sound..]);
            return head;
        };
        warn!(reason, "the rest of a page gets no session ids");
        *self.parser.get_mut() = None;
        let rest = self.pass_unparsed(window.slice(sound..));
        [head, rest].concat().into()
    }

    /// Returns bytes that the parser did not read. If the page contains ids, the bytes must not lead them to
    /// another site, so forbidden words are broken by a hyphen.
    fn pass_unparsed(&mut self, bytes: Bytes) -> Bytes {
        if !self.page.lock().has_ids() {
            return bytes;
        }
        let harmful = self.forbidden_words.find(&bytes);
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

    /// Applies the edits to these bytes, which are the next ones.
    fn apply_edits(&mut self, bytes: Bytes) -> Bytes {
        let start = self.emitted;
        let end = start + bytes.len();
        self.emitted = end;
        let edits = self.page.lock().take_edits(end);
        if edits.is_empty() {
            return bytes;
        }
        let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
        let mut changed = BytesMut::with_capacity(bytes.len() + added);
        let mut at = start;
        for Edit { range, text } in edits {
            // The parser reports places in their order, once they are parsed, so no edit is skipped here.
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
        f.debug_struct("Rewriter").field("emitted", &self.emitted).finish_non_exhaustive()
    }
}

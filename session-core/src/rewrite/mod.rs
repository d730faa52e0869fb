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
    emitted: usize,
    /// Those that were not, as the parser is amid a tag.
    held_back: BytesMut,
    /// Looks at what goes by when the parser gave up with ids written.
    forbidden_words: ForbiddenWords,
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

    /// Takes the page's next bytes, and returns those that can go on.
    pub(crate) fn feed(&mut self, data: Bytes) -> Bytes {
        let Some(parser) = self.parser.get_mut() else { return self.pass_unparsed(data) };
        // Escape sequences switch to encodings without ASCII in them, as far as a browser guesses.
        let parsed = match memchr::memchr(forbidden_words::ESCAPE, &data) {
            Some(_) => Err("it has escape sequences".to_owned()),
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

    /// Passes on these bytes, of which the parser read this many, maybe until it failed. Those that
    /// must wait for more are held; once there are no more to come, or the parser is no longer to be
    /// trusted, the rest goes by unread.
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
            failure.get_or_insert_with(|| "not all browsers read it alike".to_owned());
            page.forget_edits(self.emitted + sound);
        }
        drop(page);
        let head = self.apply_edits(window.slice(..sound));
        let Some(reason) = failure else {
            self.held_back.extend_from_slice(&window[sound..]);
            return head;
        };
        warn!(reason, "from here on a page is left without session ids");
        *self.parser.get_mut() = None;
        let rest = self.pass_unparsed(window.slice(sound..));
        [head, rest].concat().into()
    }

    /// Passes on what the parser did not read. Ids that are in the page already must not be led
    /// elsewhere by it, so its words of that power become others.
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

    /// Makes the edits of these bytes, which come next.
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
        f.debug_struct("Rewriter").field("emitted", &self.emitted).finish_non_exhaustive()
    }
}

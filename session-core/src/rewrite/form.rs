//! The form that is open.

use std::collections::HashSet;

/// How many `id`s of forms are kept in mind, and how long they may be.
const IDS: usize = 256;
const ID_LENGTH: usize = 256;

/// Follows the page's forms as browsers do: there is one open form at most, and a form within it
/// is none (HTML, "form element pointer").
#[derive(Debug, Default)]
pub(super) struct Forms {
    open: Option<Open>,
    /// `id`s of forms that have a hidden input.
    filled: HashSet<String>,
    /// `id`s of forms that a control sends elsewhere.
    overridden_forms: HashSet<String>,
    /// More of them than are kept in mind.
    overflow: bool,
}

#[derive(Debug)]
struct Open {
    id: Option<String>,
    /// Where its data go in the URL, if it is to get a hidden input.
    action: Option<String>,
}

impl Forms {
    /// A form begins; returns whether it does for browsers, too.
    pub(super) fn is_free(&self) -> bool {
        self.open.is_none()
    }

    /// Opens a form, unless one is open. With an `action`, it is to get a hidden input at its end.
    pub(super) fn open_if_free(&mut self, id: Option<String>, action: Option<String>) {
        self.open.get_or_insert(Open { id, action });
    }

    /// The open form gets no hidden input.
    pub(super) fn cancel_hidden_input(&mut self) {
        if let Some(open) = &mut self.open {
            open.action = None;
        }
    }

    /// Closes the open form; returns its action if it is to get a hidden input.
    ///
    /// The end is the place for it: only there is it known that no button sends the form elsewhere.
    pub(super) fn close(&mut self) -> Option<String> {
        let Open { id, action } = self.open.take()?;
        let action = action?;
        match id {
            None => Some(action),
            Some(id) if self.overflow || self.overridden_forms.contains(&id) => None,
            Some(id) => {
                self.remember(id, |forms| &mut forms.filled);
                (!self.overflow).then_some(action)
            }
        }
    }

    /// A control sends the form of this `id` elsewhere; returns whether that one has a hidden input
    /// already.
    pub(super) fn leads_astray(&mut self, id: &str) -> bool {
        let filled = self.filled.contains(id);
        if !filled {
            self.remember(id.to_owned(), |forms| &mut forms.overridden_forms);
        }
        filled
    }

    fn remember(&mut self, id: String, set: impl FnOnce(&mut Self) -> &mut HashSet<String>) {
        let ids = self.filled.len() + self.overridden_forms.len();
        if ids >= IDS || id.len() > ID_LENGTH {
            self.overflow = true;
        } else {
            set(self).insert(id);
        }
    }
}

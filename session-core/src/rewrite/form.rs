//! [`Forms`]: which form is open, and which forms get a hidden input with the id.

use std::collections::HashSet;

/// The number of forms' `id`s that are remembered, and their maximum length in bytes.
const MAX_IDS: usize = 256;
const MAX_ID_LEN: usize = 256;

/// Tracks the page's forms as browsers do: at most one form is open, and a form within it is ignored (HTML,
/// "form element pointer").
#[derive(Debug, Default)]
pub(super) struct Forms {
    open: Option<Open>,
    /// The `id`s of forms that got a hidden input.
    with_hidden_input: HashSet<String>,
    /// The `id`s of forms that a control sends to another site.
    overridden_forms: HashSet<String>,
    /// There are more `id`s than are remembered.
    overflow: bool,
}

#[derive(Debug)]
struct Open {
    id: Option<String>,
    /// The form's action, if it gets a hidden input.
    action: Option<String>,
}

impl Forms {
    /// Returns whether no form is open, so that browsers don't ignore the next one.
    pub(super) fn is_free(&self) -> bool {
        self.open.is_none()
    }

    /// Opens a form, unless one is open. With an `action`, it gets a hidden input at its end.
    pub(super) fn open_if_free(&mut self, id: Option<String>, action: Option<String>) {
        self.open.get_or_insert(Open { id, action });
    }

    /// Makes the open form get no hidden input.
    pub(super) fn cancel_hidden_input(&mut self) {
        if let Some(open) = &mut self.open {
            open.action = None;
        }
    }

    /// Closes the open form. Returns its action if it gets a hidden input.
    ///
    /// The input is at the form's end, because only there is it known that no button sends the form to
    /// another site.
    pub(super) fn close(&mut self) -> Option<String> {
        let Open { id, action } = self.open.take()?;
        let action = action?;
        match id {
            None => Some(action),
            Some(id) if self.overflow || self.overridden_forms.contains(&id) => None,
            Some(id) => {
                self.insert_bounded(id, |forms| &mut forms.with_hidden_input);
                (!self.overflow).then_some(action)
            }
        }
    }

    /// Records that a control sends the form with this `id` to another site. Returns whether the form already
    /// has a hidden input.
    pub(super) fn override_action(&mut self, id: &str) -> bool {
        let has_hidden_input = self.with_hidden_input.contains(id);
        if !has_hidden_input {
            self.insert_bounded(id.to_owned(), |forms| &mut forms.overridden_forms);
        }
        has_hidden_input
    }

    fn insert_bounded(&mut self, id: String, set: impl FnOnce(&mut Self) -> &mut HashSet<String>) {
        let ids = self.with_hidden_input.len() + self.overridden_forms.len();
        if ids >= MAX_IDS || id.len() > MAX_ID_LEN {
            self.overflow = true;
        } else {
            set(self).insert(id);
        }
    }
}

//! Whether the response sets or clears the cookie, and with which `Max-Age`.

use std::time::Duration;

use super::{ClientDirective, Goal, Phase, State, Status};
use crate::manager::Shared;
use crate::provider::Token;
use crate::transport::{MAX_AGE_LIMIT, fingerprint};
use crate::{Timestamp, lifetime};

impl State {
    /// Returns whether the response sets or clears the client's token. A new id that the store acknowledged
    /// is always sent, even if a later operation failed.
    pub(crate) fn directive(&self, shared: &Shared) -> Option<ClientDirective> {
        match (self.status, &self.token) {
            (Status::Live, Some(token)) => {
                let is_known =
                    self.client_token.as_ref().is_some_and(|held| held.has_text_of(token));
                (!is_known || self.resend_token)
                    .then(|| ClientDirective::Set(token.clone(), self.max_age(shared)))
            }
            (Status::New, _) if self.destroyed && !self.replaced_by_another_request => {
                let has_something = self.source().is_some() || self.client_token.is_some();
                has_something.then_some(ClientDirective::Clear)
            }
            _ => None,
        }
    }

    /// Returns whether this response is the first to send the id of a session that the client did not
    /// present.
    pub(crate) fn announces_new_session(&self) -> bool {
        let key = |token: &Option<Token>| token.as_ref().map(Token::key);
        let is_new = key(&self.token) != key(&self.client_token);
        self.status == Status::Live && is_new && !self.announced
    }

    /// Returns whether the request is [mute](Status::Mute).
    pub(crate) fn is_mute(&self) -> bool {
        matches!(self.status, Status::Mute(_))
    }

    /// Marks the session's headers as written. If another response replaces this one,
    /// [`directive`](Self::directive) returns the same for it.
    pub(crate) fn mark_announced(&mut self) {
        self.announced = true;
        self.head_sent = true;
    }

    /// Drops the pending changes for good, because there will be no response. One call, so that no other task
    /// can make a change in between that would need a response.
    pub(crate) fn abandon(&mut self) {
        self.roll_back();
        self.mark_finished();
    }

    /// Marks the response's head as final: the response was finished before the session was loaded.
    pub(crate) fn mark_head_sent(&mut self) {
        self.head_sent = true;
    }

    /// Finishes the session: no response can announce later changes.
    pub(super) fn mark_finished(&mut self) {
        self.head_sent = true;
        if self.phase == Phase::Loaded {
            self.phase = Phase::Finished;
        }
    }

    /// Returns how long the client keeps the token; `None` until the browser ends.
    fn max_age(&self, shared: &Shared) -> Option<Duration> {
        self.is_persistent(shared).then(|| {
            let left = self.lifetime(shared).deadline(lifetime::start(&self.record));
            self.configured_max_age(shared).unwrap_or_else(|| left.since(shared.clock.now()))
        })
    }

    /// Returns the configured `Max-Age` of a persistent token. It does not apply to remembered visitors,
    /// whose token is kept for the session's lifetime.
    fn configured_max_age(&self, shared: &Shared) -> Option<Duration> {
        shared.transport.max_age().filter(|_| !self.is_remembered())
    }

    /// Returns a fingerprint of the cookie that would be sent now: of the configured attributes and, for a
    /// token with a `Max-Age`, of its length and of the third of it that has passed since `start`.
    ///
    /// A record stores the fingerprint of the cookie that was sent last. If it differs, the token is sent
    /// again: in each third of its `Max-Age`, and once after the configuration changed.
    pub(super) fn fingerprint(&self, start: Timestamp, shared: &Shared) -> u32 {
        let attributes = shared.rules.fingerprint;
        if !self.is_persistent(shared) {
            return attributes;
        }
        let whole =
            self.configured_max_age(shared).unwrap_or_else(|| self.lifetime(shared).absolute);
        let whole = whole.min(MAX_AGE_LIMIT).as_millis();
        let third = shared.clock.now().since(start).as_millis() * 3 / whole.max(1);
        fingerprint(fingerprint(attributes, &whole.to_be_bytes()), &third.to_be_bytes())
    }

    /// Returns the fingerprint to store if the token should be sent again, because the fingerprint differs or
    /// the client sent the token under an old name.
    pub(super) fn new_fingerprint(&self, shared: &Shared) -> Option<u32> {
        let new = self.fingerprint(self.start(), shared);
        let is_held =
            |held: &&Token| self.token.as_ref().is_some_and(|token| held.has_text_of(token));
        let is_old = self
            .client_token
            .as_ref()
            .filter(is_held)
            .is_some_and(|held| self.credentials.is_old(held));
        (new != self.record.cookie || is_old).then_some(new)
    }

    /// Returns whether this goal may send an unchanged token again, if the fingerprint differs.
    ///
    /// Sending it again requires a save with the secret that the client presented, so that a request that
    /// lost the session to a login can't send the old token after the new one. It also requires a navigation,
    /// because a browser makes navigations one after the other, while the response of a background request
    /// may arrive after that of a later login.
    pub(super) fn may_resend_token_at(&self, goal: Goal<'_>) -> bool {
        self.may_resend_token && !self.head_sent && matches!(goal, Goal::Finish)
    }
}

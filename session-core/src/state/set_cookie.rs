//! What the client is told.

use std::time::Duration;

use super::{ClientDirective, Goal, Phase, Standing, State};
use crate::manager::Shared;
use crate::provider::Token;
use crate::transport::{MAX_AGE_LIMIT, fingerprint};
use crate::{Timestamp, lifetime};

impl State {
    /// Returns what the response has to tell the client, if anything. What the store acknowledged is
    /// announced, whatever became of the rest.
    pub(crate) fn directive(&self, shared: &Shared) -> Option<ClientDirective> {
        match (self.standing, &self.token) {
            (Standing::Live, Some(token)) => {
                let is_known =
                    self.client_token.as_ref().is_some_and(|held| held.has_text_of(token));
                (!is_known || self.resend_token)
                    .then(|| ClientDirective::Set(token.clone(), self.max_age(shared)))
            }
            (Standing::New, _) if self.ended && !self.replaced_by_another_request => {
                let has_something = self.source().is_some() || self.client_token.is_some();
                has_something.then_some(ClientDirective::Clear)
            }
            _ => None,
        }
    }

    /// Whether the response tells the client of a session that it didn't come with, for the first time.
    pub(crate) fn announces_new_session(&self) -> bool {
        let key = |token: &Option<Token>| token.as_ref().map(Token::key);
        let is_new = key(&self.token) != key(&self.client_token);
        self.standing == Standing::Live && is_new && !self.told
    }

    /// Whether the request sees and stores nothing of the session.
    pub(crate) fn is_mute(&self) -> bool {
        matches!(self.standing, Standing::Mute(_))
    }

    /// Takes note that a response's headers were written. Another response, which takes its place, is told
    /// the same.
    pub(crate) fn announced(&mut self) {
        self.told = true;
        self.head_sent = true;
    }

    /// Takes note that there will be no response, and drops what is pending. In one step: nothing that would
    /// have to be told may come in between.
    pub(crate) fn abandon(&mut self) {
        self.roll_back();
        self.close();
    }

    /// Takes note that the response of a request was finished before its session was loaded.
    pub(crate) fn mark_head_sent(&mut self) {
        self.head_sent = true;
    }

    /// Takes note that no response can tell of what is changed from now on.
    pub(super) fn close(&mut self) {
        self.head_sent = true;
        if self.phase == Phase::Loaded {
            self.phase = Phase::Finished;
        }
    }

    /// Returns how long the client is to keep the token; `None` for as long as the browser runs.
    fn max_age(&self, shared: &Shared) -> Option<Duration> {
        self.is_persistent(shared).then(|| {
            let left = self.lifetime(shared).deadline(lifetime::start(&self.record));
            self.fixed_max_age(shared).unwrap_or_else(|| left.since(shared.clock.now()))
        })
    }

    /// Returns the configured Max-Age of a persistent token. That of a remembered visitor is the session's.
    fn fixed_max_age(&self, shared: &Shared) -> Option<Duration> {
        shared.transport.max_age().filter(|_| !self.is_remembered())
    }

    /// Returns a fingerprint of what the client would be told now: the configured attributes, and of a
    /// token with a Max-Age, how long that is, and which third of it passes since `start`.
    ///
    /// A record has the fingerprint of what the client was told last. By a comparison, tokens are announced
    /// again in each third of their Max-Age, and once when something is configured differently.
    pub(super) fn fingerprint(&self, start: Timestamp, shared: &Shared) -> u32 {
        let attributes = shared.rules.fingerprint;
        if !self.is_persistent(shared) {
            return attributes;
        }
        let whole = self.fixed_max_age(shared).unwrap_or_else(|| self.lifetime(shared).absolute);
        let whole = whole.min(MAX_AGE_LIMIT).as_millis();
        let third = shared.clock.now().since(start).as_millis() * 3 / whole.max(1);
        fingerprint(fingerprint(attributes, &whole.to_be_bytes()), &third.to_be_bytes())
    }

    /// Returns the fingerprint to store, if the client has to be told something new, or under a new name.
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

    /// Whether the client may be told its token again with this goal, if there is something new to tell.
    ///
    /// It takes a save under the secret that the client presented, so that a request that lost the session
    /// to a login doesn't repeat the old token after the new one. Only on navigations, which a browser makes
    /// one after the other: the response of one in the background may arrive after that of a later login.
    pub(super) fn may_resend_token_at(&self, goal: Goal<'_>) -> bool {
        self.may_resend_token && !self.head_sent && matches!(goal, Goal::Finish)
    }
}

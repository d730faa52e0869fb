//! A site: a manager over a counting store, with a clock that tests set.

use std::sync::Arc;

use session_core::clock::TestClock;
use session_core::provider::Token;
use session_core::{Config, Manager, ManagerBuilder, SessionId};

use super::{Duration, Log, Store, Visitor, block_on};

pub(crate) struct Site {
    pub(crate) manager: Manager,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) log: Log,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::configured(|_| ())
    }

    pub(crate) fn configured(edit: impl FnOnce(&mut Config)) -> Self {
        Self::built(edit, |builder| builder)
    }

    /// Makes a site. It has no timer thread unless `edit` sets one: tests call the collection
    /// themselves.
    pub(crate) fn built(
        edit: impl FnOnce(&mut Config),
        build: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Self {
        Self::over(Arc::default(), Arc::default(), edit, build)
    }

    /// Makes a site whose store has this source string.
    pub(crate) fn over_source(source: &str) -> Self {
        let store = Arc::new(Store::configured(source));
        Self::over(store, Arc::default(), |_| (), |builder| builder)
    }

    /// Makes another manager over the same sessions with a changed configuration.
    pub(crate) fn reconfigured(&self, edit: impl FnOnce(&mut Config)) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.clock), edit, |builder| builder)
    }

    fn over(
        store: Arc<Store>,
        clock: Arc<TestClock>,
        edit: impl FnOnce(&mut Config),
        build: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Self {
        let log = Log::open();
        let mut config = Config::default();
        config.gc_every = Duration::ZERO;
        edit(&mut config);
        let builder = Manager::builder()
            .with_config(config)
            .with_provider(Arc::clone(&store))
            .with_clock(Arc::clone(&clock) as _);
        let manager = build(builder).build().expect("the configuration is valid");
        Self { manager, store, clock, log }
    }

    pub(crate) fn visitor(&self) -> Visitor<'_> {
        Visitor::new(self)
    }

    /// Returns the number of live sessions by the site's clock.
    pub(crate) fn count(&self) -> u64 {
        block_on(self.manager.count()).expect("memory counts")
    }

    /// Returns whether this id opens a live session in the store, independently of the manager.
    pub(crate) fn has(&self, text: &str) -> bool {
        let id = SessionId::parse(text).expect("is an id");
        self.store.peek(&Token::from(id), self.manager.now()).is_some()
    }
}

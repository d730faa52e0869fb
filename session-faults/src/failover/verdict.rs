//! The verdict: looks up everything that was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use session_core::SessionId;
use session_core::provider::{Provider, Record};

use super::ledger::{KEYS, Ledger, Outcomes, Own, Stage};
use super::worker::{key, shared_id};
use super::{NOW, decoded_number, holder};

/// What became of everything that was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    pub(super) acknowledged: u64,
    /// The operations in doubt.
    pub(super) doubtful: u64,
    /// Acknowledged operations that were undone, and operations that found their session missing.
    pub(super) lost: u64,
    /// Sessions that were destroyed and exist again.
    pub(super) revived: u64,
    /// Sessions with one part of a login and without another.
    pub(super) halves: u64,
    /// Operations that were applied twice, or that were applied and neither acknowledged nor in doubt.
    pub(super) untold: u64,
}

impl Verdict {
    pub(super) fn is_good(&self, may_lose: bool) -> bool {
        self.halves + self.untold == 0 && (may_lose || self.lost + self.revived == 0)
    }

    /// Looks everything up, and prints the results.
    pub(super) fn reach(books: &[Ledger], store: &dyn Provider, lasted: Duration) -> Self {
        let mut total = Ledger::default();
        for book in books {
            total.add(book.clone());
        }
        let Outcomes { acknowledged, conflicts, unavailable, doubtful, vanished } = total.outcomes;
        println!(
            "{acknowledged} operations acknowledged in {:.0} s; {conflicts} conflicts, {unavailable} \
             unavailable, {doubtful} in doubt",
            lasted.as_secs_f64()
        );
        let mut verdict = Self { acknowledged, doubtful, lost: vanished, ..Self::default() };
        verdict.judge_shared(books, store);
        verdict.judge_own(&total.own, store);
        println!("{vanished} operations did not find a session that should exist");
        verdict
    }

    /// Judges the sessions that two processes work on.
    fn judge_shared(&mut self, books: &[Ledger], store: &dyn Provider) {
        let (mut saves, mut lost) = (0, 0);
        // By session: whether it was created, and its increments that were acknowledged and that are in
        // doubt.
        let mut sessions: BTreeMap<(usize, usize), (bool, u64, u64)> = BTreeMap::new();
        for (process, book) in books.iter().enumerate() {
            for shared in &book.shared {
                let sum = sessions.entry((shared.task, shared.number)).or_default();
                sum.0 |= shared.created;
                sum.1 += shared.counted;
                sum.2 += shared.doubtful;
                saves += u64::from(shared.saved.count_ones());
                if shared.saved == 0 {
                    continue;
                }
                let record = load(store, shared_id(shared.task, shared.number));
                let missing = (0..KEYS).filter(|at| shared.saved & 1 << at != 0).filter(|at| {
                    let stored = record.as_ref().and_then(|r| r.values.get(&key(process, *at)));
                    stored != Some(&[7])
                });
                lost += missing.count() as u64;
            }
        }
        let (mut counted, mut uncounted, mut overcounted, mut settled) = (0, 0, 0, 0);
        for ((task, number), (created, acknowledged, doubtful)) in sessions {
            let record = load(store, shared_id(task, number));
            lost += u64::from(created && record.is_none());
            let stored = decoded_number(record.as_ref().and_then(|record| record.values.get("n")));
            counted += acknowledged;
            uncounted += acknowledged.saturating_sub(stored);
            overcounted += stored.saturating_sub(acknowledged + doubtful);
            settled += stored.saturating_sub(acknowledged).min(doubtful);
        }
        println!("{saves} acknowledged saves of two processes in one session: {lost} lost");
        println!(
            "{counted} acknowledged increments: {uncounted} lost, {overcounted} counted twice; \
             {settled} of the doubtful ones had been applied"
        );
        self.lost += lost + uncounted;
        self.untold += overcounted;
    }

    /// Judges the sessions of one visitor each.
    fn judge_own(&mut self, sessions: &[Own], store: &dyn Provider) {
        let (mut live, mut dead, mut gone, mut back, mut halves) = (0, 0, 0, 0, 0);
        let (mut logins, mut undone, mut untold) = (0, 0, 0);
        let (mut kept, mut unkept) = (0, 0);
        for own in sessions {
            let record = load(store, own.ids[0]);
            logins += u64::from(own.least >= Stage::LoggedIn);
            dead += u64::from(own.least == Stage::Ended);
            live += u64::from(own.most != Stage::Ended);
            kept += u64::from(own.kept > Stage::New);
            if let Some(record) = record.as_ref().filter(|_| own.most != Stage::Ended) {
                let value = record.values.get("kept").map_or(0, |value| value[0]);
                unkept += u64::from(value < own.kept as u8);
                untold += u64::from(value > own.perhaps_kept as u8);
            }
            match stage(own, record.as_ref()) {
                None => halves += 1,
                Some(Stage::Ended) => gone += u64::from(own.most != Stage::Ended),
                Some(_) if own.least == Stage::Ended => back += 1,
                Some(stage) => {
                    undone += u64::from(stage < own.least);
                    untold += u64::from(stage > own.most);
                }
            }
        }
        println!("{kept} sessions with acknowledged saves after a new id: {unkept} lost one");
        println!("{live} sessions that should exist: {gone} lost");
        println!("{dead} sessions that were destroyed: {back} back");
        println!(
            "{logins} acknowledged logins, each with a new id: {halves} half done, {undone} undone, \
             {untold} done but neither acknowledged nor in doubt"
        );
        self.lost += unkept + gone + undone;
        self.revived += back;
        self.halves += halves;
        self.untold += untold;
    }
}

/// Returns the stage of a stored session. Returns `None` if its parts belong to different stages, such as an old id
/// with the login that a later id got.
fn stage(own: &Own, record: Option<&Record>) -> Option<Stage> {
    let Some(record) = record else { return Some(Stage::Ended) };
    let opened_by = own.ids.iter().position(|id| holder(id) == record.holder)?;
    let stage = Stage::ALL[opened_by];
    let is_logged_in = record.owner() == Some("ada");
    let value = record.values.get("stage").map_or(0, |value| value[0]);
    (is_logged_in == (stage >= Stage::LoggedIn) && value == stage as u8).then_some(stage)
}

fn load(store: &dyn Provider, id: SessionId) -> Option<Record> {
    let loaded = futures_lite::future::block_on(store.load(&id.into(), NOW));
    loaded.expect("the store works in the end")
}

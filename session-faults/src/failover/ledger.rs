//! The ledger: what was acknowledged to a worker.

use std::fmt::Write as _;

use session_core::SessionId;

/// The number of keys that each process sets in a session that both work on.
pub(super) const KEYS: usize = 24;

/// One process's view of a session that two processes work on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) task: usize,
    pub(super) number: usize,
    /// Whether its creation was acknowledged to this process, or a save.
    pub(super) created: bool,
    /// The keys whose saves were acknowledged, one bit each.
    pub(super) saved: u64,
    /// The numbers of increments that were acknowledged, and that are in doubt.
    pub(super) counted: u64,
    pub(super) doubtful: u64,
}

/// The stages of a visitor's session, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Stored: the first id opens the session, and nobody is logged in.
    New,
    /// Logged in: the second id opens the session.
    LoggedIn,
    /// With a new id after the login: the third id opens the session.
    Renewed,
    /// Logged out: the session must not exist.
    Ended,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::New, Self::LoggedIn, Self::Renewed, Self::Ended];

    /// Returns which of the session's ids opens it.
    pub(super) fn opened_by(self) -> Option<usize> {
        Self::ALL[..3].iter().position(|stage| *stage == self)
    }
}

/// A session of one visitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// The session's successive ids.
    pub(super) ids: [SessionId; 3],
    /// The stage that was acknowledged.
    pub(super) least: Stage,
    /// The stage that may have been applied: the acknowledged one, or the next one, which is in doubt.
    pub(super) most: Stage,
    /// The last stage after which a separate save of a value was acknowledged.
    pub(super) kept: Stage,
    /// The same, including saves in doubt.
    pub(super) perhaps_kept: Stage,
}

/// A worker's ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) shared: Vec<Shared>,
    pub(super) own: Vec<Own>,
    pub(super) outcomes: Outcomes,
}

/// Counts of operations by their results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) acknowledged: u64,
    pub(super) conflicts: u64,
    pub(super) unavailable: u64,
    pub(super) doubtful: u64,
    /// `Gone` of a session that should exist.
    pub(super) vanished: u64,
}

impl Ledger {
    pub(super) fn add(&mut self, other: Self) {
        self.shared.extend(other.shared);
        self.own.extend(other.own);
        let (sum, more) = (&mut self.outcomes, other.outcomes);
        sum.acknowledged += more.acknowledged;
        sum.conflicts += more.conflicts;
        sum.unavailable += more.unavailable;
        sum.doubtful += more.doubtful;
        sum.vanished += more.vanished;
    }

    /// Writes the ledger as lines of numbers.
    pub(super) fn write(&self) -> String {
        let mut text = String::new();
        for shared in &self.shared {
            let Shared { task, number, created, saved, counted, doubtful } = shared;
            let created = u8::from(*created);
            let _ = writeln!(text, "s {task} {number} {created} {saved} {counted} {doubtful}");
        }
        for own in &self.own {
            let [first, second, third] = own.ids.map(|id| id.text());
            let _ = write!(text, "o {} {} {}", &*first, &*second, &*third);
            for stage in [own.least, own.most, own.kept, own.perhaps_kept] {
                let _ = write!(text, " {}", stage as u8);
            }
            text.push('\n');
        }
        let Outcomes { acknowledged, conflicts, unavailable, doubtful, vanished } = self.outcomes;
        let _ = writeln!(text, "x {acknowledged} {conflicts} {unavailable} {doubtful} {vanished}");
        text
    }

    pub(super) fn read(text: &str) -> Self {
        let mut ledger = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().expect("a number");
            match words[0] {
                "s" => ledger.shared.push(Shared {
                    task: number(1) as usize,
                    number: number(2) as usize,
                    created: number(3) == 1,
                    saved: number(4),
                    counted: number(5),
                    doubtful: number(6),
                }),
                "o" => {
                    let id = |at: usize| SessionId::parse(words[at]).expect("an id");
                    let stage = |at| Stage::ALL[number(at) as usize];
                    ledger.own.push(Own {
                        ids: [id(1), id(2), id(3)],
                        least: stage(4),
                        most: stage(5),
                        kept: stage(6),
                        perhaps_kept: stage(7),
                    });
                }
                _ => {
                    ledger.outcomes = Outcomes {
                        acknowledged: number(1),
                        conflicts: number(2),
                        unavailable: number(3),
                        doubtful: number(4),
                        vanished: number(5),
                    }
                }
            }
        }
        ledger
    }
}

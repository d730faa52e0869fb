//! What a worker was told.

use std::fmt::Write as _;

use session_core::SessionId;

/// How many keys each process sets in a session that both work on.
pub(crate) const KEYS: usize = 24;

/// A session that two processes work on, as one of them knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) task: usize,
    pub(crate) number: usize,
    /// Its creation was acknowledged, to this process or the other.
    pub(crate) created: bool,
    /// Which keys' saves were acknowledged, by bit.
    pub(crate) saved: u64,
    /// How many increments were acknowledged, and how many are in doubt.
    pub(crate) counted: u64,
    pub(crate) doubtful: u64,
}

/// What a visitor was told about a session of its own, in the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Stored: the first id opens it, and nobody is logged in.
    New,
    /// Logged in: the second id opens it.
    LoggedIn,
    /// With a new id afterwards: the third one opens it.
    Renewed,
    /// Logged out: it must not be there.
    Ended,
}

impl Stage {
    pub(crate) const ALL: [Self; 4] = [Self::New, Self::LoggedIn, Self::Renewed, Self::Ended];

    /// Which of the session's ids opens it.
    pub(crate) fn opened_by(self) -> Option<usize> {
        Self::ALL[..3].iter().position(|stage| *stage == self)
    }
}

/// A session of one visitor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// The ids that it has one after the other.
    pub(crate) ids: [SessionId; 3],
    /// What was acknowledged.
    pub(crate) least: Stage,
    /// What may have been applied: the same, or the next one, which is in doubt.
    pub(crate) most: Stage,
    /// The stage after which a value was saved last by itself, as far as it was acknowledged.
    pub(crate) kept: Stage,
    /// The same, with the saves that are in doubt.
    pub(crate) perhaps_kept: Stage,
}

/// A worker's books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) shared: Vec<Shared>,
    pub(crate) own: Vec<Own>,
    pub(crate) outcomes: Outcomes,
}

/// How operations ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) acknowledged: u64,
    pub(crate) conflicts: u64,
    pub(crate) unavailable: u64,
    pub(crate) doubtful: u64,
    /// `Gone` of a session that should be there.
    pub(crate) vanished: u64,
}

impl Ledger {
    pub(crate) fn add(&mut self, other: Self) {
        self.shared.extend(other.shared);
        self.own.extend(other.own);
        let (sum, more) = (&mut self.outcomes, other.outcomes);
        sum.acknowledged += more.acknowledged;
        sum.conflicts += more.conflicts;
        sum.unavailable += more.unavailable;
        sum.doubtful += more.doubtful;
        sum.vanished += more.vanished;
    }

    /// As lines of numbers.
    pub(crate) fn write(&self) -> String {
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

    pub(crate) fn read(text: &str) -> Self {
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

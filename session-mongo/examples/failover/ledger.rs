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

/// How a session of one visitor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It must be there.
    Live,
    /// It must not be there.
    Dead,
}

/// A worker's books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) shared: Vec<Shared>,
    pub(crate) own: Vec<(SessionId, Fate)>,
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
        for (id, fate) in &self.own {
            let _ = writeln!(text, "o {} {}", &*id.text(), u8::from(*fate == Fate::Live));
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
                    let id = SessionId::parse(words[1]).expect("an id");
                    ledger.own.push((id, if number(2) == 1 { Fate::Live } else { Fate::Dead }));
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

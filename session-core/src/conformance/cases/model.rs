//! Any sequence of operations, compared with a map.

use std::collections::BTreeMap;

use crate::conformance::Harness;
use crate::conformance::random::Random;
use crate::conformance::sample::{HOUR, MILLI, id, number};
use crate::conformance::store::Store;
use crate::{Changes, Error, ExpiryChange, Record, SessionId, Timestamp, Token};

/// How many operations a sequence has.
const STEPS: usize = 60;

/// What the store is compared with. Expired records stay, and are as good as gone.
struct Model(BTreeMap<SessionId, Record>);

impl Model {
    fn live(&mut self, id: &SessionId, now: Timestamp) -> Option<&mut Record> {
        self.0.get_mut(id).filter(|record| record.is_live(now))
    }

    fn create(&mut self, id: SessionId, record: Record, now: Timestamp) -> Result<(), Error> {
        if self.live(&id, now).is_some() {
            return Err(Error::Exists);
        }
        self.0.insert(id, record);
        Ok(())
    }

    fn save(&mut self, id: &SessionId, changes: &Changes, now: Timestamp) -> Result<(), Error> {
        self.live(id, now).ok_or(Error::Gone)?.apply(changes, now)
    }

    fn rename(&mut self, old: &SessionId, new: SessionId, now: Timestamp) -> Result<(), Error> {
        if self.live(old, now).is_none() {
            return Err(Error::Gone);
        }
        if self.live(&new, now).is_some() {
            return Err(Error::Exists);
        }
        let record = self.0.remove(old).ok_or(Error::Gone)?;
        self.0.insert(new, record);
        Ok(())
    }

    fn touch(&mut self, id: &SessionId, expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        let record = self.live(id, now).ok_or(Error::Gone)?;
        record.expires = record.expires.max(expires);
        Ok(())
    }
}

/// Changes of one to three keys, at times with an expectation that may hold.
fn changes(random: &Random, now: Timestamp) -> Changes {
    const KEYS: [&str; 5] = ["", "a", "b", "a.b", "$c"];
    let mut changes = Changes::new();
    for _ in 0..=random.below(3) {
        let key = random.pick(&KEYS);
        match random.below(4) {
            0 => changes.delete(key),
            n => changes.set(key, number(n as u64)),
        }
    }
    if random.below(4) == 0 {
        let owner = random.below(3);
        changes.owner = Some((owner > 0).then(|| format!("owner {owner}").into()));
    }
    let expires = now.saturating_add(HOUR / 4 * random.below(6) as u32);
    changes.expiry = match random.below(3) {
        0 => ExpiryChange::Keep,
        1 => ExpiryChange::Extend(expires),
        _ => ExpiryChange::Set(expires),
    };
    match random.below(8) {
        n @ 0..4 => {
            let value = (n > 0).then(|| number(n as u64));
            changes.expecting(KEYS[random.below(KEYS.len())], value.as_deref())
        }
        _ => changes,
    }
}

/// What became of an operation, without what differs between stores.
fn outcome<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(Error::Gone) => "gone",
        Err(Error::Conflict) => "conflict",
        Err(Error::Exists) => "exists",
        Err(error) => panic!("an operation answers {error:?}"),
    }
}

/// After any sequence of operations, at any times, the store answers as a map would.
pub fn any_sequence_of_operations_agrees_with_a_map(harness: &dyn Harness) {
    let store = Store::open(harness);
    let views = [&store, &store.another()];
    for seed in 0..harness.rounds().div_ceil(10) as u64 {
        let random = Random::new(seed);
        let ids: Vec<SessionId> = (0..4).map(|_| id()).collect();
        let mut model = Model(BTreeMap::new());
        let mut log = Vec::new();
        let mut now = store.now;
        for _ in 0..STEPS {
            let view = random.pick(&views);
            let (at, to) = (random.below(ids.len()), random.below(ids.len()));
            let (id, token) = (ids[at], Token::from(ids[at]));
            let expires = now.saturating_add(HOUR / 4 * random.below(6) as u32);
            let (what, wanted, got) = match random.below(9) {
                0 | 1 => {
                    let values = [("a", number(1)), ("b", number(2))].into_iter().collect();
                    let record = Record { created: now, expires, owner: None, values };
                    let got = outcome(view.create(&id, &record, now));
                    ("create", outcome(model.create(id, record, now)), got)
                }
                2 | 3 => {
                    let changes = changes(&random, now);
                    let got = outcome(view.save(&token, &changes, now));
                    ("save", outcome(model.save(&id, &changes, now)), got)
                }
                4 if at != to => {
                    let got = outcome(view.rename(&token, &ids[to], now));
                    ("rename", outcome(model.rename(&id, ids[to], now)), got)
                }
                5 => {
                    let got = outcome(view.touch(&token, expires, now));
                    ("touch", outcome(model.touch(&id, expires, now)), got)
                }
                6 => {
                    model.0.remove(&id);
                    ("destroy", "done", outcome(view.destroy(&token, now)))
                }
                7 => {
                    view.purge(now, 1 + random.below(3));
                    ("purge", "done", "done")
                }
                _ => {
                    now = now.saturating_add([MILLI, HOUR / 4][random.below(2)]);
                    ("wait", "done", "done")
                }
            };
            log.push(format!("{now:?} {what} {at} {to}: {wanted}"));
            assert_eq!(got, wanted, "seed {seed}:\n{}", log.join("\n"));
            for id in &ids {
                let wanted = model.live(id, now).cloned();
                let got = view.found_at(&Token::from(*id), now);
                assert!(
                    got == wanted,
                    "seed {seed}: {got:?} in place of {wanted:?}\n{}",
                    log.join("\n")
                );
            }
            if store.can.count {
                let live = ids.iter().filter(|id| model.live(id, now).is_some()).count();
                assert_eq!(view.count(now).expect("counting works"), live as u64, "seed {seed}");
            }
        }
        for id in &ids {
            store.destroy(&Token::from(*id), now).expect("destroying works");
        }
    }
}

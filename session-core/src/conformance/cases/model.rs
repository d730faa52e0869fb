//! Any sequence of operations, compared with a map.

use std::collections::BTreeMap;

use crate::conformance::Harness;
use crate::conformance::expect::expect_eq;
use crate::conformance::random::Random;
use crate::conformance::sample::{HOUR, MILLI, empty, login, number, until};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Record, Token, Verifier};
use crate::{Error, SessionKey, Timestamp};

/// How many operations a sequence has.
const STEPS: usize = 60;

/// The map that the store is compared with. Expired records stay in it and count as gone.
struct Model(BTreeMap<SessionKey, Record>);

impl Model {
    fn live(&mut self, key: SessionKey, now: Timestamp) -> Option<&mut Record> {
        self.0.get_mut(&key).filter(|record| record.is_live(now))
    }

    fn create(&mut self, key: SessionKey, record: Record, now: Timestamp) -> Result<(), Error> {
        if self.live(key, now).is_some() {
            return Err(Error::Exists);
        }
        self.0.insert(key, record);
        Ok(())
    }

    fn save(
        &mut self,
        key: SessionKey,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.live(key, now).ok_or(Error::Gone)?.apply(holder, changes, now)
    }

    fn touch(&mut self, key: SessionKey, expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        self.live(key, now).ok_or(Error::Gone)?.touch(until(expires), now)
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
        changes.login = Some(match random.below(3) {
            0 => None,
            n => login(&format!("owner {n}"), now),
        });
    }
    changes.replace = random.below(12) == 0;
    let expires = until(now.saturating_add(HOUR / 4 * random.below(6) as u32));
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

/// The result of an operation, without what differs between stores.
fn outcome<T>(result: Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(Error::Gone) => "gone",
        Err(Error::Conflict) => "conflict",
        Err(Error::Exists) => "exists",
        Err(error) => panic!("an operation returns {error:?}"),
    }
}

/// After any sequence of operations, at any times and by old and new secrets, the store has what a map would have.
pub fn any_sequence_of_operations_agrees_with_a_map(harness: &dyn Harness) {
    let store = Store::open(harness);
    let views = [&store, &store.another()];
    for seed in 0..harness.rounds().div_ceil(10) as u64 {
        let random = Random::new(seed);
        let now = store.now;
        // The tokens that clients have: three secrets for each of four keys.
        let tokens: Vec<[Token; 3]> = (0..4)
            .map(|_| {
                let first = store.provider().issue(store.new_id());
                let (second, third) = (store.secret(&first, now), store.secret(&first, now));
                [first, second.token, third.token]
            })
            .collect();
        let mut model = Model(BTreeMap::new());
        let mut log = Vec::new();
        let mut now = store.now;
        for _ in 0..STEPS {
            let view = random.pick(&views);
            let (at, to) = (random.below(tokens.len()), random.below(3));
            let token = &tokens[at][random.below(3)];
            let (key, holder) = (token.key(), view.holder(token));
            let expires = now.saturating_add(HOUR / 4 * random.below(6) as u32);
            let (what, wanted, got) = match random.below(9) {
                0 | 1 => {
                    let values = [("a", number(1)), ("b", number(2))].into_iter().collect();
                    let record = Record { expires, values, ..empty(now, HOUR) };
                    let got = outcome(view.create(token.id(), &record, now));
                    let record = Record { holder, ..record };
                    ("create", outcome(model.create(key, record, now)), got)
                }
                2 | 3 => {
                    let changes = changes(&random, now);
                    let got = outcome(view.save(token, &changes, now));
                    ("save", outcome(model.save(key, &holder, &changes, now)), got)
                }
                4 => {
                    let new = tokens[at][to].clone();
                    let secret = crate::provider::NewSecret {
                        holder: view.holder(&new),
                        token: new,
                        at: now,
                    };
                    let changes = changes(&random, now).with_secret(secret);
                    let got = outcome(view.save(token, &changes, now));
                    ("renew", outcome(model.save(key, &holder, &changes, now)), got)
                }
                5 => {
                    let got = outcome(view.touch(token, expires, now));
                    ("touch", outcome(model.touch(key, expires, now)), got)
                }
                6 => {
                    model.0.remove(&key);
                    ("destroy", "done", outcome(view.destroy(token, now)))
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
            expect_eq!(
                got,
                wanted,
                "seed {seed}: the outcome of the last operation of\n{}",
                log.join("\n")
            );
            for [token, ..] in &tokens {
                let wanted = model.live(token.key(), now).cloned();
                let got = view.load(token, now).expect("loading works");
                assert!(got == wanted, "seed {seed}: loaded after\n{}", log.join("\n"));
            }
            if store.can.count {
                let live =
                    tokens.iter().filter(|[token, ..]| model.live(token.key(), now).is_some());
                let count = view.count(now).expect("counting works");
                expect_eq!(
                    count,
                    live.count() as u64,
                    "seed {seed}: sessions counted after\n{}",
                    log.join("\n")
                );
            }
        }
        for [token, ..] in &tokens {
            store.destroy(token, now).expect("destroying works");
        }
    }
}

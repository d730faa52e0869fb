//! `list`: the sessions of an owner.

use std::collections::BTreeSet;

use super::races::{passed, race};
use super::requests::seeds;
use super::threads::crowd;
use crate::conformance::expect::expect_eq;
use crate::conformance::random::Random;
use crate::conformance::sample::{
    HOUR, MILLI, awkward_keys, empty, login, record, set, until, whole_second,
};
use crate::conformance::site::{Reply, Site, Visitor};
use crate::conformance::store::{Store, listed, wait};
use crate::conformance::{Delayed, Harness, Task, interleave};
use crate::provider::{
    Changes, ExpiryChange, Login, NewSecret, Page, Provider, Record, Summary, Token, Touch,
};
use crate::{Error, LoadedSession, SessionId, SessionKey, Timestamp};

/// More sessions than any owner has here.
const ALL: usize = usize::MAX;

/// An owner, and what a list of that owner showed.
type List<'a> = (&'a str, Vec<Summary>);

/// A record that lives for an hour and belongs to this owner.
fn owned(owner: &str, now: Timestamp) -> Record {
    Record { login: labelled(owner, now), ..record(now) }
}

/// A login whose label tells whose it is.
fn labelled(owner: &str, at: Timestamp) -> Option<Box<Login>> {
    login(owner, at).map(|login| Box::new(Login { label: label_of(owner).into(), ..*login }))
}

fn label_of(owner: &str) -> String {
    format!("{owner}'s")
}

/// A login of this owner, as a save makes it in a session of anybody's.
fn entry(owner: &str, now: Timestamp) -> Changes {
    set("user", 7).with_login(labelled(owner, now)).replacing()
}

/// Checks how many entries the index has, as far as the harness can tell.
fn check_index(harness: &dyn Harness, now: Timestamp, wanted: usize, what: &str) {
    if let Some(entries) = harness.index_entries(now) {
        expect_eq!(entries, wanted, "entries in the index of owners, when {what}");
    }
}

/// A list in which all sessions were this owner's when they were looked at.
fn check(owner: &str, list: &[Summary]) {
    for summary in list {
        expect_eq!(
            *summary.label,
            label_of(owner),
            "the label of a session in the list of {owner:?}"
        );
    }
}

fn keys(list: &[Summary]) -> BTreeSet<SessionKey> {
    list.iter().map(|summary| summary.key).collect()
}

fn keys_of<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> BTreeSet<SessionKey> {
    tokens.into_iter().map(Token::key).collect()
}

/// `list` works if and only if the provider declares it.
pub fn list_is_unsupported_or_declared(harness: &dyn Harness) {
    let store = Store::open(harness);
    let page = Page { after: None, limit: 10 };
    expect_eq!(
        store.provider().lists(),
        store.can.lists,
        "whether the provider's `lists` returns true, as the capability says"
    );
    match store.wait(store.provider().list("ada", page, store.now)) {
        Ok(listed) => {
            assert!(store.can.lists, "declared not to list, and it lists {listed:?}");
            expect_eq!(listed, Default::default(), "the list of an empty store");
        }
        Err(Error::Unsupported { .. }) => {
            assert!(!store.can.lists, "declared to list, and it returns Unsupported");
        }
        Err(error) => panic!("listing returns {error:?}"),
    }
}

/// A summary has what the record has, after everything that writes; and a session without an owner is in
/// nobody's list.
pub fn a_list_shows_what_is_stored_of_each_session(harness: &dyn Harness) {
    let store = Store::open(harness);
    let created = store.stored(&owned("ada", store.now));
    let later = store.after(HOUR / 2);
    let touched = store.stored(&owned("ada", store.now));
    let touch = Touch { used: whole_second(later), expires: store.after(2 * HOUR) };
    store.touch_as(&touched, touch, later).expect("touching works");
    let saved = store.stored(&owned("ada", store.now));
    let shorter = ExpiryChange::Set(until(store.after(HOUR * 3 / 4)));
    store.save(&saved, &set("a", 1).with_expiry(shorter), later).expect("it is live");
    let renewed = store.renew(&store.stored(&owned("ada", store.now)), later).expect("it is live");
    let mut entry = set("a", 1);
    let label: Box<str> = "日本\0 $a.b é🦀\n".into();
    entry.login = Some(Some(Box::new(Login { owner: "ada".into(), at: later, label })));
    let again = store.stored(&owned("ada", store.now));
    let again = store.save(&again, &store.with_secret(&again, entry, later), later);
    let mut unlabelled = record(store.now);
    let login = Login { owner: "ada".into(), at: store.now, label: "".into() };
    unlabelled.login = Some(Box::new(login));
    let unlabelled = store.stored(&unlabelled);
    store.stored(&Record { login: None, ..record(store.now) });

    let again = again.expect("it is live");
    let tokens = [created, touched, saved, renewed, again, unlabelled];
    let summary = |token: &Token| {
        let record = store.found_at(token, later).expect("it is live");
        record.summary(token.key()).expect("it has an owner")
    };
    let mut wanted: Vec<Summary> = tokens.iter().map(summary).collect();
    wanted.sort_by_key(|summary| summary.key);
    for view in [&store, &store.another()] {
        expect_eq!(
            view.list("ada", ALL, later),
            wanted,
            "the list of \"ada\", after operations of each kind"
        );
        expect_eq!(
            view.list("", ALL, later),
            [],
            "the list of the empty owner: sessions of nobody are in no list"
        );
    }
}

/// Pages of any size have each session once, in the order of the keys, whoever reads them.
pub fn a_list_comes_in_pages_in_the_order_of_the_keys(harness: &dyn Harness) {
    const SESSIONS: usize = 23;
    let store = Store::open(harness);
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS {
        tokens.push(store.stored(&owned("ada", store.now)));
        store.stored(&owned("grace", store.now));
        store.stored(&Record { login: None, ..record(store.now) });
    }
    let wanted = keys_of(&tokens);
    for limit in [1, 2, 7, SESSIONS - 1, SESSIONS, SESSIONS + 1, 1000] {
        for view in [&store, &store.another()] {
            let list = view.list("ada", limit, store.now);
            expect_eq!(
                (list.len(), keys(&list)),
                (SESSIONS, wanted.clone()),
                "the number and the keys of the sessions on all pages of {limit}"
            );
            check("ada", &list);
        }
    }
}

/// A limit of zero still comes to an end, and no page is larger than [`Page::MAX_SIZE`].
pub fn a_page_of_any_limit_is_bounded(harness: &dyn Harness) {
    const SESSIONS: usize = Page::MAX_SIZE + 5;
    let store = Store::open(harness);
    for _ in 0..SESSIONS {
        store.stored(&owned("ada", store.now));
    }
    for limit in [0, 1, Page::MAX_SIZE, SESSIONS, usize::MAX] {
        let first = store.page("ada", Page { after: None, limit }, store.now);
        assert!(
            first.sessions.len() <= limit.clamp(1, Page::MAX_SIZE),
            "a page of {} sessions with a limit of {limit}",
            first.sessions.len()
        );
        assert!(
            first.next.is_some(),
            "a page of {} sessions is the last, of {SESSIONS} with a limit of {limit}",
            first.sessions.len()
        );
        expect_eq!(
            store.list("ada", limit, store.now).len(),
            SESSIONS,
            "sessions on all pages with a limit of {limit}"
        );
    }
}

/// A list continues where a page ended, whatever has happened to the session there.
pub fn a_page_begins_behind_a_session_that_is_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    for what in ["ends", "moves", "expires", "logs out"] {
        let owner = format!("ada, whose session {what}");
        let mut tokens: Vec<Token> =
            (0..5).map(|_| store.stored(&owned(&owner, store.now))).collect();
        tokens.sort_by_key(Token::key);
        let mut page = Page { after: None, limit: 2 };
        let mut seen = Vec::new();
        // A short page need not be the last: the page is over that ends behind the second session.
        while page.after < Some(tokens[1].key()) {
            let listed = store.page(&owner, page, store.now);
            seen.extend(listed.sessions);
            page.after = listed.next;
            assert!(page.after.is_some(), "a page is the last, and sessions follow behind it");
        }
        let gone = tokens.iter().find(|token| Some(token.key()) == page.after);
        let gone = gone.expect("a page ends at a session while none is gone");
        let expiry = ExpiryChange::Set(until(store.now));
        match what {
            "ends" => store.destroy(gone, store.now).expect("destroying works"),
            "moves" => drop(store.saved(gone, &entry("grace", store.now))),
            "expires" => drop(store.saved(gone, &Changes::new().with_expiry(expiry))),
            _ => drop(store.saved(gone, &Changes::new().with_login(None))),
        }
        loop {
            let listed = store.page(&owner, page, store.now);
            seen.extend(listed.sessions);
            let Some(next) = listed.next else { break };
            let after = page.after.replace(next);
            assert!(
                Some(next) > after,
                "the page behind {after:?} ends at {next:?}, not behind it"
            );
        }
        expect_eq!(seen.len(), 5, "sessions on all pages, where one {what} between two pages");
        expect_eq!(
            keys(&seen),
            keys_of(&tokens),
            "the keys of the sessions on all pages, where one {what} between two pages"
        );
        // It also doesn't matter whether a session with that key ever existed.
        let mut key = *tokens[2].key().as_bytes();
        key[11] ^= 1;
        let after = Some(SessionKey::from_bytes(key));
        let behind = store.page(&owner, Page { after, limit: 100 }, store.now).sessions;
        let wanted = store.list(&owner, ALL, store.now).into_iter();
        expect_eq!(
            behind,
            wanted.filter(|s| Some(s.key) > after).collect::<Vec<_>>(),
            "the page behind a key that no session ever had, after one {what}"
        );
    }
}

/// A session is listed up to its newest expiry, and not after its end, whether it is collected or not.
pub fn what_ended_is_not_listed(harness: &dyn Harness) {
    let store = Store::open(harness);
    let stored = || store.stored(&owned("ada", store.now));
    let (short, extended, shortened, destroyed, renewed) =
        (stored(), stored(), stored(), stored(), stored());
    store.touch(&extended, store.after(3 * HOUR), store.now).expect("touching works");
    let soon = ExpiryChange::Set(until(store.after(HOUR / 2)));
    store.saved(&shortened, &Changes::new().with_expiry(soon));
    store.destroy(&destroyed, store.now).expect("destroying works");
    let renewed = store.renew(&renewed, store.now).expect("it is live");
    let all = [&short, &extended, &shortened, &renewed];
    let (half, whole) = (store.after(HOUR / 2), store.after(HOUR));
    for (now, live) in [
        (store.now, &all[..]),
        (half.saturating_sub(MILLI), &all),
        (half, &[&short, &extended, &renewed]),
        (whole.saturating_sub(MILLI), &[&short, &extended, &renewed]),
        (whole, &[&extended]),
        (store.after(3 * HOUR), &[]),
    ] {
        let list = store.list("ada", 2, now);
        expect_eq!(keys(&list), keys_of(live.iter().copied()), "the list of \"ada\" at {now:?}");
    }
    store.drain(store.after(2 * HOUR), 10);
    let left = store.list("ada", 2, store.after(2 * HOUR));
    expect_eq!(keys(&left), keys_of([&extended]), "the list of \"ada\" after a collection");
    let new = Record { login: labelled("grace", whole), ..empty(whole, HOUR) };
    store.create(short.id(), &new, whole).expect("its key is free");
    expect_eq!(
        keys(&store.list("grace", 2, whole)),
        keys_of([&short]),
        "the list of \"grace\", with a new session under the key of an expired one of \"ada\""
    );
    expect_eq!(
        keys(&store.list("ada", 2, whole)),
        keys_of([&extended]),
        "the list of \"ada\", with a new session of \"grace\" under the key of an expired one"
    );
}

/// Each login and logout moves a session between the lists, in both directions and in the same save.
pub fn a_session_is_in_its_last_owners_list(harness: &dyn Harness) {
    let store = Store::open(harness);
    let anonymous = Record { login: None, ..record(store.now) };
    let (mut token, other) = (store.stored(&anonymous), store.stored(&owned("ada", store.now)));
    let views = [&store, &store.another()];
    for (step, owner) in
        ["ada", "ada", "grace", "", "grace", "alan", "ada", ""].into_iter().enumerate()
    {
        let login = (!owner.is_empty()).then(|| labelled(owner, store.now)).flatten();
        let changes = set("n", step as u64).with_login(login);
        let (writer, reader) = (views[step % 2], views[(step + 1) % 2]);
        token = writer.saved(&token, &writer.with_secret(&token, changes, store.now));
        for listed in ["ada", "grace", "alan"] {
            let wanted = [&token].into_iter().filter(|_| listed == owner);
            let wanted = wanted.chain([&other].into_iter().filter(|_| listed == "ada"));
            let list = reader.list(listed, 2, store.now);
            expect_eq!(keys(&list), keys_of(wanted), "step {step}: the list of {listed:?}");
            check(listed, &list);
        }
    }
}

/// Owners that a store's syntax may confuse: prefixes of each other, of one letter in two cases or two
/// forms, with everything that separates or matches something somewhere.
pub fn no_owner_is_taken_for_another(harness: &dyn Harness) {
    let store = Store::open(harness);
    let mut owners: Vec<String> = awkward_keys();
    let more =
        ["ad", "ada", "adaa", "ada ", "Ada", "ada\0", "ada\n", "ada/", "ada$", ".*", "?", "[a]"];
    owners.extend(more.map(str::to_owned));
    // The longest ones, which differ in the last byte or by it alone.
    owners.extend([1023, 1024].map(|length| "x".repeat(length)));
    owners.push("x".repeat(1023) + "y");
    owners.retain(|owner| !owner.is_empty());
    let owners: BTreeSet<String> = owners.into_iter().collect();
    let stored: Vec<(&String, [Token; 2])> = owners
        .iter()
        .map(|owner| {
            // A label is as long as an owner at the most.
            let login = Login { label: "".into(), ..*login(owner, store.now).expect("is one") };
            let record = Record { login: Some(Box::new(login)), ..record(store.now) };
            (owner, [(); 2].map(|()| store.stored(&record)))
        })
        .collect();
    for (owner, tokens) in &stored {
        let list = store.list(owner, ALL, store.now);
        expect_eq!(keys(&list), keys_of(tokens), "the list of {owner:?}");
    }
    for nobody in ["", "adab", "*", "xx", "\u{e9}\0"] {
        expect_eq!(store.list(nobody, ALL, store.now), [], "the list of {nobody:?}");
    }
}

/// An owner has 1 to 1,024 bytes, and every login that is accepted is listed.
pub fn an_owner_of_any_allowed_length_is_listed(harness: &dyn Harness) {
    let store = Store::open(harness);
    let site = Site::over(harness.provider(), harness);
    let log_in = async |owner: &str| {
        let log_in = async |session: LoadedSession| session.log_in(owner);
        site.request(&Visitor::stranger(), log_in).await
    };
    for owner in ["x", "\0", "é", &"x".repeat(1023), &"x".repeat(1024), &"日".repeat(341)] {
        let entered = wait(harness, log_in(owner));
        let Ok(Reply::Issued(visitor)) = entered else { panic!("a login returns {entered:?}") };
        let token = site.token(&visitor);
        // The owner as it is stored: the manager puts the namespace in front.
        let record = store.load(&token, store.now).expect("loading works").expect("it is live");
        let list = store.list(record.owner().expect("somebody is in"), ALL, store.now);
        expect_eq!(
            keys(&list),
            keys_of([&token]),
            "the list of an owner of {} bytes, who has logged in",
            owner.len()
        );
    }
    for owner in [String::new(), "x".repeat(1025)] {
        let refused = wait(harness, log_in(&owner));
        let is_right = match owner.len() {
            0 => matches!(refused, Err(Error::Invalid { what: "owner", .. })),
            _ => matches!(refused, Err(Error::TooLarge { .. })),
        };
        assert!(is_right, "a login of an owner of {} bytes: {refused:?}", owner.len());
        expect_eq!(
            store.list(&owner, ALL, store.now),
            [],
            "the list of an owner of {} bytes, whose login was refused",
            owner.len()
        );
    }
}

/// Sessions of one owner that expire, end or move leave nothing in the index; five times as many as
/// [`Harness::rounds`] of them.
pub fn an_index_of_owners_does_not_grow(harness: &dyn Harness) {
    let store = Store::open(harness);
    let many = harness.rounds() * 5;
    let owners = ["ada", "grace", "alan", "mary"];
    let mut token = store.stored(&owned("ada", store.now));
    for n in 0..many / 10 {
        let changes = entry(owners[n % owners.len()], store.now);
        token = store.saved(&token, &store.with_secret(&token, changes, store.now));
        let other = store.stored(&owned("ada", store.now));
        store.destroy(&other, store.now).expect("destroying works");
    }
    // An entry that was made just now may belong to a session that is being stored.
    let later = store.after(HOUR / 2);
    let left = owners.map(|owner| store.list(owner, ALL, later).len());
    expect_eq!(
        left.iter().sum::<usize>(),
        1,
        "sessions in the lists of {owners:?}, which have {left:?}, when one is left"
    );
    check_index(harness, later, 1, "one session is left");
    store.destroy(&token, later).expect("destroying works");
    for generation in 0..2 {
        let now = store.after(8 * HOUR * generation);
        for _ in 0..many {
            let record = Record { login: labelled("ada", now), ..empty(now, HOUR) };
            store.create(&store.new_id(), &record, now).expect("a record of a new id is stored");
        }
        expect_eq!(
            store.list("ada", ALL, now).len(),
            many,
            "sessions listed, after as many were created"
        );
        let later = now.saturating_add(4 * HOUR);
        if store.can.purges {
            expect_eq!(store.drain(later, 1000), many, "records removed, when all have expired");
        }
        expect_eq!(store.list("ada", ALL, later), [], "the list, when all have expired");
        // Long after the last expiry: timers have a margin.
        let long_after = now.saturating_add(10_000 * HOUR);
        check_index(harness, long_after, 0, "all sessions have expired");
    }
}

/// A list of any page size, while sessions get new ids, log in again, as another owner, end and expire in
/// every order: those that belong to the owner all the time are there once, and nobody else's at all.
pub fn a_list_beside_changes_has_each_living_session_once(harness: &dyn Harness) {
    let store = Store::open(harness);
    let now = store.now;
    let later = now.saturating_add(MILLI);
    for seed in seeds(harness) {
        let owners = ["ada", "grace"].map(|owner| format!("{owner} {seed}"));
        let [ada, grace] = &owners;
        let stored = |owner: &str| store.stored(&owned(owner, now));
        let anonymous = Record { login: None, ..record(now) };
        // What is on all lists of its owner, whatever is done to it...
        let [idle, touched, renewed, again] = [(); 4].map(|()| stored(ada));
        let graces = stored(grace);
        // ...and what comes or goes.
        let [destroyed, expired, left, moved] = [(); 4].map(|()| stored(ada));
        let (taken, entering) = (stored(grace), store.stored(&anonymous));
        let created = store.new_id();

        let expiring = ExpiryChange::Set(until(later));
        let extending = ExpiryChange::Extend(until(store.after(2 * HOUR)));
        let renewing = |token: &Token, changes| store.with_secret(token, changes, now);
        let saves = [
            (&touched, set("a", 5).with_expiry(extending)),
            (&renewed, renewing(&renewed, Changes::new())),
            (&again, renewing(&again, entry(ada, now))),
            (&graces, renewing(&graces, set("a", 5))),
            (&expired, Changes::new().with_expiry(expiring)),
            (&left, renewing(&left, Changes::new().with_login(None))),
            (&moved, renewing(&moved, entry(grace, now))),
            (&taken, renewing(&taken, entry(ada, now))),
            (&entering, renewing(&entering, entry(ada, now))),
        ];
        let issued = store.provider().issue(created);
        let new = Record { holder: store.holder(&issued), ..owned(ada, now) };
        let handles =
            [Delayed::new(harness.provider(), seed), Delayed::new(harness.another(), !seed)];
        let handle = |n: usize| &handles[n % 2];
        let mut tasks: Vec<Task<'_, Option<List<'_>>>> = Vec::new();
        for (n, (token, changes)) in saves.iter().enumerate() {
            let (provider, holder) = (handle(n), store.holder(token));
            tasks.push(Box::pin(async move {
                let saved = provider.save(token, &holder, changes, now).await;
                saved.expect("nothing else renews it");
                None
            }));
        }
        let (one, other) = (handle(0), handle(1));
        let (destroyed_key, until_then) = (destroyed.key(), store.after(100 * HOUR));
        tasks.push(Box::pin(async move {
            one.destroy(&destroyed_key, until_then, now).await.expect("destroying works");
            None
        }));
        tasks.push(Box::pin(async move {
            other.create(&created, new, now).await.expect("a record of a new id is stored");
            None
        }));
        for (n, limit) in [1, 2, 7, 100].into_iter().enumerate() {
            for owner in [&**ada, &**grace] {
                let provider = handle(n);
                tasks.push(Box::pin(async move {
                    Some((owner, listed(provider, owner, limit, later).await))
                }));
            }
        }
        let mut lists = Vec::new();
        wait(harness, async { lists = interleave(seed, tasks).await });

        let steady = [keys_of([&idle, &touched, &renewed, &again]), keys_of([&graces])];
        for (owner, list) in lists.into_iter().flatten() {
            check(owner, &list);
            let always = &steady[usize::from(owner == grace)];
            assert!(
                keys(&list).is_superset(always),
                "seed {seed}: a session that is {owner:?}'s all the time is missing: {list:?}"
            );
        }
        let created = issued.key();
        let adas = keys_of([&idle, &touched, &renewed, &again, &taken, &entering]);
        let adas: BTreeSet<_> = adas.into_iter().chain([created]).collect();
        for (owner, wanted) in [(ada, adas), (grace, keys_of([&graces, &moved]))] {
            let list = store.list(owner, 2, later);
            check(owner, &list);
            expect_eq!(keys(&list), wanted, "seed {seed}: the list of {owner:?} in the end");
        }
    }
}

/// A login beside another one, an end or a collection: the session is in the list of the owner that it has
/// in the end, if it is there, and in no other.
pub fn a_login_that_races_anything_is_in_the_right_list(harness: &dyn Harness) {
    let store = Store::open(harness);
    let (behind, ahead) = (store.after(HOUR / 2), store.much_later());
    let extending = ExpiryChange::Extend(until(store.after(24 * HOUR)));
    for round in 0..harness.rounds() {
        let token = store.stored(&owned("ada", store.now));
        let entry = |owner| {
            let changes = entry(owner, store.now).with_expiry(extending);
            store.with_secret(&token, changes, store.now)
        };
        let (grace, alan) = (entry("grace"), entry("alan"));
        let log_in = |store: &Store<'_>, changes| passed(&store.save(&token, changes, behind));
        let owner = match round % 3 {
            0 => {
                let (one, other) =
                    race(&store, |store| log_in(store, &grace), |store| log_in(store, &alan));
                assert!(
                    one != other || !store.can.checks_holder,
                    "round {round}: two logins by one id, of which one wins, return {one} and {other}"
                );
                store
                    .load(&token, ahead)
                    .expect("loading works")
                    .map(|record| record.owner().expect("somebody is logged in").to_owned())
            }
            1 => {
                let end = |store: &Store<'_>| store.destroy(&token, behind);
                race(&store, |store| log_in(store, &grace), end).1.expect("destroying works");
                None
            }
            _ => {
                let purge = |store: &Store<'_>| store.purge(ahead, 10);
                let (is_in, _) = race(&store, |store| log_in(store, &grace), purge);
                is_in.then(|| "grace".to_owned())
            }
        };
        for listed in ["ada", "grace", "alan"] {
            let list = store.list(listed, 2, ahead);
            let wanted = keys_of([&token].into_iter().filter(|_| owner.as_deref() == Some(listed)));
            expect_eq!(keys(&list), wanted, "round {round}: the list of {listed:?}");
            check(listed, &list);
        }
        store.destroy(&token, ahead).expect("destroying works");
    }
}

/// While threads do anything to a few sessions, nobody's list has another's; afterwards each list has what
/// can be loaded, and the index no more.
pub fn a_crowd_leaves_lists_that_add_up(harness: &dyn Harness) {
    const OWNERS: [&str; 3] = ["ada", "ada ", "grace"];
    let store = Store::open(harness);
    let ids: Vec<SessionId> = (0..8).map(|_| store.new_id()).collect();
    crowd(&store, 4, |view, thread| {
        let random = Random::new(thread as u64);
        for _ in 0..harness.rounds() {
            let token = view.provider().issue(*random.pick(&ids));
            let now = store.after(HOUR / 8 * random.below(10) as u32);
            let expires = now.saturating_add(HOUR / 8 * random.below(10) as u32);
            let owner = *random.pick(&OWNERS);
            match random.below(9) {
                0 | 1 => {
                    let record = Record { expires, ..owned(owner, now) };
                    passed(&view.create(token.id(), &record, now));
                }
                2 => {
                    let changes = entry(owner, now).with_expiry(ExpiryChange::Set(until(expires)));
                    passed(&view.save(&token, &changes, now));
                }
                3 => {
                    passed(&view.save(&token, &set("a", 1).with_login(None), now));
                }
                4 => {
                    // A login with a new secret and back: others go on with the ids that all know.
                    let login = view.with_secret(&token, entry(owner, now), now);
                    if let Ok(renewed) = view.save(&token, &login, now) {
                        let holder = view.holder(&token);
                        let back = NewSecret { holder, token: token.clone(), at: now };
                        passed(&view.save(&renewed, &Changes::new().with_secret(back), now));
                    }
                }
                5 => {
                    passed(&view.touch(&token, expires, now));
                }
                6 => view.destroy(&token, now).expect("destroying works"),
                7 => {
                    view.purge(now, 2);
                }
                _ => check(owner, &view.list(owner, 1 + random.below(4), now)),
            }
        }
    });
    let loaded = |id: &SessionId| {
        store.load(&store.provider().issue(*id), store.now).expect("loading works")
    };
    for owner in OWNERS {
        let owns = |id: &&SessionId| loaded(id).is_some_and(|r| r.owner() == Some(owner));
        let wanted: BTreeSet<_> = ids.iter().filter(owns).map(SessionId::key).collect();
        let list = store.list(owner, 3, store.now);
        check(owner, &list);
        expect_eq!(
            keys(&list),
            wanted,
            "the list of {owner:?}, after threads have changed sessions"
        );
    }
    for id in &ids {
        store.destroy(&store.provider().issue(*id), store.now).expect("destroying works");
    }
    for owner in OWNERS {
        expect_eq!(
            store.list(owner, 3, store.much_later()),
            [],
            "the list of {owner:?}, after all sessions were destroyed"
        );
    }
    check_index(harness, store.much_later(), 0, "all sessions were destroyed");
}

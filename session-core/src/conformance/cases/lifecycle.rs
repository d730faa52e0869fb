//! New secrets, and the end of sessions.

use std::time::Duration;

use super::tokens::contains_secret;
use crate::conformance::Harness;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::sample::{HOUR, empty, login, number, record, set, until};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Record, Token};
use crate::{Error, SessionId};

/// A new secret opens what the old one opened, under the same key.
pub fn a_new_secret_opens_the_same_record(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let at = store.after(HOUR / 2);
    let new = store.save(&old, &store.with_secret(&old, Changes::new(), at), store.now);
    let new = new.expect("a live session gets a new secret");
    expect_eq!(new.key(), old.key(), "the key after a new secret");
    let renewed = Record { renewed: at, ..record.clone() };
    expect_eq!(
        store.found(&new),
        Some(renewed),
        "the record by its new secret, with the time at which it got that"
    );
    let token = store.saved(&new, &set("a", 10));
    let found = store.found(&token).expect("the record is there");
    expect_eq!(
        found.values.get("a"),
        Some(&number(10)[..]),
        "a value that was saved by the new secret"
    );
    expect_eq!(
        store.found_at(&token, record.expires),
        None,
        "loaded by the new secret at the old expiry"
    );
}

/// After a new secret, the old one opens nothing and saves nothing; the record is as it was.
pub fn an_old_secret_is_dead(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let new = store.renew(&old, store.now).expect("a live session gets a new secret");
    for view in [&store, &store.another()] {
        expect_eq!(view.found(&old), None, "loaded by the old secret");
        let extended = ExpiryChange::Extend(until(store.after(2 * HOUR)));
        for changes in [
            Changes::new(),
            set("a", 5),
            set("a", 5).with_expiry(extended),
            set("a", 5).expecting("a", Some(&number(1))),
            Changes::new().with_login(None),
            Changes::new().replacing(),
            store.with_secret(&old, set("a", 5), store.now),
        ] {
            let result = view.save(&old, &changes, store.now);
            expect_matches!(result, Err(Error::Gone), "a save by the old secret of {changes:?}");
        }
        expect_eq!(
            view.found(&new),
            Some(record.clone()),
            "the record by its new secret, after saves by the old one"
        );
    }
    if store.can.count {
        expect_eq!(
            store.count(store.now).expect("counting works"),
            1,
            "sessions, after a new secret for one"
        );
    }
}

/// Whoever knows a live session's key but not its secret can save and replace nothing.
pub fn a_wrong_secret_changes_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let guesses = [
        store
            .provider()
            .issue(SessionId::new(token.key(), crate::provider::Secret::from_bytes([0; 20]))),
        store.secret(&token, store.now).token,
    ];
    for guess in &guesses {
        expect_eq!(store.found(guess), None, "loaded by a wrong secret");
        for changes in [set("a", 5), store.with_secret(guess, set("a", 5), store.now)] {
            let result = store.save(guess, &changes, store.now);
            expect_matches!(result, Err(Error::Gone), "a save by a wrong secret of {changes:?}");
        }
        let result = store.create(guess.id(), &empty(store.now, HOUR), store.now);
        expect_matches!(
            result,
            Err(Error::Exists),
            "a creation under the key of a live session, with another secret"
        );
    }
    expect_eq!(
        store.found(&token),
        Some(record),
        "the record, after saves and creations with wrong secrets"
    );
}

/// A login is one save: new secret, login, values and times are stored in the same instant.
pub fn a_login_is_stored_in_one_step(harness: &dyn Harness) {
    let store = Store::open(harness);
    let stranger = Record { login: None, ..record(store.now) };
    let old = store.stored(&stranger);
    let mut changes = set("user", 7);
    changes.delete("c");
    changes.login = Some(login("grace", store.after(HOUR / 4)));
    let changes = store.with_secret(&old, changes, store.after(HOUR / 4));
    let changes = changes.with_expiry(ExpiryChange::Set(until(store.after(3 * HOUR))));
    let new = store.saved(&old, &changes);
    let mut wanted = stranger;
    wanted.login = login("grace", store.after(HOUR / 4));
    wanted.renewed = store.after(HOUR / 4);
    wanted.expires = store.after(3 * HOUR);
    wanted.values = [("a", number(1)), ("b", number(2)), ("user", number(7))].into_iter().collect();
    expect_eq!(
        store.found(&new),
        Some(wanted.clone()),
        "the record by its new secret, after a login"
    );
    expect_eq!(
        store.another().found(&new),
        Some(wanted),
        "the record by its new secret, as another handle sees it"
    );
    assert!(
        !store.can.checks_holder || store.found(&old).is_none(),
        "the old secret opens the record after a login"
    );
}

/// A save with a new secret may be repeated when its answer was lost: it succeeds again, and nothing
/// changes by it.
pub fn a_save_with_a_new_secret_can_be_repeated(harness: &dyn Harness) {
    let store = Store::open(harness);
    let old = store.stored(&record(store.now));
    let mut changes = set("user", 7);
    changes.login = Some(login("grace", store.now));
    let changes = store.with_secret(&old, changes, store.now);
    let new = store.saved(&old, &changes);
    let found = store.found(&new);
    let again = store.another().save(&old, &changes, store.now);
    expect_matches!(again, Ok(_), "the same save with a new secret, again");
    expect_eq!(store.found(&new), found, "the record, after the same save again");
    let result = store.save(&old, &store.with_secret(&old, set("a", 9), store.now), store.now);
    expect_matches!(result, Err(Error::Gone), "a save with another new secret by the old one");
    expect_eq!(store.found(&new), found, "the record, after another new secret was refused");
}

/// A save with a new secret that is refused changes nothing: the old secret is as good as before.
pub fn a_refused_new_secret_leaves_the_old_one(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let mut changes = set("user", 7).expecting("a", Some(&number(9)));
    changes.login = Some(login("grace", store.now));
    let changes = store.with_secret(&old, changes, store.now);
    let result = store.save(&old, &changes, store.now);
    expect_matches!(
        result,
        Err(Error::Conflict),
        "a save with a new secret and an expected value that is not the stored one"
    );
    expect_eq!(
        store.found(&old),
        Some(record),
        "the record by its old secret, after a new one was refused"
    );
    let new = &changes.secret.as_ref().expect("there is one").token;
    expect_eq!(store.found(new), None, "what the refused new secret opens");
    assert!(
        store.save(&old, &set("a", 5), store.now).is_ok(),
        "a save by the old secret, after a new one was refused"
    );
}

/// A destroyed session is gone for every operation, through every handle.
pub fn destroying_is_final(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    store.destroy(&token, store.now).expect("destroying works");
    for view in [&store, &store.another()] {
        expect_eq!(view.found(&token), None, "loaded after it was destroyed");
        let result = view.save(&token, &set("a", 5), store.now);
        expect_matches!(result, Err(Error::Gone), "a save after the session was destroyed");
        let result = view.touch(&token, store.after(2 * HOUR), store.now);
        expect_matches!(result, Err(Error::Gone), "a touch after the session was destroyed");
        let result = view.renew(&token, store.now);
        expect_matches!(result, Err(Error::Gone), "a new secret after the session was destroyed");
        expect_eq!(
            view.found(&token),
            None,
            "loaded after a save, a touch and a new secret of a session that was destroyed"
        );
    }
    if store.can.count {
        expect_eq!(
            store.count(store.now).expect("counting works"),
            0,
            "sessions, after the only one was destroyed"
        );
    }
}

/// Destroying goes by the key: it ends the session whatever its secret is by now.
pub fn destroying_goes_by_the_key(harness: &dyn Harness) {
    let store = Store::open(harness);
    let old = store.stored(&record(store.now));
    let new = store.renew(&old, store.now).expect("a live session gets a new secret");
    store.destroy(&old, store.now).expect("destroying works");
    for view in [&store, &store.another()] {
        expect_eq!(
            (view.found(&old), view.found(&new)),
            (None, None),
            "loaded by the old and by the new secret, after it was destroyed by the old one"
        );
        let result = view.save(&new, &set("a", 5), store.now);
        expect_matches!(
            result,
            Err(Error::Gone),
            "a save by the holder, after the session was destroyed by the old secret"
        );
    }
}

/// Destroying a session twice, or one that never existed, is no error.
pub fn destroying_is_idempotent(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    for _ in 0..2 {
        store.destroy(&token, store.now).expect("destroying works");
        store.another().destroy(&token, store.now).expect("destroying works");
    }
    let unknown = store.provider().issue(store.new_id());
    store.destroy(&unknown, store.now).expect("what was never there is no error");
    assert!(
        !store.can.revokes || store.found(&token).is_none(),
        "a session that was destroyed several times is there"
    );
}

/// Other sessions, even of the same owner, live on.
pub fn destroying_ends_one_session_only(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let tokens: Vec<Token> = (0..8).map(|_| store.stored(&record)).collect();
    for token in tokens.iter().step_by(2) {
        store.destroy(token, store.now).expect("destroying works");
    }
    for token in tokens.iter().skip(1).step_by(2) {
        expect_eq!(
            store.found(token),
            Some(record.clone()),
            "a session, after others of its owner were destroyed"
        );
    }
}

/// A new record under the key of a destroyed one has nothing of the old one.
pub fn a_destroyed_key_starts_from_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let old = store.stored(&record(store.now));
    store.destroy(&old, store.now).expect("destroying works");
    let new = empty(store.now, 2 * HOUR);
    let token = store.create(old.id(), &new, store.now).expect("the key is free");
    expect_eq!(store.found(&token), Some(new), "a new record under the key of a destroyed one");
}

/// What a provider declares that it can't do, it really can't: one that can do more has to declare it.
pub fn declared_limits_are_real(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    if !store.can.merges {
        store.saved(&token, &set("a", 10));
        let token = store.saved(&token, &set("b", 20));
        let found = store.found(&token).expect("the record is there");
        expect_eq!(
            found.values.get("a"),
            Some(&number(1)[..]),
            "declared not to merge, and saves by one token merge"
        );
    }
    if !store.can.stable_token {
        let text = |token: &Token| token.with_client_text(str::to_owned);
        assert_ne!(text(&token), text(&store.saved(&token, &set("a", 10))), "the token is stable");
    }
    if !store.can.checks_holder {
        store.renew(&token, store.now).expect("a live session gets a new secret");
        assert!(
            store.save(&token, &set("a", 5), store.now).is_ok(),
            "declared not to check the holder: a save by the old secret"
        );
    }
    if !store.can.hides_secrets {
        let verifier = store.provider().verifier(&token, "");
        assert!(
            contains_secret(&verifier, &token),
            "declared not to hide secrets, and the verifier has none in it"
        );
    }
    if !store.can.namespaces {
        let [one, other] = ["", "shop"].map(|name| store.provider().verifier(&token, name));
        assert!(one == other, "declared to ignore namespaces, and the verifier depends on them");
    }
    if !store.can.revokes {
        let later = store.after(Duration::from_secs(1));
        store.destroy(&token, later).expect("destroying works");
        assert!(
            store.found_at(&token, later).is_some(),
            "declared not to revoke, and a destroyed session is dead at once"
        );
    }
}

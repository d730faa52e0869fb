//! Collection: expired sessions are removed in bounded slices, and sessions in use never are.

use super::{ABSOLUTE, IDLE};
use crate::support::*;

#[test]
fn collection_removes_the_expired_in_slices_and_nothing_else() {
    let site = Site::new();
    let visit = |n: u64| {
        let visitor = site.visitor();
        visitor.set("n", n);
        visitor.request()
    };
    for n in 0..2500 {
        visit(n);
    }
    site.clock.advance(secs(IDLE - 10));
    let live: Vec<_> = (0..500).map(visit).collect();
    site.clock.advance(secs(11));
    site.store.calls();
    let purged = site.manager.collect().unwrap();
    assert_eq!((purged.removed, purged.more), (2500, false));
    let slices = site.store.calls();
    assert!(slices.len() >= 3 && slices.iter().all(|call| *call == "purge"), "{slices:?}");
    assert_eq!(site.manager.stats().purged, 2500);
    for (n, request) in live.iter().enumerate() {
        let value = block_on(async {
            let handle = site.manager.start(request);
            handle.load().await.unwrap().get::<usize>("n").unwrap()
        });
        assert_eq!(value, Some(n));
    }
    assert_eq!(site.manager.collect().unwrap().removed, 0);
}

#[test]
fn a_session_in_use_is_never_collected() {
    started!(site, visitor);
    let start = site.manager.now();
    for minute in 1..12 * 60 {
        site.clock.set(start.saturating_add(secs(minute * 60)));
        visitor.get("n");
        assert_eq!(site.manager.collect().unwrap().removed, 0);
    }
    site.clock.set(start.saturating_add(secs(ABSOLUTE + 1)));
    assert_eq!(site.manager.collect().unwrap().removed, 1);
}

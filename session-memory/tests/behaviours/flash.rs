//! Flash messages.
//!
//! Messages are returned once, in the order in which they were added. Categories are separate. Unread
//! messages stay, also when the id changes. No two requests get the same message.

use crate::support::*;

#[test]
fn messages_come_in_order_and_once() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", "one").await.unwrap();
        session.add_flash("info", "two").await.unwrap();
    });
    visitor.visit(async |handle| {
        handle.load().await.unwrap().add_flash("info", "three").await.unwrap();
    });
    let take = || {
        let (messages, _) = visitor.visit(async |handle| {
            handle.load().await.unwrap().take_flash::<String>("info").await.unwrap()
        });
        messages
    };
    assert_eq!(take(), ["one", "two", "three"]);
    assert_eq!(take(), [""; 0]);
    site.store.calls();
    assert_eq!(take(), [""; 0]);
    assert_eq!(site.store.calls(), ["load"], "nothing to take, nothing to write");
}

#[test]
fn categories_do_not_mix_and_unread_messages_survive_a_new_id() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", &1u32).await.unwrap();
        session.add_flash("error", "failed").await.unwrap();
        session.add_flash("", "empty").await.unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.take_flash::<String>("error").await.unwrap(), ["failed"]);
        assert!(session.keys().is_empty(), "messages are no keys");
        session.regenerate().unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.take_flash::<u32>("info").await.unwrap(), [1]);
        assert_eq!(session.take_flash::<String>("").await.unwrap(), ["empty"]);
        assert_eq!(session.take_flash::<String>("error").await.unwrap(), [""; 0]);
    });
}

#[test]
fn a_message_added_and_taken_in_one_request_of_a_new_visitor_leaves_no_session() {
    let site = Site::new();
    let (messages, reply) = site.visitor().visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", "one").await.unwrap();
        session.take_flash::<String>("info").await.unwrap()
    });
    assert_eq!(messages, ["one"]);
    assert!(reply.is_plain());
    assert_eq!(site.store.calls(), [""; 0]);
}

#[test]
fn a_message_of_another_type_is_an_error_and_stays() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.add_flash("info", "a text").await.unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let error = session.take_flash::<u32>("info").await.unwrap_err();
        assert!(matches!(error, session_core::Error::Decode { .. }), "{error:?}");
        assert_eq!(session.take_flash::<String>("info").await.unwrap(), ["a text"]);
    });
}

/// Many requests that loaded the same snapshot add and take messages in turn. Every message is seen
/// once.
#[test]
fn interleaved_requests_lose_no_message_and_show_none_twice() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let requests: Vec<_> = (0..8).map(|_| visitor.request()).collect();
    block_on(async {
        let handles: Vec<_> = requests.iter().map(|r| site.manager.start(r)).collect();
        let mut sessions = Vec::new();
        for handle in &handles {
            sessions.push(handle.load().await.unwrap());
        }
        let mut seen = Vec::new();
        for n in 0..200u32 {
            let session = &sessions[n as usize * 5 % sessions.len()];
            session.add_flash("log", &n).await.unwrap();
            if n % 3 == 0 {
                let taker = &sessions[n as usize * 3 % sessions.len()];
                seen.extend(taker.take_flash::<u32>("log").await.unwrap());
            }
        }
        let last = site.manager.start(&requests[0]);
        seen.extend(last.load().await.unwrap().take_flash::<u32>("log").await.unwrap());
        assert!(seen.iter().copied().eq(0..200), "{seen:?}");
    });
}

#[test]
fn threads_that_add_and_take_lose_no_message() {
    const EACH: u32 = 100;
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let token = visitor.request();
    let take = || {
        block_on(async {
            let handle = site.manager.start(&token);
            handle.load().await.unwrap().take_flash::<u32>("log").await.unwrap()
        })
    };
    let mut seen: Vec<u32> = std::thread::scope(|scope| {
        let adders: Vec<_> = (0..3)
            .map(|number| {
                let (manager, token) = (&site.manager, &token);
                scope.spawn(move || {
                    for n in 0..EACH {
                        block_on(async {
                            let handle = manager.start(token);
                            let session = handle.load().await.unwrap();
                            session.add_flash("log", &(number * EACH + n)).await.unwrap();
                        });
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        while adders.iter().any(|adder| !adder.is_finished()) {
            seen.extend(take());
        }
        seen
    });
    seen.extend(take());
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..3 * EACH));
}

//! What goes to the server, and comes back.

use session_core::provider::{Changes, ExpiryChange, Login, Page, Touch};
use session_core::{Error, SessionId};

use crate::proxy::Traffic;
use crate::sample::{EXPIRES, NOW, Stored, record, set, with_secret};
use crate::server::Server;

/// Each operation is one round trip, refused or not, once its statement is prepared and the table looked at.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn an_operation_is_one_round_trip() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "max_connections=1");
    let provider = &*provider;
    server.block_on(async {
        let touch = Touch { used: NOW, expires: EXPIRES };
        let login = Login { owner: "ada".into(), at: NOW, label: "x".into() };
        let mut several = Changes::new();
        several.set("a", [1]);
        several.set("b", [2]);
        several.delete("key0");
        let several = several.expecting("c", None).expecting("key1", Some(&[7; 20]));
        let several = several.with_expiry(ExpiryChange::Extend(touch));
        let mut large = set("a", &[0; 100]);
        large.limits.bytes = 50;
        // The first round prepares.
        for round in 0..2 {
            let session = Stored::new(provider, 3).await;
            let mut last = proxy.traffic();
            let mut trip = |what: &str| {
                let now = proxy.traffic();
                let trips = now.round_trips - last.round_trips;
                assert!(round == 0 || trips == 1, "{what}: {trips} round trips");
                assert_eq!(now.connections, 1);
                last = now;
            };
            let id = SessionId::generate().unwrap();
            provider.create(&id, record(session.holder, 1), NOW).await.unwrap();
            trip("create");
            let again = provider.create(&id, record(session.holder, 1), NOW).await;
            assert!(matches!(again, Err(Error::Exists)), "{again:?}");
            trip("create of a taken key");
            session.load(provider).await.unwrap().unwrap();
            trip("load");
            session.save(provider, &set("a", &[1])).await.unwrap();
            trip("save");
            session.save(provider, &set("a", &[1]).expecting("a", Some(&[1]))).await.unwrap();
            trip("save of an expected value");
            let conflict = session.save(provider, &set("a", &[1]).expecting("a", None)).await;
            assert!(matches!(conflict, Err(Error::Conflict)), "{conflict:?}");
            trip("conflict");
            let refused = session.save(provider, &large).await;
            assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
            trip("save over a limit");
            session.save(provider, &several).await.unwrap();
            trip("save of several keys");
            provider.touch(&session.token, touch, NOW).await.unwrap();
            trip("touch");
            let changes = Changes::new().with_login(Some(Box::new(login.clone())));
            let (changes, _) = with_secret(changes, session.id);
            session.save(provider, &changes).await.unwrap();
            trip("login");
            let gone = session.save(provider, &set("a", &[1])).await;
            assert!(matches!(gone, Err(Error::Gone)), "{gone:?}");
            trip("save under an old secret");
            provider.list("ada", Page { after: None, limit: 10 }, NOW).await.unwrap();
            trip("list");
            provider.count(NOW).await.unwrap();
            trip("count");
            provider.destroy(&session.id.key(), EXPIRES, NOW).await.unwrap();
            trip("destroy");
            let gone = provider.touch(&session.token, touch, NOW).await;
            assert!(matches!(gone, Err(Error::Gone)), "{gone:?}");
            trip("touch of nothing");
            provider.purge(NOW, 10).unwrap();
            trip("purge");
        }
    });
}

/// A save costs the network what it changes, whatever else the session has.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn other_values_stay_at_the_server() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "max_connections=1");
    let costs: Vec<(usize, usize)> = server.block_on(async {
        let mut costs = Vec::new();
        for values in [1, 1, 1000] {
            let session = Stored::new(&*provider, values).await;
            let mut two = set("a", &[1]);
            two.delete("key0");
            // The first round prepares.
            for changes in [set("a", &[1]).expecting("a", None), two] {
                let before = proxy.traffic();
                session.save(&*provider, &changes).await.unwrap();
                let Traffic { sent, received, .. } = proxy.traffic();
                costs.push((sent - before.sent, received - before.received));
            }
        }
        costs
    });
    assert_eq!(costs[2..4], costs[4..6], "bytes sent and received beside 1 and 1,000 values");
    assert!(costs[4].0 < 500 && costs[4].1 < 200, "{:?}", costs[4]);
}

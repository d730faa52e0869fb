//! Clusters in which nodes join, leave and fail, and slots move.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use futures_lite::future::block_on;
use redis::{Connection, cmd};
use session_core::provider::{Changes, Page, Provider, Token, Touch};
use session_core::{Error, SessionId};
use session_redis::{RedisConfig, RedisProvider};

use crate::faults::{EXPIRES, NOW, create, load, log_in, record, save, set};
use crate::own_server::OwnServer;
use crate::server::Server;

const SLOTS: u16 = 16_384;

/// The second node has so few slots that they can be moved one by one.
const FEW: u16 = 64;

/// Returns the node that has a slot at first.
fn home(slot: u16) -> usize {
    usize::from(slot < FEW)
}

/// A cluster that only one test uses.
struct OwnCluster(Vec<OwnServer>);

impl OwnCluster {
    /// Two nodes, of which the second one has few slots.
    fn start() -> Self {
        let cluster = Self(vec![OwnServer::start_node(), OwnServer::start_node()]);
        for number in [0, 1] {
            cluster.give(number, |slot| home(slot) == number);
        }
        cluster.meet(&cluster.0[1]);
        cluster
    }

    /// Gives a node slots that no other has.
    fn give(&self, number: usize, is_given: impl Fn(u16) -> bool) {
        let mut command = cmd("CLUSTER");
        command.arg("ADDSLOTS");
        (0..SLOTS).filter(|slot| is_given(*slot)).for_each(|slot| _ = command.arg(slot));
        self.0[number].ask::<()>(&mut command);
    }

    /// Adds a node to the cluster, and waits until all nodes know each other's slots.
    fn meet(&self, node: &OwnServer) {
        self.0[0].ask::<()>(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port));
        self.agree();
    }

    /// Waits until all nodes agree on the owner of each slot and report that the cluster works.
    fn agree(&self) {
        let views = || -> Vec<Vec<String>> {
            let view = |node: &OwnServer| {
                let view: String = node.ask(cmd("CLUSTER").arg("NODES"));
                let mut view: Vec<String> = view
                    .lines()
                    .filter(|line| !line.contains("handshake"))
                    // The id, the epoch, and the slots but those that move.
                    .map(|line| {
                        let mut parts = line.split(' ');
                        let id = parts.next().expect("a line begins with an id").to_owned();
                        parts
                            .skip(6)
                            .filter(|slots| !slots.starts_with('['))
                            .fold(id, |id, slots| id + " " + slots)
                    })
                    .collect();
                view.sort();
                view
            };
            self.0.iter().map(view).collect()
        };
        let is_ok = |node: &OwnServer| {
            node.ask::<String>(cmd("CLUSTER").arg("INFO")).contains("cluster_state:ok")
        };
        loop {
            let views = views();
            let known = views[0].len();
            if known >= self.0.len()
                && views.iter().all(|view| *view == views[0])
                && self.0.iter().all(is_ok)
            {
                return;
            }
            thread::yield_now();
        }
    }

    fn provider(&self, options: &str) -> RedisProvider {
        let port = self.0[0].port;
        let config = RedisConfig::parse(&format!("redis://127.0.0.1:{port}?mode=cluster{options}"));
        RedisProvider::new(config.expect("the source is right")).expect("it opens")
    }

    fn slot(&self, token: &Token) -> u16 {
        self.slot_by(&mut self.0[0].connection(), token)
    }

    fn slot_by(&self, node: &mut Connection, token: &Token) -> u16 {
        let name = format!("session:{{{}}}", token.key());
        cmd("CLUSTER").arg("KEYSLOT").arg(name).query(node).expect("it is a number")
    }

    /// Sessions of different slots that this node has.
    fn sessions_of(&self, provider: &dyn Provider, number: usize, count: usize) -> Vec<Token> {
        let (mut found, mut node) = (BTreeMap::new(), self.0[0].connection());
        while found.len() < count {
            let id = SessionId::generate().expect("there is chance");
            let slot = self.slot_by(&mut node, &id.into());
            if home(slot) == number && !found.contains_key(&slot) {
                block_on(provider.create(&id, record(), NOW)).expect("it is stored");
                found.insert(slot, id.into());
            }
        }
        found.into_values().collect()
    }

    /// Moves a slot with its keys, as a resharding does.
    fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (old, new) = (&self.0[from], &self.0[to]);
        let id = |node: &OwnServer| node.ask::<String>(cmd("CLUSTER").arg("MYID"));
        let set = |node: &OwnServer, what: &str, id: &str| {
            node.ask::<()>(cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(what).arg(id));
        };
        set(new, "IMPORTING", &id(old));
        set(old, "MIGRATING", &id(new));
        loop {
            let mut names = cmd("CLUSTER");
            let names: Vec<String> = old.ask(names.arg("GETKEYSINSLOT").arg(slot).arg(10));
            if names.is_empty() {
                break;
            }
            for name in names {
                let mut migrate = cmd("MIGRATE");
                old.ask::<String>(
                    migrate.arg("127.0.0.1").arg(new.port).arg(name).arg(0).arg(5000),
                );
            }
        }
        let new_id = id(new);
        set(new, "NODE", &new_id);
        // A node without slots may have become a replica already, which is not told of slots.
        let mut command = cmd("CLUSTER");
        command.arg("SETSLOT").arg(slot).arg("NODE").arg(&new_id);
        if let Err(error) = command.query::<()>(&mut old.connection()) {
            assert!(error.to_string().contains("masters"), "{error}");
        }
    }
}

/// While slots move, no operation fails and no save is lost.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn slots_that_move_under_load_lose_nothing() {
    let cluster = OwnCluster::start();
    let provider = cluster.provider("&operation_timeout=20s");
    let tokens = cluster.sessions_of(&provider, 0, 12);
    let is_over = AtomicBool::new(false);
    let name = |thread: usize, token: usize| format!("{thread}.{token}");
    let written = thread::scope(|scope| {
        let threads: Vec<_> = (0..4_usize)
            .map(|thread| {
                let (provider, tokens, is_over) =
                    (cluster.provider("&operation_timeout=20s"), &tokens, &is_over);
                scope.spawn(move || {
                    let mut n = 0_u16;
                    while !is_over.load(Ordering::SeqCst) {
                        n += 1;
                        for (at, token) in tokens.iter().enumerate() {
                            let mut changes = Changes::new();
                            changes
                                .set(&name(thread, at), [&[0xcd][..], &n.to_be_bytes()].concat());
                            save(&provider, token, &changes).expect("a save is told of no move");
                            let stored = load(&provider, token).expect("nor is a load");
                            let stored = stored.expect("the session is somewhere");
                            let value = stored.values.get(&name(thread, at)).expect("it was saved");
                            assert_eq!(value[1..], n.to_be_bytes(), "the last save is there");
                        }
                    }
                    n
                })
            })
            .collect();
        for token in &tokens {
            cluster.move_slot(cluster.slot(token), 0, 1);
            cluster.agree();
        }
        is_over.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().expect("it saves")).collect::<Vec<_>>()
    });
    for (at, token) in tokens.iter().enumerate() {
        let stored = load(&provider, token).unwrap().expect("it is there");
        for (thread, n) in written.iter().enumerate() {
            let value = stored.values.get(&name(thread, at)).expect("it was saved");
            assert_eq!(value[1..], n.to_be_bytes());
        }
    }
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn nodes_that_come_and_go_are_followed() {
    let mut cluster = OwnCluster::start();
    let provider = cluster.provider("&operation_timeout=20s");
    let tokens = cluster.sessions_of(&provider, 1, 3);
    let is_there = |token: &Token| {
        save(&provider, token, &set("a", 7)).expect("it is saved");
        load(&provider, token).expect("it is loaded").is_some()
    };
    assert!(tokens.iter().all(is_there));
    cluster.0.push(OwnServer::start_node());
    cluster.meet(&cluster.0[2]);
    for token in &tokens {
        cluster.move_slot(cluster.slot(token), 1, 2);
        assert!(is_there(token));
    }
    // All slots of the second node move to the third one, and the second one leaves.
    for slot in 0..FEW {
        if tokens.iter().all(|token| cluster.slot(token) != slot) {
            cluster.move_slot(slot, 1, 2);
        }
    }
    let gone = cluster.0.remove(1);
    let id: String = gone.ask(cmd("CLUSTER").arg("MYID"));
    for node in &cluster.0 {
        node.ask::<()>(cmd("CLUSTER").arg("FORGET").arg(&id));
    }
    gone.ask::<()>(cmd("CLUSTER").arg("RESET"));
    assert!(tokens.iter().all(is_there));
    drop(gone);
    cluster.agree();
    assert!(tokens.iter().all(is_there));
    let token = create(&provider, record());
    assert!(is_there(&token));
}

/// A program may start before the cluster has all its slots.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_slot_that_no_node_had_is_found_once_one_has_it() {
    let cluster = OwnCluster(vec![OwnServer::start_node()]);
    let provider = cluster.provider("");
    let token = Token::from(SessionId::generate().unwrap());
    let slot = cluster.slot(&token);
    cluster.give(0, |other| other != slot);
    cluster.agree();
    let loaded = load(&provider, &token);
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    cluster.give(0, |other| other == slot);
    cluster.agree();
    assert_eq!(load(&provider, &token).unwrap(), None);
}

/// Operations on other nodes don't wait for a frozen node.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_node_that_stands_still_holds_up_its_own_sessions_alone() {
    let cluster = OwnCluster::start();
    let provider = cluster.provider("&operation_timeout=1s");
    let frozen = cluster.sessions_of(&provider, 1, 1).remove(0);
    let other = cluster.sessions_of(&provider, 0, 1).remove(0);
    cluster.0[1].signal("STOP");
    let loaded = load(&provider, &frozen);
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..16 {
            let (provider, frozen, is_over) = (&provider, &frozen, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    assert!(load(provider, frozen).is_err());
                }
            });
        }
        let (began, mut slow) = (Instant::now(), Vec::new());
        // For longer than it takes to give the node up.
        while began.elapsed().as_secs() < 4 {
            let began = Instant::now();
            assert!(load(&provider, &other).unwrap().is_some());
            slow.extend(Some(began.elapsed()).filter(|took| took.as_millis() > 300));
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(slow.len() < 2, "{slow:?}");
    });
    cluster.0[1].signal("CONT");
    assert!(load(&provider, &frozen).unwrap().is_some());
}

/// A frozen primary refuses no connection. The provider nevertheless finds the replica that takes its place.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_replica_that_took_the_place_of_a_primary_is_found() {
    let mut cluster = OwnCluster::start();
    let provider = cluster.provider("&operation_timeout=300ms");
    let token = cluster.sessions_of(&provider, 1, 1).remove(0);
    cluster.0.push(OwnServer::start_node());
    cluster.meet(&cluster.0[2]);
    let [other, primary, replica] = &cluster.0[..] else { unreachable!("there are three") };
    let id: String = primary.ask(cmd("CLUSTER").arg("MYID"));
    replica.ask::<()>(cmd("CLUSTER").arg("REPLICATE").arg(id));
    let is_synced =
        || replica.ask::<String>(cmd("INFO").arg("replication")).contains("master_link_status:up");
    while !is_synced() {
        thread::yield_now();
    }
    primary.signal("STOP");
    for _ in 0..3 {
        let loaded = load(&provider, &token);
        assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    }
    replica.ask::<()>(cmd("CLUSTER").arg("FAILOVER").arg("TAKEOVER"));
    let id: String = replica.ask(cmd("CLUSTER").arg("MYID"));
    let is_known = || {
        let nodes: String = other.ask(cmd("CLUSTER").arg("NODES"));
        nodes.lines().any(|line| line.starts_with(&id) && line.contains(" master "))
    };
    while !is_known() {
        thread::yield_now();
    }
    let failed = (0..8).take_while(|_| load(&provider, &token).is_err()).count();
    assert!(failed < 3, "{failed} loads in a row failed afterwards");
    primary.signal("CONT");
}

/// While a slot moves from one node to another, and afterwards, its sessions are found where they are.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_slot_that_moves_is_followed() {
    if !Server::is_cluster() {
        return; // Only a cluster moves slots.
    }
    let server = Server::new();
    let provider = server.provider("");
    let token = create(&*provider, record());
    let name = server.name(&token.key());
    let slot: u16 = server.ask(cmd("CLUSTER").arg("KEYSLOT").arg(&name));
    let ids = server
        .each(|node| -> String { cmd("CLUSTER").arg("MYID").query(node).expect("it has an id") });
    let has = server.each(|node| cmd("GET").arg(&name).query::<Vec<u8>>(node).is_ok());
    let from = has.iter().position(|has| *has).expect("one has it");
    let to = (from + 1) % ids.len();
    // What a node does with the slot, as a resharding tells it.
    let tell = |number: usize, what: &str, id: &str| {
        let mut at = 0;
        server.each(|node| {
            let mut command = cmd("CLUSTER");
            command.arg("SETSLOT").arg(slot).arg(what).arg(id);
            if at == number {
                command.query::<()>(node).expect("it does so");
            }
            at += 1;
        });
    };
    tell(to, "IMPORTING", &ids[from]);
    tell(from, "MIGRATING", &ids[to]);
    save(&*provider, &token, &set("a", 3)).expect("what has not moved yet is where it was");
    // A session of the same slot that the old node hasn't: it belongs to the new one.
    block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
    block_on(provider.create(token.id(), record(), NOW)).expect("it is asked for at the new node");
    assert_eq!(load(&*provider, &token).unwrap(), Some(record()));
    save(&*provider, &token, &log_in(&token, "ada")).unwrap();
    let page = Page { after: None, limit: 10 };
    assert_eq!(block_on(provider.list("ada", page, NOW)).unwrap().sessions.len(), 1);
    for number in [to, from, (from + 2) % ids.len()] {
        tell(number, "NODE", &ids[to]);
    }
    for provider in [&provider, &server.provider("")] {
        assert_eq!(load(&**provider, &token).unwrap().unwrap().owner(), Some("ada"));
        let touch = Touch { used: EXPIRES, expires: EXPIRES };
        block_on(provider.touch(&token, touch, NOW)).unwrap();
    }
    block_on(provider.destroy(&token.key(), EXPIRES, NOW)).unwrap();
    for number in [from, to, (from + 2) % ids.len()] {
        tell(number, "NODE", &ids[from]);
    }
    block_on(provider.create(token.id(), record(), NOW)).expect("and back");
    assert_eq!(load(&*provider, &token).unwrap(), Some(record()));
}

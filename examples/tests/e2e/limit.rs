//! A limit on each user's sessions, with four processes and one store.

use std::thread;

use crate::demo::Demo;
use crate::files::{Directory, File};

/// In each round, four browsers log in at once at four servers.
#[test]
fn of_logins_at_once_at_four_servers_one_is_left_where_one_is_allowed() {
    const ROUNDS: u64 = 25;
    let directory = Directory::new();
    let source = directory.source();
    let text = format!("provider = \"file\"\nsource = {source:?}\nsessions_per_owner = 1\n");
    let config = File::new("limit", &text);
    let servers: Vec<_> = (0..4).map(|_| Demo::start(&["--config", config.path()])).collect();
    for round in 0..ROUNDS {
        let logins = servers.iter().map(|server| {
            let mut visitor = server.visitor();
            thread::spawn(move || {
                visitor.post("/login", format!("username=user{round}")).expect(303);
                visitor
            })
        });
        let logins: Vec<_> = logins.collect::<Vec<_>>();
        let mut visitors: Vec<_> =
            logins.into_iter().map(|login| login.join().expect("logs in")).collect();
        let names: Vec<_> =
            visitors.iter_mut().map(|visitor| visitor.get("/whoami").line().to_owned()).collect();
        let live = names.iter().filter(|name| **name != "anonymous").count();
        assert_eq!(live, 1, "round {round}: {names:?}");
        assert_eq!(servers[0].sessions(), round + 1);
    }
}

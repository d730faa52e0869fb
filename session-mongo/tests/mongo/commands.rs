//! The commands that are sent: how many, how large, and that indexes serve them.

use std::sync::{Arc, Mutex};

use mongodb::bson::{Bson, Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use session_core::provider::{
    Changes, ExpiryChange, Login, NewSecret, Page, Provider, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use session_mongo::{MongoProvider, mongodb};

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const LATER: Touch = Touch {
    used: Timestamp::from_millis(1_800_000_300_123),
    expires: Timestamp::from_millis(1_800_007_200_123),
};

/// A provider whose commands are recorded.
struct Noted {
    server: Server,
    provider: Arc<dyn Provider>,
    commands: Arc<Mutex<Vec<Document>>>,
}

impl Noted {
    fn new() -> Self {
        let server = Server::new();
        let commands = Arc::<Mutex<Vec<Document>>>::default();
        let noting = Arc::clone(&commands);
        let config = server.config("ensure_ttl=false").with_driver_options(move |options| {
            let noting = Arc::clone(&noting);
            options.command_event_handler = Some(EventHandler::callback(move |event| {
                if let CommandEvent::Started(event) = event {
                    noting.lock().unwrap().push(event.command);
                }
            }));
        });
        let provider: Arc<dyn Provider> = Arc::new(MongoProvider::new(config).unwrap());
        Self { server, provider, commands }
    }

    fn session(&self, keys: usize) -> SessionId {
        let id = SessionId::generate().unwrap();
        let values = (0..keys).map(|key| (format!("key{key}"), [7; 12])).collect();
        let record = Record { values, ..record(id) };
        self.server.block_on(self.provider.create(&id, record, NOW)).unwrap();
        id
    }

    /// Stores this many sessions of an owner.
    fn owned(&self, owner: &str, sessions: usize) {
        for _ in 0..sessions {
            let id = SessionId::generate().unwrap();
            let login = Login { owner: owner.into(), at: NOW, label: "Firefox".into() };
            let values = [("secret", [7; 100])].into_iter().collect();
            let record = Record { login: Some(Box::new(login)), values, ..record(id) };
            self.server.block_on(self.provider.create(&id, record, NOW)).unwrap();
        }
    }

    /// Performs a save under this id, and returns its commands as well.
    fn save(&self, id: SessionId, changes: &Changes) -> (Result<(), Error>, Vec<Document>) {
        let (token, holder) = (Token::from(id), Verifier::digest(&id, ""));
        let (result, commands) = self.during(self.provider.save(&token, &holder, changes, NOW));
        (result.map(|token| assert!(token.is_none())), commands)
    }

    /// Performs an operation, and returns its commands as well.
    fn during<T>(&self, operation: impl Future<Output = T>) -> (T, Vec<Document>) {
        self.commands.lock().unwrap().clear();
        let outcome = self.server.block_on(operation);
        (outcome, std::mem::take(&mut *self.commands.lock().unwrap()))
    }
}

fn names(commands: &[Document]) -> Vec<&str> {
    commands.iter().filter_map(|command| command.keys().next()).map(String::as_str).collect()
}

fn record(id: SessionId) -> Record {
    Record::new(Verifier::digest(&id, ""), NOW, EXPIRES)
}

fn set(key: &str, value: &[u8]) -> Changes {
    let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(LATER));
    changes.set(key, value);
    changes
}

/// Returns the changes of a login, and the id that opens the session afterwards.
fn login(id: SessionId) -> (Changes, SessionId) {
    let new_id = id.with_new_secret().unwrap();
    let mut changes = set("cart", &[1]);
    changes.login = Some(Some(Box::new(Login { owner: "ada".into(), at: NOW, label: "".into() })));
    let holder = Verifier::digest(&new_id, "");
    changes.secret = Some(Box::new(NewSecret { token: new_id.into(), holder, at: NOW }));
    changes.cookie = Some(7);
    (changes, new_id)
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn each_operation_is_one_command() {
    let noted = Noted::new();
    let provider = &noted.provider;
    let id = noted.session(3);
    let token = Token::from(id);
    let new = SessionId::generate().unwrap();

    let (result, commands) = noted.during(provider.create(&new, record(new), NOW));
    result.unwrap();
    assert_eq!(names(&commands), ["insert"]);

    let (result, commands) = noted.during(provider.load(&token, NOW));
    assert!(result.unwrap().is_some());
    assert_eq!(names(&commands), ["find"]);

    let unknown = SessionId::generate().unwrap();
    let unknown_token = Token::from(unknown);
    let (result, commands) = noted.during(provider.load(&unknown_token, NOW));
    assert!(result.unwrap().is_none());
    assert_eq!(names(&commands), ["find"]);

    let (result, commands) = noted.save(id, &set("key0", &[1]));
    result.unwrap();
    assert_eq!(names(&commands), ["update"]);

    let changes = set("key0", &[2]).expecting("key0", Some(&[1])).expecting("key9", None);
    let (result, commands) = noted.save(id, &changes);
    result.unwrap();
    assert_eq!(names(&commands), ["update"]);
    // Only this operation has a second command, which distinguishes a conflict from a session that
    // ended.
    let (result, commands) = noted.save(id, &changes);
    assert!(matches!(result, Err(Error::Conflict)), "{result:?}");
    assert_eq!(names(&commands), ["update", "find"]);

    let (result, commands) = noted.save(unknown, &set("a", &[1]));
    assert!(matches!(result, Err(Error::Gone)), "{result:?}");
    assert_eq!(names(&commands), ["update"]);

    let (result, commands) = noted.during(provider.touch(&token, LATER, NOW));
    result.unwrap();
    assert_eq!(names(&commands), ["update"]);

    let (changes, new_id) = login(id);
    let (result, commands) = noted.save(id, &changes);
    result.unwrap();
    assert_eq!(names(&commands), ["update"], "a login is one save");
    // A save with the id from before the login changes nothing, and fails with its first command.
    let (result, commands) = noted.save(id, &set("key0", &[3]));
    assert!(matches!(result, Err(Error::Gone)), "{result:?}");
    assert_eq!(names(&commands), ["update"]);
    let stored = noted.server.block_on(provider.load(&token, NOW)).unwrap().unwrap();
    assert_eq!(stored.holder, Verifier::digest(&new_id, ""));
    assert_eq!((stored.owner(), stored.values.get("key0")), (Some("ada"), Some(&[2][..])));

    let key = id.key();
    let (result, commands) = noted.during(provider.destroy(&key, EXPIRES, NOW));
    result.unwrap();
    assert_eq!(names(&commands), ["delete"]);

    let (result, commands) = noted.during(provider.count(NOW));
    assert_eq!(result.unwrap(), 1);
    assert_eq!(names(&commands), ["aggregate"]);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn every_write_asks_for_a_majority_and_the_journal_and_none_is_an_upsert() {
    let noted = Noted::new();
    let provider = &noted.provider;
    let id = noted.session(1);
    let (key, token) = (id.key(), Token::from(id));
    let mut commands = std::mem::take(&mut *noted.commands.lock().unwrap());
    commands.retain(|command| command.keys().next().is_some_and(|name| name == "insert"));
    for changes in [set("a", &[1]), set("a", &[2]).expecting("a", Some(&[1])), login(id).0] {
        commands.extend(noted.save(id, &changes).1);
    }
    commands.extend(noted.during(provider.touch(&token, LATER, NOW)).1);
    commands.extend(noted.during(provider.destroy(&key, EXPIRES, NOW)).1);
    assert_eq!(names(&commands), ["insert", "update", "update", "update", "update", "delete"]);
    for command in &commands {
        let concern = command.get_document("writeConcern").expect("a write has a concern");
        assert_eq!(concern.get_str("w").ok(), Some("majority"), "{:?}", names(&commands));
        assert_eq!(concern.get_bool("j").ok(), Some(true));
        assert!(!format!("{command:?}").contains("upsert"));
    }
}

/// Whatever the page's size and however many sessions have expired, it is one find without values.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_page_of_an_owners_sessions_is_one_find_without_values() {
    let noted = Noted::new();
    noted.owned("ada", Page::MAX_SIZE + 20);
    noted.owned("grace", 3);
    let token = Token::from(SessionId::generate().unwrap());
    let list = |owner, page, now| {
        let (listed, commands) = noted.during(noted.provider.list(owner, page, now));
        assert_eq!(names(&commands), ["find"]);
        let fields = commands[0].get_document("projection").unwrap();
        assert!(!fields.contains_key("values") && fields.contains_key("login"), "{fields}");
        let (_, loads) = noted.during(noted.provider.load(&token, NOW));
        for option in ["$readPreference", "readConcern"] {
            assert_eq!(commands[0].get(option), loads[0].get(option));
        }
        listed.unwrap()
    };
    let first = |limit| Page { after: None, limit };
    for limit in [1, 2, Page::MAX_SIZE, usize::MAX] {
        let page = first(limit);
        let listed = list("ada", page, NOW);
        assert_eq!(listed.sessions.len(), page.size());
        assert_eq!(listed.next, listed.sessions.last().map(|session| session.key));
        let rest = list("ada", Page { after: listed.next, limit: Page::MAX_SIZE }, NOW);
        assert_eq!(rest.sessions.len(), (Page::MAX_SIZE + 20 - page.size()).min(Page::MAX_SIZE));
    }
    assert_eq!(list("grace", first(3), NOW).next, None);
    assert_eq!(list("alan", first(3), NOW), Default::default());
    // Expired sessions that aren't collected make pages shorter.
    let expired = list("ada", first(10), EXPIRES);
    assert_eq!((expired.sessions, expired.next.is_some()), (vec![], true));
    let last = Some(SessionKey::from_bytes([0xff; 12]));
    assert_eq!(list("ada", Page { after: last, limit: 10 }, NOW), Default::default());
}

/// Neither the database nor its log has a secret that opens a session.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_secret_is_in_a_command() {
    let noted = Noted::new();
    let provider = &noted.provider;
    let id = noted.session(1);
    let (key, token) = (id.key(), Token::from(id));
    let (changes, new_id) = login(id);
    let mut commands = std::mem::take(&mut *noted.commands.lock().unwrap());
    commands.extend(noted.save(id, &changes).1);
    commands.extend(noted.during(provider.load(&token, NOW)).1);
    commands.extend(noted.during(provider.touch(&token, LATER, NOW)).1);
    commands.extend(noted.during(provider.destroy(&key, EXPIRES, NOW)).1);
    let all = names(&commands);
    assert!(all.ends_with(&["insert", "update", "find", "update", "delete"]), "{all:?}");
    for command in &commands {
        let bytes = command.to_vec().unwrap();
        for id in [id, new_id] {
            let secret = id.secret().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// A save names only the changed keys.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_save_sends_as_much_beside_fifty_keys_as_beside_none() {
    let noted = Noted::new();
    let size = |keys: usize| {
        let id = noted.session(keys);
        let (result, commands) = noted.save(id, &set("n", &[1]));
        result.unwrap();
        commands[0].to_vec().unwrap().len()
    };
    let alone = size(0);
    assert_eq!(size(50), alone);
    assert_eq!(size(1000), alone);
}

/// Indexes serve all filters of the operations; the server's `explain` says so.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn indexes_serve_every_filter() {
    let noted = Noted::new();
    // Enough documents that a full scan would be the worse plan, of few owners and of none.
    let documents: Vec<Document> = (0..2000_u32)
        .map(|n| {
            let key = SessionId::generate().unwrap().key();
            let mut document = doc! {
                "_id": binary(key.as_bytes()), "v": 1, "holder": binary(&[7; 32]), "created": date(NOW),
                "renewed": date(NOW), "used": date(NOW), "cookie": 0, "values": {},
                "expires": date(Timestamp::from_millis(NOW.as_millis() + u64::from(n) * 1000)),
            };
            if n % 4 == 0 {
                let owner = format!("owner{}", n % 200);
                document.insert("login", doc! { "owner": owner, "at": date(NOW), "label": "" });
            }
            document
        })
        .collect();
    let id = noted.session(1);
    noted.server.block_on(noted.server.documents().insert_many(documents).into_future()).unwrap();

    let provider = &noted.provider;
    let (key, token) = (id.key(), Token::from(id));
    let mut commands = Vec::new();
    let conditional = set("key0", &[1]).expecting("key0", Some(&[7; 12]));
    commands.extend(noted.during(provider.load(&token, NOW)).1);
    commands.extend(noted.save(id, &conditional).1);
    commands.extend(noted.save(id, &conditional).1);
    commands.extend(noted.save(id, &login(id).0).1);
    commands.extend(noted.during(provider.touch(&token, LATER, NOW)).1);
    commands.extend(noted.during(provider.destroy(&key, EXPIRES, NOW)).1);
    for after in [None, Some(SessionKey::from_bytes([0x7f; 12]))] {
        let page = Page { after, limit: 10 };
        let (listed, found) = noted.during(provider.list("owner4", page, NOW));
        assert!(!listed.unwrap().sessions.is_empty());
        commands.extend(found);
    }
    let early = Timestamp::from_millis(NOW.as_millis() + 20_000);
    let (purged, found) = noted.during(async { provider.purge(early, 10) });
    assert_eq!(purged.unwrap().removed, 10);
    commands.extend(found);
    let wanted = [
        "find", "update", "update", "find", "update", "update", "delete", "find", "find", "find",
        "delete",
    ];
    assert_eq!(names(&commands), wanted);

    for command in &commands {
        let name = names(std::slice::from_ref(command))[0];
        let filter = filter(command);
        let mut find =
            doc! { "find": &noted.server.collection, "filter": filter.clone(), "limit": 1 };
        for option in ["sort", "limit"] {
            find.extend(command.get(option).map(|value| (option.to_owned(), value.clone())));
        }
        let explain = doc! { "explain": find };
        let database = noted.server.database();
        let plan = noted.server.block_on(database.run_command(explain).into_future()).unwrap();
        let mut used = Vec::new();
        let mut scans = Vec::new();
        // MongoDB also returns rejected plans. PostgreSQL has other names.
        let planner = plan.get_document("queryPlanner").expect("a plan");
        match planner.get_document("winningPlan") {
            Ok(winner) => {
                values_of(winner, "indexName", &mut used);
                values_of(winner, "stage", &mut scans);
            }
            Err(_) => {
                values_of(planner, "Index Name", &mut used);
                values_of(planner, "Node Type", &mut scans);
            }
        }
        used.sort();
        let wanted: &[&[&str]] = match filter.get("_id") {
            Some(Bson::Binary(_)) => &[&["_id_"]],
            _ if filter.contains_key("login.owner") => &[&["login.owner_1__id_1"]],
            None => &[&["expires_1"]],
            // The deletion of a batch by `_id`.
            Some(_) => &[&["_id_"], &["expires_1"], &["_id_", "expires_1"]],
        };
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        assert!(wanted.contains(&&*used), "{name} uses {used:?}: {plan}");
        let whole = ["COLLSCAN", "Seq Scan"];
        assert!(!scans.iter().any(|scan| whole.contains(&scan.as_str())), "{name}: {plan}");
    }
}

/// Collects all texts with this name at any depth.
fn values_of(document: &Document, name: &str, found: &mut Vec<String>) {
    for (field, value) in document {
        match value {
            Bson::String(text) if field == name => found.push(text.clone()),
            Bson::Document(document) => values_of(document, name, found),
            Bson::Array(values) => {
                for document in values.iter().filter_map(Bson::as_document) {
                    values_of(document, name, found);
                }
            }
            _ => {}
        }
    }
}

/// Returns the filter of a command, or of its only statement.
fn filter(command: &Document) -> Document {
    let statements = command.get_array("updates").or_else(|_| command.get_array("deletes"));
    let holder = match statements {
        Ok(statements) => statements[0].as_document().expect("a statement is a document"),
        Err(_) => command,
    };
    let filter = holder.get_document("q").or_else(|_| holder.get_document("filter"));
    filter.expect("there is a filter").clone()
}

fn binary(bytes: &[u8]) -> mongodb::bson::Binary {
    let subtype = mongodb::bson::spec::BinarySubtype::Generic;
    mongodb::bson::Binary { subtype, bytes: bytes.to_vec() }
}

fn date(time: Timestamp) -> mongodb::bson::DateTime {
    mongodb::bson::DateTime::from_millis(i64::try_from(time.as_millis()).unwrap())
}

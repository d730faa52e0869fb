//! No secret of an id, and no cookie, value, owner or password appears in `Debug` output, error texts or
//! logs at any level. The key of an id may appear.
//!
//! Every visitor of this suite checks when it is dropped that none of its secrets was logged. These
//! tests have the requests that log most, and everything that can be printed.

use std::fmt::{Debug, Write as _};

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{Request, Response};
use session_core::provider::Provider as _;
use session_core::provider::{Changes, Login, Record, Source, Token, Values, Verifier};
use session_core::transport::TransportKind;
use session_core::transport::{Directive, Extracted, RequestHead, TokenSource};
use session_core::{
    Config, Error, Manager, Managers, SessionId, SessionKey, SessionService, Timestamp,
};

use crate::support::*;

const VALUE: &str = "value-that-nobody-may-see";
const OWNER: &str = "owner-that-nobody-may-see";
const PASSWORD: &str = "hunter2-hunter2";

/// Returns all forms in which an id's secret could be recognized.
fn traces(id: &SessionId) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let secret = id.secret().as_bytes();
    let holder = Verifier::digest(id, "");
    vec![
        id.text().to_string(),
        id.text()[SessionKey::TEXT_LEN..][..8].to_owned(),
        id.text()[33..].to_owned(),
        hex(secret),
        hex(&secret[..8]),
        hex(&holder.as_bytes()[..8]),
        format!("{:?}", &secret[..8]).trim_matches(['[', ']']).to_owned(),
    ]
}

fn assert_nothing_in(text: &str, ids: &[SessionId]) {
    let secrets = [VALUE, OWNER, PASSWORD].map(str::to_owned);
    for secret in secrets.into_iter().chain(ids.iter().flat_map(traces)) {
        assert!(!text.contains(&secret), "{secret} is in:\n{text}");
    }
}

#[test]
fn logs_of_every_event_show_keys_only() {
    let log = Log::open();
    let mut ids = Vec::new();
    for kind in
        [TransportKind::Cookie, TransportKind::Url, TransportKind::Auto, TransportKind::Header]
    {
        let site = Site::configured(|config| config.transport = kind);
        let request = |id: Option<SessionId>| {
            let mut request = Request::new(());
            if let Some(text) = id.map(|id| id.text().to_string()) {
                let uri = match kind {
                    TransportKind::Url => format!("/?sid={text}"),
                    _ => "/".to_owned(),
                };
                *request.uri_mut() = uri.parse().unwrap();
                let headers = request.headers_mut();
                headers.insert(COOKIE, format!("__Host-id={text}").parse().unwrap());
                headers.insert("x-session-id", text.parse().unwrap());
            }
            request
        };
        block_on(async {
            let mut response = Response::builder().header(LOCATION, "/next").body(()).unwrap();
            // Created.
            let handle = site.manager.start_owned(&request(None));
            let session = handle.load().await.unwrap();
            session.set("k", VALUE).unwrap();
            session.log_in(OWNER).unwrap();
            session.label(OWNER).unwrap();
            session.add_flash("info", VALUE).await.unwrap();
            handle.encode_url("/a");
            handle.finish(&mut response).await.unwrap();
            let first = handle.load().await.unwrap().id().unwrap();
            let post = |id| {
                let mut request = request(id);
                *request.method_mut() = http::Method::POST;
                request
            };
            // Regenerated, updated, then gone for a second request.
            let (one, two) = (
                site.manager.start_owned(&post(Some(first))),
                site.manager.start_owned(&post(Some(first))),
            );
            let (a, b) = (one.load().await.unwrap(), two.load().await.unwrap());
            a.update("k", |value: Option<String>| value.unwrap() + VALUE).await.unwrap();
            b.update("k", |value: Option<String>| value.unwrap() + VALUE).await.unwrap();
            a.regenerate().unwrap();
            let second = a.id().unwrap();
            b.set("k", VALUE).unwrap();
            one.finish(&mut response).await.unwrap();
            assert!(matches!(two.finish(&mut response).await, Err(Error::Gone)));
            // Errors of values, limits and stores.
            let third = site.manager.start_owned(&request(Some(second)));
            let session = third.load().await.unwrap();
            session.get::<u64>("k").unwrap_err();
            session.set("k", &VALUE.repeat(10_000)).unwrap_err();
            session.set("k", VALUE).unwrap();
            site.store.sabotage("save", Fault::Down);
            third.finish(&mut response).await.unwrap_err();
            site.store.sabotage("load", Fault::Unreadable);
            site.manager.start_owned(&request(Some(second))).load().await.unwrap();
            site.store.sabotage("load", Fault::Down);
            site.manager.start_owned(&request(Some(second))).load().await.unwrap_err();
            site.store.mend();
            // Malformed, unknown, expired, destroyed, collected.
            let unknown = SessionId::from_bytes([7; 32]);
            site.manager.start_owned(&request(Some(unknown))).load().await.unwrap();
            let last = site.manager.start_owned(&request(Some(second)));
            last.load().await.unwrap().destroy().await.unwrap();
            last.finish(&mut response).await.unwrap();
            site.clock.advance(secs(50_000));
            ids.extend([first, second, unknown]);
        });
        site.visitor().set("n", 1);
        site.clock.advance(secs(50_000));
        site.manager.collect().unwrap();
    }
    let text = log.text();
    for event in ["created", "new id", "session ended", "unreadable", "collected", "meanwhile"] {
        assert!(text.contains(event), "{event} was not logged");
    }
    assert_nothing_in(&text, &ids);
}

#[test]
fn debug_output_shows_nothing() {
    let id = SessionId::generate().unwrap();
    let text = id.text();
    let mut shown = String::new();
    let mut show = |thing: &dyn Debug| write!(shown, "{thing:?}\n{thing:#?}\n").unwrap();

    show(&id);
    show(&text);
    show(id.secret());
    show(&Verifier::digest(&id, ""));
    show(&Token::from(id));
    let token = Token::with_text(id, format!("{VALUE}{}", &*text));
    show(&token);

    let mut changes = Changes::new().expecting("k", Some(VALUE.as_bytes()));
    changes.set("k", VALUE.as_bytes());
    let login = Login { owner: OWNER.into(), at: Timestamp::MAX, label: OWNER.into() };
    changes.login = Some(Some(Box::new(login.clone())));
    show(&changes);
    show(&changes.expected);
    let values: Values = [("k", VALUE)].into_iter().collect();
    show(&values);
    show(&login);
    let mut record = Record::new(Verifier::digest(&id, ""), Timestamp::MAX, Timestamp::MAX);
    record.login = Some(Box::new(login));
    record.values = values;
    show(&record);

    let source = format!("user=ada&password={PASSWORD}");
    show(&Source::parse(&source).unwrap());
    let mut config = Config::default();
    config.source = source;
    show(&config);
    show(&Manager::builder().with_config(config));

    let request = Request::builder()
        .uri(format!("/?sid={}", &*text))
        .header(COOKIE, format!("__Host-id={}", &*text))
        .header("x-session-id", &*text)
        .body(())
        .unwrap();
    show(&RequestHead::from(&request));
    show(&Extracted::nothing().with(text.as_bytes(), TokenSource::Url));
    show(&Directive::Set { text: &text, max_age: None });

    let site = Site::new();
    let now = site.manager.now();
    let holder = site.store.verifier(&Token::from(id), "");
    let mut record = Record::new(holder, now, now.saturating_add(secs(60)));
    record.values = [("k", [0xa0])].into_iter().collect();
    block_on(site.store.create(&id, record, site.manager.now())).unwrap();
    show(&site.store);
    show(&site.manager);
    show(&SessionService::new(site.manager.clone(), ()));
    let sessions = Managers::from(site.manager.clone()).start(&request);
    show(&sessions);
    let new = block_on(async {
        let handle = sessions.iter().next().unwrap();
        show(handle);
        let session = handle.load().await.unwrap();
        assert!(!session.is_new());
        session.set("k", VALUE).unwrap();
        session.log_in(OWNER).unwrap();
        show(&session);
        show(handle);
        session.regenerate().unwrap();
        let new = session.id().unwrap();
        let mut response = Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key(SET_COOKIE));
        // Header values print as `Sensitive`.
        show(&response);
        show(&sessions);
        new
    });
    assert_nothing_in(&shown, &[id, new]);
}

#[test]
fn a_redirect_with_an_id_does_not_print_it() {
    let site = Site::configured(|config| config.transport = TransportKind::Url);
    let mut response = Response::builder().header(LOCATION, "/next").body(()).unwrap();
    let request = Request::new(());
    let id = block_on(async {
        let handle = site.manager.start(&request);
        let session = handle.load().await.unwrap();
        session.set("k", VALUE).unwrap();
        let id = session.id().unwrap();
        handle.finish(&mut response).await.unwrap();
        id
    });
    assert!(response.headers()[LOCATION].to_str().unwrap().contains(&*id.text()));
    assert_nothing_in(&format!("{response:?}"), &[id]);
}

#[test]
fn error_texts_name_keys_and_types_and_nothing_else() {
    let site = Site::new();
    let visitor = site.visitor();
    let mut shown = String::new();
    let mut ids = Vec::new();
    visitor.visit(async |handle| handle.load().await.unwrap().set("k", VALUE).unwrap());
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        ids.push(session.id().unwrap());
        let errors = [
            session.get::<u64>("k").unwrap_err(),
            session.get::<Vec<String>>("k").unwrap_err(),
            session.take::<bool>("k").unwrap_err(),
            session.update("k", |n: Option<u64>| n.unwrap()).await.unwrap_err(),
            session.set("k", &VALUE.repeat(10_000)).unwrap_err(),
            Source::parse(&format!("password={PASSWORD}&x")).unwrap_err(),
            Source::parse(&format!("password={PASSWORD}%")).unwrap_err(),
            Source::parse(&format!("password={PASSWORD}")).unwrap().finish().unwrap_err(),
            Source::parse(&format!("n={PASSWORD}"))
                .unwrap()
                .take_parsed::<u8>("n", "a number")
                .unwrap_err(),
            Source::parse(&format!("n={PASSWORD}&n={PASSWORD}")).unwrap().take("n").unwrap_err(),
        ];
        for error in &errors {
            writeln!(shown, "{error} {error:?}").unwrap();
            let text = error.to_string();
            assert!(!text.ends_with('.') && !text.starts_with(char::is_uppercase), "{text}");
        }
    });
    assert_nothing_in(&shown, &ids);
}

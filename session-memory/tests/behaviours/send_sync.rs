//! Every public type, and the futures of all public operations, can cross threads.

use std::sync::Arc;

use http::Response;
use session_core::clock::*;
use session_core::events::*;
use session_core::provider::*;
use session_core::transport::*;
use session_core::*;

use crate::support::Site;

fn shared<T: Send + Sync>() {}
fn shared_unsized<T: Send + Sync + ?Sized>() {}

#[test]
fn public_types_are_send_and_sync() {
    shared::<Manager>();
    shared::<ManagerBuilder>();
    shared::<SessionHandle<'static>>();
    shared::<SessionHandle<'_>>();
    shared::<LoadedSession>();
    shared::<Sessions>();
    shared::<FinishErrors>();
    shared::<Registry>();
    shared::<Config>();
    shared::<TransportKind>();
    shared::<Source>();
    shared::<Limits>();
    shared::<Lifetime>();
    shared::<Stats>();
    shared::<Error>();
    shared::<SessionId>();
    shared::<IdText>();
    shared::<SessionKey>();
    shared::<Secret>();
    shared::<Verifier>();
    shared::<Login>();
    shared::<NewSecret>();
    shared::<Summary>();
    shared::<Token>();
    shared::<Record>();
    shared::<Values>();
    shared::<Changes>();
    shared::<Expected>();
    shared::<ExpiryChange>();
    shared::<Purged>();
    shared::<Timestamp>();
    shared::<Event<'_>>();
    shared_unsized::<dyn Observer>();
    shared::<SystemClock>();
    shared::<TestClock>();
    shared::<CookieTransport>();
    shared::<UrlTransport>();
    shared::<AutoTransport>();
    shared::<HeaderTransport>();
    shared::<CookieOptions>();
    shared::<UrlOptions>();
    shared::<HeaderOptions>();
    shared::<RequestHead<'_>>();
    shared::<Extracted<'_>>();
    shared::<Directive<'_>>();
    shared::<SessionService<()>>();
    shared::<SessionBody<()>>();
    shared::<ServiceWrapper>();
    shared::<Failure>();
    shared::<session_memory::MemoryProvider>();
    shared::<session_memory::MemoryConfig>();
    shared_unsized::<dyn Provider>();
    shared_unsized::<dyn Session>();
    shared_unsized::<dyn Transport>();
    shared_unsized::<dyn Clock>();
}

fn provider_object(_: &dyn Provider) {}
fn session_object(_: &dyn Session) {}
fn transport_object(_: &dyn Transport) {}

#[test]
fn traits_are_dyn_compatible() {
    let site = Site::new();
    let shared: Arc<dyn Provider> = site.store.clone();
    provider_object(&shared);
    transport_object(&HeaderTransport::new(&HeaderOptions::default()).unwrap());
    let request = http::Request::new(());
    futures_lite::future::block_on(async {
        session_object(&site.manager.start(&request).load().await.unwrap());
    });
}

fn sendable<F: Future + Send>(_: F) {}

#[test]
fn futures_are_send() {
    let site = Site::new();
    let request = http::Request::new(());
    let mut response = http::Response::new(());
    let handle = site.manager.start_owned(&request);
    futures_lite::future::block_on(handle.load()).unwrap();
    let session = futures_lite::future::block_on(handle.load()).unwrap();
    sendable(handle.load());
    sendable(handle.finish(&mut response));
    sendable(session.update("n", |n: Option<u64>| n.unwrap_or(0)));
    sendable(session.try_update("n", |n: Option<u64>| Ok::<_, Error>(n)));
    sendable(session.destroy());
    sendable(session.save());
    sendable(session.add_flash("info", "text"));
    sendable(session.take_flash::<String>("info"));
    sendable(site.manager.count());
    let page = async || Ok::<_, Error>(Response::new(()));
    sendable(handle.respond(page(), |_| Response::new(())));
    let sessions = Managers::from(site.manager.clone()).start(&request);
    sendable(sessions.respond(page(), |_| Response::new(())));
    sendable(sessions.finish(&mut response));
}

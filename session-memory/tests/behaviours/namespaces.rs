//! Applications with different namespaces in one store: none accepts an id of another.

use http::Method;

use crate::support::*;

#[test]
fn managers_of_different_namespaces_take_none_of_each_others_ids() {
    for [one, other] in [["shop", "admin"], ["shop", ""], ["", "shop"]] {
        let site = Site::configured(|config| config.namespace = one.into());
        let elsewhere = site.reconfigured(|config| config.namespace = other.into());
        let same = site.reconfigured(|config| config.namespace = one.into());
        let visitor = site.visitor();
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("n", &1u64).unwrap();
            session.log_in("ada").unwrap();
        });
        // At once, and when the id is no longer new.
        for wait in [0, 60] {
            site.clock.advance(secs(wait));
            for method in [Method::GET, Method::POST] {
                let stranger = Visitor::with_cookie(&elsewhere, &visitor.id());
                let request = stranger.begin(method);
                assert!(request.sees_nothing(), "{one:?} and {other:?}");
                drop(block_on(request.session.destroy()));
                drop(request.finish());
                let request = Visitor::with_cookie(&elsewhere, &visitor.id()).begin(Method::POST);
                request.session.set("n", &2u64).unwrap();
                drop(request.finish());
            }
            let login = Visitor::with_cookie(&elsewhere, &visitor.id());
            login.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
            assert_ne!(login.key(), visitor.key());
            assert_eq!(Visitor::with_cookie(&site, &login.id()).get("n"), None, "nor back");
            assert_eq!(visitor.get("n"), Some(1), "{one:?} and {other:?}");
        }
        assert_eq!(Visitor::with_cookie(&same, &visitor.id()).get("n"), Some(1));
    }
}

/// The namespace is a prefix of owners that ends with a NUL.
#[test]
fn a_namespace_has_no_nul() {
    let mut config = session_core::Config::default();
    config.namespace = "a\0b".into();
    let store = session_memory::MemoryProvider::new(session_memory::MemoryConfig::default());
    let builder = session_core::Manager::builder().with_config(config).with_provider(store);
    assert!(matches!(builder.build(), Err(session_core::Error::Config(_))));
}

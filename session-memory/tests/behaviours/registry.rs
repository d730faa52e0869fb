//! Providers by name: registered providers are found, and errors about names are helpful.

use std::sync::Arc;
use std::thread;

use once_cell::sync::Lazy;
use session_core::provider::{Provider, Registry};
use session_core::{Config, Error, Manager};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::support::*;

#[test]
fn a_provider_registers_itself_as_often_as_it_is_told_to() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(session_memory::init);
        }
    });
    session_memory::init();
    assert_eq!(session_core::provider::providers(), ["memory"]);
    let manager = Manager::open("memory", "max_sessions=10").unwrap();
    assert_eq!((manager.provider_name(), manager.name()), ("memory", "__Host-id"));
    let manager = Manager::from_config(&Config::default()).unwrap();
    assert_eq!(block_on(manager.count()).unwrap(), 0);
}

#[test]
fn a_duplicate_name_is_an_error_that_names_it() {
    session_memory::init();
    let error = session_core::provider::register("memory", |_| Err(Error::config("never opened")));
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::DuplicateProvider { name } if &**name == "memory"));
    assert!(error.to_string().contains("\"memory\""), "{error}");
    Manager::open("memory", "").expect("what the name stood for stays");
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
    session_memory::init();
    let error = Manager::open("mem0ry", "").unwrap_err();
    assert!(matches!(error, Error::UnknownProvider { .. }));
    let text = error.to_string();
    for part in ["\"mem0ry\"", "memory", "init()"] {
        assert!(text.contains(part), "{text}");
    }
    let error = Registry::new().open("memory", "").unwrap_err();
    assert!(error.to_string().contains("registered: none"), "{error}");
}

#[test]
fn a_bad_source_is_an_error_at_open_that_shows_no_value() {
    session_memory::init();
    let error = Manager::open("memory", "password=hunter2hunter2").unwrap_err();
    assert!(matches!(error, Error::Config(_)));
    assert!(error.to_string().contains("\"password\"") && !error.to_string().contains("hunter2"));
}

fn memory() -> Arc<dyn Provider> {
    Arc::new(MemoryProvider::new(MemoryConfig::default()))
}

#[test]
fn providers_may_be_registered_while_others_are_opened() {
    let registry = Registry::new();
    registry.register("first", |_| Ok(memory())).unwrap();
    thread::scope(|scope| {
        for task in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for n in 0..100 {
                    registry.register(&format!("{task}.{n:02}"), |_| Ok(memory())).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..20 {
                    registry.open("first", "").unwrap();
                    assert!(registry.providers().is_sorted());
                }
            });
        }
    });
    assert_eq!(registry.providers().len(), 401);
}

#[test]
fn a_provider_may_open_or_register_another_while_it_is_opened() {
    static REGISTRY: Lazy<Registry> = Lazy::new(Registry::new);
    REGISTRY.register("inner", |_| Ok(memory())).unwrap();
    REGISTRY
        .register("outer", |source| {
            REGISTRY.register("another", |_| Ok(memory()))?;
            REGISTRY.open("inner", source)
        })
        .unwrap();
    REGISTRY.open("outer", "").unwrap();
    assert_eq!(REGISTRY.providers(), ["another", "inner", "outer"]);
}

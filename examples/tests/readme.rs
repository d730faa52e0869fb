//! What the README shows is taken from the examples, which compile.

const README: &str = include_str!("../../README.md");

const EXAMPLES: [&str; 4] = [
    include_str!("../examples/counter.rs"),
    include_str!("../examples/custom_provider.rs"),
    include_str!("../examples/login.rs"),
    include_str!("../examples/wrapper.rs"),
];

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let starts: Vec<_> = README.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    starts.into_iter().map(|start| README[start..].split("```").next().expect("has a first part"))
}

#[test]
fn the_readme_shows_what_the_examples_say() {
    for block in blocks("rust") {
        assert!(EXAMPLES.iter().any(|example| example.contains(block)), "in no example:\n{block}");
    }
    assert!(blocks("rust").count() >= 4);
}

#[test]
fn the_readmes_configurations_are_valid() {
    for block in blocks("toml").filter(|block| !block.starts_with("[dependencies]")) {
        let mut config: session_core::Config =
            toml::from_str(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        // A provider that is handed over has none.
        config.revocations = None;
        session_core::Manager::builder()
            .with_config(config)
            .with_provider(session_memory::MemoryProvider::new(Default::default()))
            .build()
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
    assert!(blocks("toml").count() >= 3);
}

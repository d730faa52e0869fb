//! Checks that the README's code is in the examples, which compile, and that what the other documents
//! name exists.

use std::path::Path;

const README: &str = include_str!("../../README.md");

const EXAMPLES: [&str; 6] = [
    include_str!("../examples/axum_counter.rs"),
    include_str!("../examples/counter.rs"),
    include_str!("../examples/custom_provider.rs"),
    include_str!("../examples/devices.rs"),
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
        // A provider that a program passes in has no `revocations` table.
        config.revocations = None;
        session_core::Manager::builder()
            .with_config(config)
            .with_provider(session_memory::MemoryProvider::new(Default::default()))
            .build()
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
    assert!(blocks("toml").count() >= 3);
}

#[test]
fn the_requirements_name_tests_that_exist() {
    let codes = |line: &'static str| line.split('`').skip(1).step_by(2);
    let lines = || include_str!("../../docs/REQUIREMENTS.md").lines();
    // The table of the paths' prefixes.
    let beginnings: Vec<_> = lines()
        .filter_map(|line| Some((codes(line).next()?, codes(line).nth(1)?)))
        .filter(|(short, whole)| short.ends_with('/') && whole.ends_with('/'))
        .collect();
    let mut count = 0;
    for (file, test) in lines().flat_map(codes).filter_map(|code| code.split_once("::")) {
        let Some(file) = beginnings
            .iter()
            .find_map(|(short, whole)| Some(format!("../{whole}{}", file.strip_prefix(short)?)))
        else {
            continue;
        };
        let text =
            std::fs::read_to_string(Path::new(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn the_readmes_table_of_errors_is_what_visitors_read() {
    use session_core::Error;

    for error in [
        Error::NotLoggedIn,
        Error::CrossSite,
        Error::Conflict,
        Error::TooLarge { what: "session bytes", limit: 1 },
        Error::unavailable("down"),
        Error::Finished,
    ] {
        let row = format!("| {} | {} |", error.status().as_u16(), error.visitor_text());
        assert!(README.contains(&row), "{row}");
    }
}

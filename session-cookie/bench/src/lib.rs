//! An empty library for the benchmark. The benchmark is a separate crate, so that the tests of
//! `session-cookie` don't need to build a web framework.

//! Nothing but the benchmark beside it: a crate of its own, so that the tests of `session-cookie` need
//! not build a web framework.

//! Test harnesses that break a store while processes change sessions in it, and then check that everything
//! that was acknowledged is there.
//!
//! - [`killed`] kills processes on a store of one machine.
//! - [`failover`] breaks a database server that has standbys or replicas.
//! - [`program`] is the command line of test programs that start themselves again in other roles.

pub mod failover;
pub mod killed;
pub mod program;

//! An empty library for the benchmark. The benchmark is a separate workspace, so that its peer doesn't decide
//! which version of the driver `session-sql` uses.

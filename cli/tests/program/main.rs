//! The program as its users have it: the built binary, run against a home and a store in a directory of its own.
#![allow(clippy::unwrap_used)] // A test that panics has failed, as it should.

mod bad_input;
mod contracts;
mod documentation;
mod interrupted;
mod keys;
mod objects;
#[cfg(feature = "oss")]
mod oss;
#[cfg(feature = "oss")]
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../../../tests/support/oss_server/mod.rs"]
mod oss_server;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
#[path = "../../../tests/support/server.rs"]
mod server;
mod support;

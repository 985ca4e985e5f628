//! The program as its users have it: the built binary, run against a home and a store in a directory of its own.
#![allow(clippy::unwrap_used)] // A test that panics has failed, as it should.

mod bad_input;
mod contracts;
mod documentation;
mod interrupted;
mod keys;
mod objects;
mod services;
#[path = "../../../tests/support/stub.rs"]
mod stub;
mod support;

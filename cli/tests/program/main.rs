//! The program as its users have it: the built binary, run against a home and a store in a directory of its own.
#![allow(clippy::unwrap_used)] // A test that panics has failed, as it should.

mod bad_input;
mod contracts;
mod documentation;
mod interrupted;
mod key_store;
mod keys;
mod kms;
mod kms_import;
mod objects;
mod rewrap;
mod services;
#[path = "../../../tests/support/stub.rs"]
mod stub;
mod support;
mod walk_through;

//! The program as its users have it: the built binary, run against a home and a store in a directory of its own.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod bad_input;
mod bench;
mod config;
mod contracts;
mod doctor;
mod documentation;
mod interrupted;
mod key_store;
mod keys;
mod kms;
mod kms_import;
mod large;
#[cfg(feature = "s3")]
mod network;
mod objects;
#[cfg(feature = "oss")]
mod oss;
#[cfg(feature = "oss")]
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../../../tests/support/oss_server/mod.rs"]
mod oss_server;
#[cfg(feature = "s3")]
#[path = "../../../tests/support/proxy.rs"]
mod proxy;
mod reap;
mod rewrap;
#[cfg(feature = "s3")]
#[allow(dead_code, unreachable_pub, reason = "other tests use the rest of it")]
#[path = "../../../tests/support/rng.rs"]
mod rng;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
#[path = "../../../tests/support/s3_server.rs"]
mod s3_server;
mod secrets;
#[cfg(feature = "gateway")]
mod serve;
#[cfg(feature = "s3")]
#[path = "../../../tests/support/server.rs"]
mod server;
mod services;
#[path = "../../../tests/support/stub.rs"]
mod stub;
mod support;
mod tree;
mod unsealed;
mod walk_through;

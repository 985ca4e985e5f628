//! An endpoint that speaks OSS, S3 and Alibaba's KMS protocol, and seals what passes through it.
//!
//! A program that knows only OSS or S3 talks to it as to any other. What reaches the store behind it is sealed, in the same format
//! that [`sealift`] writes, under the customer master key (CMK) that the request or the bucket's default names; what is read back is
//! plaintext again. The gateway itself keeps nothing: all state is in the store and in the key service, so several can run side by side.
//!
//! ```text
//!  client ──HTTP──▶ server/ ──tells them apart──▶ kms/   Alibaba's KMS protocol ──────────▶ LocalKms
//!                   TLS, limits, metrics          oss/   OSS dialect ──┐
//!                                                 s3/    S3 dialect  ──┴─▶ service/ ──sealed──▶ MultipartStore
//!                                                                         objects, buckets, multipart
//! ```
//!
//! # A tour
//! - [`Gateway`] is bound to an address with a [`Config`] and the [`Back`] it stands in front of, and serves until it is told to stop.
//! - [`access`] is who may do what: access keys, their secrets, rights for each bucket.
//! - [`service`] is what the dialects serve: buckets and objects, encrypted on the server's side, over any store.
//! - [`config`] is what an operator decides, from a file or a command line.

pub mod access;
pub mod config;
pub mod service;

mod kms;
mod oss;
mod s3;
mod server;

use std::sync::Arc;

use sealift::Engine;
use sealift::kms::Kms;
use sealift::kms::local::LocalKms;
use sealift::store::MultipartStore;

pub use config::Config;
pub use server::Gateway;

/// What fuzz targets call, and nobody else.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::oss::fuzzing::{request as oss_request, xml as oss_xml};
}

/// What the gateway stands in front of.
#[derive(Clone)]
pub struct Back {
    /// Seals and opens.
    pub engine: Engine,
    /// Where the sealed objects are. A bucket is the first segment of a key.
    pub store: Arc<dyn MultipartStore>,
    /// Who wraps the objects' data keys.
    pub keys: Keys,
}

/// The key service behind the gateway.
#[derive(Clone)]
pub struct Keys {
    /// Wraps and unwraps the data keys of objects.
    pub kms: Arc<dyn Kms>,
    /// The CMK of `kms`, an id or an alias, that objects are sealed for where neither request nor bucket names one.
    pub default_key: String,
    /// The key store that the KMS endpoint manages; none, and there is no such endpoint.
    pub local: Option<Arc<LocalKms>>,
}

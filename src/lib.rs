//! Sealift encrypts uploads while they fly.
//!
//! It splits a file or stream into parts, seals each in parallel with AES-256-GCM under one shared data key and a fresh
//! nonce per part, and drives Initiate, UploadPart and Complete against an object store. The data key is wrapped by
//! customer master keys in a key service and travels with the object. Reading back is random access, and no byte is
//! released before it is authenticated.
//!
//! ```text
//!  source ──▶ parts ──▶ sealed by worker threads ──▶ store          Engine::upload
//!                 data key, wrapped by a Kms ──▶ envelope, in the object's metadata
//!                 lengths and salts of all parts ──▶ manifest, sealed, in the object's trailer
//!
//!  store ──▶ envelope ──▶ Kms: data key ──▶ manifest ──▶ any range, authenticated          Engine::open
//! ```
//!
//! # A tour
//! - [`Engine`] does the work, with worker threads and one memory budget: [`upload`](Engine::upload),
//!   [`resume`](Engine::resume), and [`open`](Engine::open), which gives a [`Reader`](engine::Reader);
//!   [`rewrap`](Engine::rewrap) gives an object to other keys without writing its data.
//! - [`source`] is what can be uploaded: files, memory maps, streams. [`store`] is where to: a directory, memory,
//!   S3, OSS, or your own [`MultipartStore`](store::MultipartStore). [`kms`] is who holds the keys: the embedded
//!   [`LocalKms`](kms::local::LocalKms), a [`KeyFile`](kms::key_file::KeyFile), or your own [`Kms`](kms::Kms).
//! - Below those: [`format`](mod@format) is what is stored, byte by byte; [`crypto`] seals and opens messages; [`upload`] is the
//!   multipart upload as a state machine without I/O.
//! - Everything that fails returns [`Error`], whose [`kind`](Error::kind) says who can mend it.
//!
//! # Example
//! ```
#![doc = include_str!("../examples/put_and_get.rs")]
//! ```
//!
//! # Features
//! `aws-lc-rs` (default), `ring`, `portable` (no C code) and `aes-gcm-stream` (a slow second opinion) each add a
//! [`Backend`](crypto::Backend); at least one is needed. `aws-lc-rs` also brings RSA: `kms::rsa`, and the import of key material into a
//! [`LocalKms`](kms::local::LocalKms), which fails without it. `backup` adds [`kms::backup`].
//!
//! Stores: `s3` adds `store::S3Store`, `oss` adds `store::OssStore`.
//!
//! Key services: `aws-kms` adds `kms::aws`, `aliyun-kms` adds `kms::aliyun`, `vault-kms` adds `kms::vault` (OpenBao and HashiCorp Vault),
//! and `pkcs11` adds `kms::pkcs11`.

pub mod crypto;
pub mod engine;
pub mod format;
pub mod kms;
pub mod source;
pub mod store;
pub mod upload;

mod error;
mod types;

pub use crypto::DataKey;
pub use engine::Engine;
pub use error::{Error, ErrorKind, Result, Retry};
pub use types::{
    Attempt, ByteRange, ETag, EncryptionContext, KeyState, KmsService, ObjectId, ObjectKey, PartNumber, Salt, UploadId,
    WrappedKey,
};

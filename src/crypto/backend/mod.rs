//! The libraries that compute AES-256-GCM and HKDF. Only this directory names them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

#[cfg(feature = "aes-gcm-stream")]
mod aes_gcm_stream;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
mod cpu;
#[cfg(any(feature = "portable", feature = "aes-gcm-stream"))]
mod hkdf;
#[cfg(feature = "aws-lc-rs")]
mod oaep;
#[cfg(feature = "portable")]
mod portable;
#[cfg(feature = "ring")]
mod ring;
pub(crate) mod rsa_decrypt;
#[cfg(test)]
pub(crate) mod stub;

#[cfg(feature = "aws-lc-rs")]
pub(crate) use oaep::{OaepPrivateKey, OaepPublicKey};

pub use cpu::{Choice, CpuFeatures};

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "portable", feature = "aes-gcm-stream")))]
compile_error!("sealift needs a library for AES-256-GCM: enable the feature `aws-lc-rs`, `ring` or `portable`");

/// A library that computes AES-256-GCM and HKDF. They differ in speed and in what they need to be built, never in what
/// they compute.
///
/// Each is there if the feature of its name is enabled. The default is the one of those that is [fastest](Self::fastest) on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// aws-lc-rs: fastest on CPUs with AVX-512 and VAES.
    #[cfg(feature = "aws-lc-rs")]
    AwsLc,
    /// ring: twice as fast as aws-lc-rs on CPUs with VAES but without AVX-512.
    #[cfg(feature = "ring")]
    Ring,
    /// RustCrypto's aes-gcm: no C code, a fifth of the speed.
    #[cfg(feature = "portable")]
    Portable,
    /// aes-gcm-stream, behind a wrapper that mends its faults: a second opinion for tests. It leaves copies of
    /// plaintext behind in freed memory and is slow; do not seal with it what matters.
    #[cfg(feature = "aes-gcm-stream")]
    AesGcmStream,
    /// None, for this crate's own tests.
    #[cfg(test)]
    Stub,
}

impl Backend {
    const ALL: &[Self] = &[
        #[cfg(feature = "aws-lc-rs")]
        Self::AwsLc,
        #[cfg(feature = "ring")]
        Self::Ring,
        #[cfg(feature = "portable")]
        Self::Portable,
        #[cfg(feature = "aes-gcm-stream")]
        Self::AesGcmStream,
    ];

    /// The backends this build has: at least one, in the order in which they are listed here.
    #[must_use]
    pub fn available() -> &'static [Self] {
        Self::ALL
    }

    /// Its name, which is that of its feature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc => "aws-lc-rs",
            #[cfg(feature = "ring")]
            Self::Ring => "ring",
            #[cfg(feature = "portable")]
            Self::Portable => "portable",
            #[cfg(feature = "aes-gcm-stream")]
            Self::AesGcmStream => "aes-gcm-stream",
            #[cfg(test)]
            Self::Stub => "stub",
        }
    }
}

impl Default for Backend {
    fn default() -> Self {
        // Detecting is reading a few flags that the standard library caches.
        Self::fastest()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|backend| backend.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|backend| backend.name()).collect();
            Error::new(
                ErrorKind::InvalidInput,
                format!("this build has no backend {name:?}, only {}", names.join(", ")),
            )
        })
    }
}

/// A backend said no, and why is nobody's business.
#[derive(Debug)]
pub(super) struct Failed;

/// What a backend provides: AES-256-GCM under one key, without associated data, and HKDF-Expand.
///
/// Lengths are the caller's to get right: `sealed` is 16 bytes longer than `plaintext`.
pub(super) trait Aead: Send + Sync {
    fn new(key: &[u8; 32]) -> Result<Self, Failed>
    where
        Self: Sized;

    /// Encrypts `plaintext` into `sealed`, which ends with the tag.
    fn seal(&self, nonce: [u8; 12], plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Failed>;

    /// Decrypts `sealed`, which ends with the tag, into `plaintext`, whose content is undefined if it fails.
    fn open(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Failed>;

    /// HKDF-Expand with SHA-512 ([RFC 5869, section 2.3](https://www.rfc-editor.org/rfc/rfc5869#section-2.3)) of the
    /// pseudorandom key `prk`, at most 64 bytes, into `okm`. `info` is joined without anything between.
    fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed>
    where
        Self: Sized;
}

pub(super) fn new_aead(backend: Backend, key: &[u8; 32]) -> Result<Box<dyn Aead>, Failed> {
    Ok(match backend {
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLc => Box::new(aws_lc::Key::new(key)?),
        #[cfg(feature = "ring")]
        Backend::Ring => Box::new(ring::Key::new(key)?),
        #[cfg(feature = "portable")]
        Backend::Portable => Box::new(portable::Key::new(key)?),
        #[cfg(feature = "aes-gcm-stream")]
        Backend::AesGcmStream => Box::new(aes_gcm_stream::Key::new(key)?),
        #[cfg(test)]
        Backend::Stub => Box::new(stub::Key::new(key)?),
    })
}

pub(super) fn expand(backend: Backend, prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
    match backend {
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLc => aws_lc::Key::expand(prk, info, okm),
        #[cfg(feature = "ring")]
        Backend::Ring => ring::Key::expand(prk, info, okm),
        #[cfg(feature = "portable")]
        Backend::Portable => portable::Key::expand(prk, info, okm),
        #[cfg(feature = "aes-gcm-stream")]
        Backend::AesGcmStream => aes_gcm_stream::Key::expand(prk, info, okm),
        #[cfg(test)]
        Backend::Stub => stub::Key::expand(prk, info, okm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_of_this_build_go_by_name() {
        for &backend in Backend::available() {
            assert_eq!(backend.name().parse::<Backend>().unwrap(), backend);
        }
        assert_eq!("stub".parse::<Backend>().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[cfg(not(feature = "aws-lc-rs"))]
    #[test]
    fn without_aws_lc_rs_the_error_names_it_and_what_there_is() {
        let error = "aws-lc-rs".parse::<Backend>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let names: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
        let expected = format!("this build has no backend \"aws-lc-rs\", only {}", names.join(", "));
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

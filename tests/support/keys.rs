//! Key stores whose clock the test sets, and owners of key material.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use futures::FutureExt as _;
use sealift::kms::Kms as _;
use sealift::kms::local::{
    CreateKey, KeyMetadata, KeyOrigin, LocalKms, RootKeySource, WrappingAlgorithm, WrappingKeySpec,
};
use sealift::{DataKey, EncryptionContext, Error, KeyState, Result, WrappedKey};
use tempfile::TempDir;

pub const HOUR: u64 = 60 * 60;
pub const DAY: u64 = 24 * HOUR;

/// Of every store of the test that was opened with it. Begins on some day in 2027.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000)))
    }

    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    pub fn after(&self, seconds: u64) -> SystemTime {
        self.now() + Duration::from_secs(seconds)
    }

    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn open(&self, dir: &Path) -> LocalKms {
        let clock = self.clone();
        LocalKms::open_or_create(dir, RootKeySource::File).unwrap().0.with_clock(move || clock.now())
    }
}

/// A home directory with a new key store in `kms`.
pub struct World {
    pub home: TempDir,
    pub dir: PathBuf,
    pub clock: Clock,
    pub kms: LocalKms,
}

impl World {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("kms");
        let clock = Clock::new();
        let kms = clock.open(&dir);
        Self { home, dir, clock, kms }
    }
}

pub fn external() -> CreateKey {
    CreateKey { origin: KeyOrigin::External, ..CreateKey::default() }
}

/// The material with this byte throughout.
pub fn material(byte: u8) -> [u8; 32] {
    [byte; 32]
}

/// Encrypts key material as its owner does, by aws-lc-rs. Other tests let other tools do it.
pub fn encrypt(algorithm: WrappingAlgorithm, public_key: &[u8], material: &[u8]) -> Vec<u8> {
    let key = PublicEncryptingKey::from_der(public_key).unwrap();
    let mut out = vec![0; key.key_size_bytes()];
    let oaep = match algorithm {
        WrappingAlgorithm::RsaesOaepSha256 => &OAEP_SHA256_MGF1SHA256,
        WrappingAlgorithm::RsaesOaepSha1 => &OAEP_SHA1_MGF1SHA1,
        WrappingAlgorithm::RsaesPkcs1V15 => {
            Pkcs1PublicEncryptingKey::new(key).unwrap().encrypt(material, &mut out).unwrap();
            return out;
        }
    };
    OaepPublicEncryptingKey::new(key).unwrap().encrypt(oaep, material, &mut out, None).unwrap();
    out
}

pub fn import(kms: &LocalKms, key: &str, material: &[u8], expires: Option<SystemTime>) -> Result<KeyMetadata> {
    let algorithm = WrappingAlgorithm::default();
    let parameters = kms.get_parameters_for_import(key, algorithm, WrappingKeySpec::Rsa2048)?;
    let encrypted = encrypt(algorithm, &parameters.public_key, material);
    kms.import_key_material(key, &encrypted, &parameters.import_token, expires)
}

// The embedded service never waits, so its futures are ready at once.

pub fn generate(kms: &LocalKms, key: &str) -> Result<(DataKey, WrappedKey)> {
    kms.generate_data_key(key, &EncryptionContext::default()).now_or_never().unwrap()
}

pub fn unwrap(kms: &LocalKms, wrapped: &WrappedKey) -> Result<DataKey> {
    kms.unwrap(wrapped, &EncryptionContext::default()).now_or_never().unwrap()
}

pub fn state(kms: &LocalKms, key: &str) -> KeyState {
    kms.describe_key(key).unwrap().state
}

pub fn failure<T>(result: Result<T>) -> Error {
    result.err().expect("refused")
}

/// Every file below `dir` with its content.
pub fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

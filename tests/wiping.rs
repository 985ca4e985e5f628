//! Secrets are wiped: once nothing owns them any more, no eight bytes of them are left in this process's memory.

#![cfg(all(target_os = "linux", feature = "aws-lc-rs"))]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sealift::engine::{GetOptions, ReadOptions, UploadOptions};
use sealift::kms::Kms;
use sealift::kms::cache::{CacheLimits, CachedKms};
use sealift::kms::key_file::KeyFile;
use sealift::kms::local::{CreateKey, LocalKms, RootKey, RootKeySource};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::kms::rsa::RsaEscrow;
use sealift::source::{BytesSource, FileSource};
use sealift::store::{DirStore, MemoryStore};
use sealift::{DataKey, EncryptionContext, Engine, KmsService, ObjectKey, Result, WrappedKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/keys.rs"]
mod keys;
#[path = "support/memory.rs"]
mod memory;

use memory::Trace;

fn context() -> EncryptionContext {
    EncryptionContext::new([("purpose".to_owned(), "wiping".to_owned())]).unwrap()
}

/// A call of a service that never waits.
fn now<T>(call: impl Future<Output = Result<T>>) -> T {
    call.now_or_never().unwrap().unwrap()
}

/// Does the usual things with a data key, and drops what came of it.
fn used(kms: &dyn Kms, key: &str) {
    let (data_key, wrapped) = now(kms.generate_data_key(key, &context()));
    assert!(now(kms.unwrap(&wrapped, &context())) == data_key);
    let again = now(kms.wrap(key, &data_key, &context()));
    assert!(now(kms.unwrap(&again, &context())) == data_key);
    assert!(now_fails(kms.unwrap(&again, &EncryptionContext::default())));
}

fn now_fails<T>(call: impl Future<Output = Result<T>>) -> bool {
    call.now_or_never().unwrap().is_err()
}

#[test]
fn a_data_key_is_wiped() {
    let kms = KeyFile::new(DataKey::random().unwrap());
    let id = kms.id().to_owned();
    // Several, because the memory of one may be in use for something else at once.
    let drawn: Vec<_> = (0..16).map(|_| now(kms.generate_data_key(&id, &context()))).collect();
    let opened: Vec<_> = drawn.iter().map(|(_, wrapped)| now(kms.unwrap(wrapped, &context()))).collect();
    let traces: Vec<_> = drawn.iter().map(|(data_key, _)| Trace::of_key("the data key", data_key)).collect();
    traces[0].assert_there();
    drop(drawn);
    traces[0].assert_there();
    drop(opened);
    traces.iter().for_each(Trace::assert_gone);
}

#[test]
fn a_root_key_and_its_spelling_are_wiped() {
    let home = tempfile::tempdir().unwrap();
    let (from_file, given) = (home.path().join("from file"), home.path().join("given"));
    drop(LocalKms::open_or_create(&from_file, RootKeySource::File).unwrap());
    let spelt = RootKey::random().unwrap().to_base64();
    let (of_file, of_given) =
        (traces_of_spelling(&read(&from_file.join("root.key"))), traces_of_spelling(spelt.as_bytes()));

    let open = || {
        let given = LocalKms::open_or_create(&given, RootKeySource::Given(RootKey::from_base64(&spelt).unwrap()));
        [LocalKms::open(&from_file, RootKeySource::File).unwrap(), given.unwrap().0]
    };
    for kms in open() {
        kms.create_key(CreateKey::default()).unwrap();
        kms.rotate_key(LocalKms::DEFAULT_ALIAS).unwrap();
        used(&kms, LocalKms::DEFAULT_ALIAS);
        assert_eq!(kms.list_keys().unwrap().len(), 2);
        drop(kms);
    }
    let [a, b] = open();
    of_file[0].assert_there();
    of_given[0].assert_there();
    drop((a, b, spelt));
    for trace in of_file.iter().chain(&of_given) {
        trace.assert_gone();
    }
}

/// Of a key as it is, and as base64.
fn traces_of_spelling(text: &[u8]) -> [Trace; 2] {
    let mut key = Zeroizing::new([0; 48]);
    let len = STANDARD.decode_slice(text.trim_ascii(), key.as_mut_slice()).unwrap();
    [Trace::of("the key", &key[..len]), Trace::of("the key in base64", text.trim_ascii())]
}

fn read(path: &Path) -> Zeroizing<Vec<u8>> {
    let mut content = Zeroizing::new(vec![0; 1024]);
    let len = std::io::Read::read(&mut fs::File::open(path).unwrap(), &mut content).unwrap();
    content.truncate(len);
    content
}

#[test]
fn imported_key_material_is_wiped() {
    let world = keys::World::new();
    let kms = &world.kms;
    let key = kms.create_key(keys::external()).unwrap().key_id;
    let parameters = kms.get_parameters_for_import(&key, Default::default(), Default::default()).unwrap();
    let (encrypted, traces) = {
        let material = DataKey::random().unwrap();
        // What the key store keeps of it, by the documentation of the key store.
        let key_id = u128::from_str_radix(&key.replace('-', ""), 16).unwrap().to_be_bytes();
        let mut kept = Zeroizing::new([0; 32]);
        let mut digest = Sha256::new();
        digest.update(b"sealift/v1/keystore-imported\0");
        digest.update(key_id);
        digest.update(material.expose());
        digest.finalize_into_reset((&mut *kept).into());
        let traces = [Trace::of_key("the material", &material), Trace::of("what is kept of it", kept.as_slice())];
        traces.iter().for_each(Trace::assert_there);
        let encrypted = keys::encrypt(Default::default(), &parameters.public_key, material.expose());
        (encrypted, traces)
    };
    kms.import_key_material(&key, &encrypted, &parameters.import_token, None).unwrap();
    used(kms, &key);
    kms.delete_key_material(&key).unwrap();
    kms.import_key_material(&key, &encrypted, &parameters.import_token, None).unwrap();
    used(kms, &key);
    traces.iter().for_each(Trace::assert_gone);
}

#[test]
fn a_key_file_is_wiped_however_it_is_spelt() {
    let dir = tempfile::tempdir().unwrap();
    for raw in [true, false] {
        let path = dir.path().join(format!("raw {raw}"));
        let traces = {
            let key = DataKey::random().unwrap();
            let mut text = Zeroizing::new([0; 44]);
            STANDARD.encode_slice(key.expose(), text.as_mut_slice()).unwrap();
            fs::write(&path, if raw { key.expose().as_slice() } else { text.as_slice() }).unwrap();
            traces_of_spelling(text.as_slice())
        };
        let kms = KeyFile::read(&path).unwrap();
        let id = kms.id().to_owned();
        used(&kms, &id);
        traces[0].assert_there();
        drop(kms);
        traces.iter().for_each(Trace::assert_gone);
    }
}

#[test]
fn an_escrow_key_s_private_half_is_wiped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("private.pem");
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&path);
    openssl.stderr(Stdio::null());
    let made =
        openssl.status().expect("openssl runs: install it with `apt-get install openssl`, or your system's like");
    assert!(made.success(), "{made}");
    let traces = {
        let mut pem = Zeroizing::new([0; 4096]);
        let len = std::io::Read::read(&mut fs::File::open(&path).unwrap(), pem.as_mut_slice()).unwrap();
        let lines: Vec<_> = pem[..len].split(|byte| *byte == b'\n').collect();
        // Well behind the modulus, which is no secret.
        let line = lines[12];
        let mut der = Zeroizing::new([0; 64]);
        let len = STANDARD.decode_slice(line, der.as_mut_slice()).unwrap();
        [Trace::of("the private key", &der[..len]), Trace::of("the private key in base64", line)]
    };
    let escrow = RsaEscrow::read_private(&path).unwrap();
    let id = escrow.id().to_owned();
    used(&escrow, &id);
    drop(escrow);
    traces.iter().for_each(Trace::assert_gone);
}

#[tokio::test(start_paused = true)]
async fn a_cached_data_key_is_wiped_when_it_is_let_go() {
    let service = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let id = service.id().to_owned();
    let limits = CacheLimits { entries: 2, max_age: Duration::from_secs(60), max_uses: 2 };
    let cached = CachedKms::new(service.clone(), limits);
    // A further unwrapped data key, of which only the cache has a copy now.
    let cache_one = async || {
        let (data_key, wrapped) = service.generate_data_key(&id, &context()).await.unwrap();
        assert!(cached.unwrap(&wrapped, &context()).await.unwrap() == data_key);
        let trace = Trace::of_key("the cached data key", &data_key);
        drop(data_key);
        trace.assert_there();
        (wrapped, trace)
    };
    // For its uses.
    let (wrapped, trace) = cache_one().await;
    for _ in 0..2 {
        drop(cached.unwrap(&wrapped, &context()).await.unwrap());
    }
    trace.assert_gone();
    // For want of room.
    let (_, trace) = cache_one().await;
    cache_one().await;
    cache_one().await;
    trace.assert_gone();
    // For its age.
    let (_, trace) = cache_one().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let (_, next) = cache_one().await;
    trace.assert_gone();
    // On demand, and with the cache.
    cached.clear();
    next.assert_gone();
    let (_, trace) = cache_one().await;
    drop(cached);
    trace.assert_gone();
}

/// A key service that generates a data key which the test knows the trace of.
struct Known {
    inner: KeyFile,
    trace: std::sync::Mutex<Option<Trace>>,
}

impl Kms for Known {
    fn service(&self) -> KmsService {
        self.inner.service()
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        *self.trace.lock().unwrap() = Some(Trace::of_key("the data key", data_key));
        self.inner.wrap(key, data_key, context)
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        self.inner.unwrap(wrapped, context)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_key_of_an_object_is_wiped_after_it_was_sealed_and_opened() {
    let dir = tempfile::tempdir().unwrap();
    let kms = Arc::new(Known { inner: KeyFile::new(DataKey::random().unwrap()), trace: Default::default() });
    let recipient = || [Recipient { kms: kms.clone(), key: kms.inner.id().to_owned() }];
    let trusted = Trusted::new(vec![(kms.clone(), TrustedKeys::Any)]);
    let engine = Engine::builder().threads(2).memory_budget(16 << 20).build().unwrap();
    let key: ObjectKey = "object".parse().unwrap();
    let plain = vec![7; 3 << 20];
    let options = || UploadOptions {
        part_size: Some(1 << 20),
        ledger: Some(dir.path().join("uploads")),
        ..UploadOptions::default()
    };
    fs::write(dir.path().join("source"), &plain).unwrap();

    // Held in memory, and sealed straight into the store.
    let held = Arc::new(MemoryStore::new());
    let source = Box::new(BytesSource::new(Bytes::from(plain.clone())));
    engine.upload(held.clone(), key.clone(), source, &recipient(), options()).await.unwrap();
    let first = kms.trace.lock().unwrap().take().unwrap();
    let direct = Arc::new(DirStore::open(dir.path().join("store")).unwrap());
    let source = Box::new(FileSource::open(dir.path().join("source")).unwrap());
    engine.upload(direct.clone(), key.clone(), source, &recipient(), options()).await.unwrap();
    let second = kms.trace.lock().unwrap().take().unwrap();
    first.assert_gone();
    second.assert_gone();

    let object = engine.open(held, key.clone(), &trusted, &ReadOptions::default()).await.unwrap();
    first.assert_there();
    assert_eq!(object.read_range("5-10".parse().unwrap()).await.unwrap(), plain[5..11]);
    object.verify(None).await.unwrap();
    drop(object);
    first.assert_gone();
    let object = engine.open(direct, key, &trusted, &ReadOptions::default()).await.unwrap();
    object.write_to_file(&dir.path().join("back"), GetOptions::default()).await.unwrap();
    drop(object);
    second.assert_gone();
}

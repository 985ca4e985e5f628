//! Rewrapping: an object is given to other CMKs, and nothing of it is written but its envelope.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::engine::{CmkId, ReadOptions, Remove, RewrapOptions, RewrapOutcome, Rewrapped, UploadOptions};
use sealift::format::Envelope;
use sealift::kms::Kms as _;
use sealift::kms::local::{CreateKey, LocalKms, RootKeySource};
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::source::BytesSource;
use sealift::store::{DirStore, Limits, MemoryStore, MultipartStore, Payload, Properties, PutCondition};
use sealift::{DataKey, ETag, EncryptionContext, Engine, Error, ErrorKind, ObjectKey, Result};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/counting.rs"]
mod counting;
#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "support/sim.rs"]
mod sim;

use counting::{Calls, Counting};
use sim::{Faults, Rng, SimStore};

const NONE: Calls = Calls { generates: 0, wraps: 0, unwraps: 0 };

/// An object sealed for the key `old`, in some store.
struct World {
    engine: Engine,
    store: Arc<dyn MultipartStore>,
    old: Arc<Counting>,
    new: Arc<Counting>,
    plain: Vec<u8>,
}

/// An object as its store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    body: Vec<u8>,
    metadata: BTreeMap<String, String>,
    etag: ETag,
}

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

fn ids(kms: &Counting) -> Vec<CmkId> {
    vec![CmkId { kms: Some(kms.service()), key: kms.id().to_owned() }]
}

fn add(kms: &Arc<Counting>) -> RewrapOptions {
    RewrapOptions { add: vec![kms.recipient()], ..RewrapOptions::default() }
}

fn only(kms: &Arc<Counting>) -> RewrapOptions {
    RewrapOptions { remove: Remove::Others, ..add(kms) }
}

fn remove(kms: &Counting) -> RewrapOptions {
    RewrapOptions { remove: Remove::These(ids(kms)), ..RewrapOptions::default() }
}

fn names(data_keys: &[sealift::WrappedKey]) -> Vec<&str> {
    data_keys.iter().map(|wrapped| wrapped.key.as_str()).collect()
}

async fn stored(store: &dyn MultipartStore, name: &str) -> Stored {
    let got = store.get(&key(name), None, None).await.unwrap();
    let (metadata, etag) = (got.info.properties.metadata, got.info.etag);
    Stored { body: got.body.try_collect::<Vec<_>>().await.unwrap().concat(), metadata, etag }
}

/// What a malicious store does.
async fn replace(store: &dyn MultipartStore, name: &str, body: Vec<u8>, metadata: BTreeMap<String, String>) {
    let (payload, properties) = (Payload::held(vec![body.into()]), Properties { metadata, ..Properties::default() });
    store.put_object(&key(name), payload, &properties, PutCondition::None).await.unwrap();
}

impl World {
    async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new())).await
    }

    async fn on(store: Arc<dyn MultipartStore>) -> Self {
        let engine = Engine::builder().threads(2).memory_budget(64 << 20).build().unwrap();
        let plain = Rng::new(1).bytes(150_000);
        let world = Self { engine, store, old: Counting::new(), new: Counting::new(), plain };
        world.put("object", UploadOptions::default()).await;
        world.old.calls();
        world
    }

    async fn put(&self, name: &str, options: UploadOptions) {
        let source = Box::new(BytesSource::new(Bytes::copy_from_slice(&self.plain)));
        let options = UploadOptions { part_size: Some(40_000), ..options };
        self.engine.upload(self.store.clone(), key(name), source, &[self.old.recipient()], options).await.unwrap();
    }

    async fn rewrap(&self, options: &RewrapOptions) -> Result<Rewrapped> {
        self.rewrap_by(&[&self.old, &self.new], "object", options).await
    }

    async fn rewrap_by(&self, by: &[&Arc<Counting>], name: &str, options: &RewrapOptions) -> Result<Rewrapped> {
        let trusted = Trusted::new(by.iter().map(|kms| kms.trust()).collect());
        self.engine.rewrap(self.store.as_ref(), &key(name), &trusted, options).await
    }

    /// What the object opens to with this key alone.
    async fn read(&self, name: &str, kms: &Arc<Counting>) -> Result<Vec<u8>> {
        let trusted = Trusted::new(vec![kms.trust()]);
        let reader = self.engine.open(self.store.clone(), key(name), &trusted, &ReadOptions::default()).await?;
        Ok(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
    }

    async fn stored(&self) -> Stored {
        stored(self.store.as_ref(), "object").await
    }

    async fn envelope(&self) -> Envelope {
        Envelope::from_metadata(&self.stored().await.metadata).unwrap()
    }

    /// The rewrap is refused with this, and nothing is changed.
    async fn refused(&self, by: &[&Arc<Counting>], options: &RewrapOptions, kind: ErrorKind) -> Error {
        let before = self.stored().await;
        let error = self.rewrap_by(by, "object", options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(self.stored().await, before, "a refused rewrap changes nothing");
        error
    }
}

async fn worlds() -> (tempfile::TempDir, [World; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(DirStore::open(dir.path()).unwrap());
    (dir, [World::new().await, World::on(store).await])
}

#[tokio::test]
async fn a_new_key_opens_the_same_body() {
    let (_dir, worlds) = worlds().await;
    for world in worlds {
        let before = world.stored().await;
        let salts = |body: &[u8]| body[..24].to_vec();
        let done = world.rewrap(&add(&world.new)).await.unwrap();
        assert_eq!(done.outcome, RewrapOutcome::Written);
        assert_eq!(names(&done.before), [world.old.id()]);
        assert_eq!(names(&done.after), [world.old.id(), world.new.id()]);
        assert_eq!(done.added().map(|wrapped| &wrapped.key).collect::<Vec<_>>(), [world.new.id()]);
        assert_eq!(done.removed().count(), 0);

        let after = world.stored().await;
        assert!(after.body == before.body && salts(&after.body) == salts(&before.body), "the body is not written");
        assert_eq!(after.etag, done.etag);
        for kms in [&world.old, &world.new] {
            assert!(world.read("object", kms).await.unwrap() == world.plain);
        }

        let done = world.rewrap(&remove(&world.old)).await.unwrap();
        assert_eq!(done.outcome, RewrapOutcome::Written);
        assert_eq!(done.removed().map(|wrapped| &wrapped.key).collect::<Vec<_>>(), [world.old.id()]);
        assert_eq!(world.read("object", &world.old).await.unwrap_err().kind(), ErrorKind::KeyUnavailable);
        assert!(world.read("object", &world.new).await.unwrap() == world.plain);
        assert!(world.stored().await.body == before.body);
    }
}

#[tokio::test]
async fn only_leaves_one_key_and_moving_is_one_call_each() {
    let (_dir, worlds) = worlds().await;
    for world in worlds {
        let before = world.stored().await;
        let done = world.rewrap(&only(&world.new)).await.unwrap();
        assert_eq!((names(&done.before), names(&done.after)), (vec![world.old.id()], vec![world.new.id()]));
        assert_eq!(world.old.calls(), Calls { unwraps: 1, ..NONE });
        assert_eq!(world.new.calls(), Calls { wraps: 1, ..NONE });
        assert!(world.stored().await.body == before.body);
        assert!(world.read("object", &world.new).await.unwrap() == world.plain);
        assert_eq!(world.read("object", &world.old).await.unwrap_err().kind(), ErrorKind::KeyUnavailable);
    }
}

#[tokio::test]
async fn the_same_with_a_removal_by_name() {
    let world = World::new().await;
    let options = RewrapOptions { remove: Remove::These(ids(&world.old)), ..add(&world.new) };
    let done = world.rewrap(&options).await.unwrap();
    assert_eq!(names(&done.after), [world.new.id()]);
    assert_eq!((world.old.calls(), world.new.calls()), (Calls { unwraps: 1, ..NONE }, Calls { wraps: 1, ..NONE }));
    assert_eq!(world.rewrap(&options).await.unwrap().outcome, RewrapOutcome::Unchanged, "it is removed already");
}

#[tokio::test]
async fn several_new_keys_are_one_wrap_each() {
    let world = World::new().await;
    let third = Counting::new();
    let options = RewrapOptions {
        add: vec![world.new.recipient(), third.recipient()],
        remove: Remove::Others,
        ..Default::default()
    };
    let done = world.rewrap(&options).await.unwrap();
    assert_eq!(names(&done.after), [world.new.id(), third.id()]);
    assert_eq!(world.old.calls(), Calls { unwraps: 1, ..NONE });
    for kms in [&world.new, &third] {
        assert_eq!(kms.calls(), Calls { wraps: 1, ..NONE });
        assert!(world.read("object", kms).await.unwrap() == world.plain);
    }
}

#[tokio::test]
async fn what_is_as_asked_is_unchanged_without_a_write_and_without_a_call() {
    let world = World::new().await;
    world.rewrap(&only(&world.new)).await.unwrap();
    world.old.calls();
    world.new.calls();
    let before = world.stored().await;
    let already = RewrapOptions { remove: Remove::These(ids(&world.old)), ..add(&world.new) };
    let nothing = RewrapOptions::default();
    for options in [only(&world.new), add(&world.new), already, remove(&world.old), nothing] {
        let done = world.rewrap(&options).await.unwrap();
        assert_eq!(done.outcome, RewrapOutcome::Unchanged);
        assert_eq!((names(&done.after), &done.etag), (vec![world.new.id()], &before.etag));
        // Nor does anybody need a key for that.
        let done = world.rewrap_by(&[], "object", &options).await.unwrap();
        assert_eq!(done.outcome, RewrapOutcome::Unchanged);
    }
    assert_eq!((world.old.calls(), world.new.calls()), (NONE, NONE));
    assert_eq!(world.stored().await, before);
}

#[tokio::test]
async fn a_dry_run_does_all_but_the_write() {
    let world = World::new().await;
    let before = world.stored().await;
    let dry = RewrapOptions { dry_run: true, ..only(&world.new) };
    let planned = world.rewrap(&dry).await.unwrap();
    assert_eq!(planned.outcome, RewrapOutcome::Planned);
    assert_eq!((names(&planned.after), &planned.etag), (vec![world.new.id()], &before.etag));
    assert_eq!(world.stored().await, before);
    // What cannot be done is found out.
    world.refused(&[&world.new], &dry, ErrorKind::KeyUnavailable).await;
    world.rewrap(&only(&world.new)).await.unwrap();
    assert_eq!(world.rewrap(&dry).await.unwrap().outcome, RewrapOutcome::Unchanged);
}

#[tokio::test]
async fn all_else_of_the_envelope_and_the_owners_metadata_stay() {
    let world = World::new().await;
    let own =
        BTreeMap::from([("author".to_owned(), "me".to_owned()), ("x-sealift-like".to_owned(), "\"ü\"".to_owned())]);
    let context = EncryptionContext::new([("project".into(), "höhe".into())]).unwrap();
    let options =
        UploadOptions { metadata: own.clone(), context: context.clone(), bind: true, ..UploadOptions::default() };
    world.put("object", options).await;
    let before = world.envelope().await;
    world.rewrap(&only(&world.new)).await.unwrap();
    let after = world.envelope().await;
    assert_eq!(after.object_id(), before.object_id());
    assert_eq!((after.context(), after.is_bound()), (&context, true));
    let mut expected = own;
    expected.extend(after.to_metadata());
    assert_eq!(world.stored().await.metadata, expected);
    assert!(world.read("object", &world.new).await.unwrap() == world.plain);
}

#[tokio::test]
async fn the_last_recipient_cannot_be_removed() {
    let world = World::new().await;
    let all = [&world.old, &world.new];
    world.refused(&all, &remove(&world.old), ErrorKind::InvalidInput).await;
    let others = RewrapOptions { remove: Remove::Others, ..RewrapOptions::default() };
    world.refused(&all, &others, ErrorKind::InvalidInput).await;
    let by_id_alone = Remove::These(vec![CmkId { kms: None, key: world.old.id().to_owned() }]);
    world.refused(&all, &RewrapOptions { remove: by_id_alone, ..Default::default() }, ErrorKind::InvalidInput).await;
    let both = RewrapOptions { add: vec![world.old.recipient()], ..remove(&world.old) };
    world.refused(&all, &both, ErrorKind::InvalidInput).await;
    let twice = RewrapOptions { add: vec![world.new.recipient(), world.new.recipient()], ..Default::default() };
    world.refused(&all, &twice, ErrorKind::InvalidInput).await;
    let elsewhere = CmkId { kms: Some(sealift::KmsService::Aws), key: world.old.id().to_owned() };
    let of_another_service = RewrapOptions { remove: Remove::These(vec![elsewhere]), ..Default::default() };
    assert_eq!(world.rewrap(&of_another_service).await.unwrap().outcome, RewrapOutcome::Unchanged);
}

#[tokio::test]
async fn none_is_removed_unless_one_that_stays_is_known_to_open() {
    let world = World::new().await;
    world.rewrap(&add(&world.new)).await.unwrap();
    // Nobody here has the new key: that it would open is only what the envelope says.
    let error = world.refused(&[&world.old], &remove(&world.old), ErrorKind::KeyUnavailable).await;
    assert!(error.to_string().contains("would stay"), "{error}");

    // And the envelope is wrong: under the new key's name is what it does not open.
    let Stored { body, metadata, .. } = world.stored().await;
    let other =
        world.new.wrap(world.new.id(), &DataKey::random().unwrap(), &EncryptionContext::default()).await.unwrap();
    let envelope = world.envelope().await;
    let data_keys = vec![envelope.data_keys()[0].clone(), other];
    let forged = Envelope::new(*envelope.object_id(), data_keys, EncryptionContext::default(), false).unwrap();
    let mut all = metadata;
    all.extend(forged.to_metadata());
    replace(world.store.as_ref(), "object", body, all).await;
    let all = [&world.old, &world.new];
    world.refused(&all, &remove(&world.old), ErrorKind::Authentication).await;
    world.old.calls();
    world.new.calls();

    // To be added, it is wrapped anew, although it is listed.
    world.rewrap(&only(&world.new)).await.unwrap();
    assert_eq!(world.new.calls(), Calls { unwraps: 1, wraps: 1, ..NONE });
    assert!(world.read("object", &world.new).await.unwrap() == world.plain);
}

#[tokio::test]
async fn a_data_key_that_is_not_the_objects_is_not_wrapped() {
    let world = World::new().await;
    let Stored { body, .. } = world.stored().await;
    let envelope = world.envelope().await;
    // As whoever may wrap under the trusted CMK could do, to learn nothing and break much.
    let context = Envelope::kms_context(envelope.object_id(), envelope.context(), None);
    let other = world.old.wrap(world.old.id(), &DataKey::random().unwrap(), &context).await.unwrap();
    let forged = Envelope::new(*envelope.object_id(), vec![other], EncryptionContext::default(), false).unwrap();
    replace(world.store.as_ref(), "object", body, forged.to_metadata()).await;
    world.old.calls();
    world.new.calls();
    world.refused(&[&world.old], &only(&world.new), ErrorKind::Authentication).await;
    assert_eq!(world.new.calls(), NONE);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_the_write() {
    let world = World::new().await;
    let many: Vec<_> = (0..16).map(|_| Counting::new().recipient()).collect();
    let all = [&world.old];
    let options = RewrapOptions { add: many, ..RewrapOptions::default() };
    let error = world.refused(&all, &options, ErrorKind::LimitExceeded).await;
    assert!(error.to_string().contains("16"), "{error}");

    let limits = Limits { max_metadata: 600, ..MemoryStore::new().limits() };
    let world = World::on(Arc::new(MemoryStore::with_limits(limits))).await;
    let options = RewrapOptions { add: vec![world.new.recipient(), Counting::new().recipient()], ..Default::default() };
    let error = world.refused(&[&world.old], &options, ErrorKind::LimitExceeded).await;
    assert!(error.to_string().contains("600"), "{error}");
}

#[tokio::test]
async fn s10_a_bound_object_under_another_name_is_refused() {
    let world = World::new().await;
    world.put("bound", UploadOptions { bind: true, ..UploadOptions::default() }).await;
    let Stored { body, metadata, .. } = stored(world.store.as_ref(), "bound").await;
    replace(world.store.as_ref(), "object", body, metadata).await;
    let error = world.refused(&[&world.old], &only(&world.new), ErrorKind::Authentication).await;
    assert!(error.to_string().contains("bound"), "{error}");
    world.rewrap_by(&[&world.old], "bound", &only(&world.new)).await.unwrap();
    assert!(world.read("bound", &world.new).await.unwrap() == world.plain);
}

#[tokio::test]
async fn s10_an_envelope_or_wrapped_key_moved_to_another_object_is_refused_after_a_rewrap_too() {
    let world = World::new().await;
    world.put("other", UploadOptions::default()).await;
    for name in ["object", "other"] {
        world.rewrap_by(&[&world.old], name, &only(&world.new)).await.unwrap();
    }
    let (one, other) = (world.stored().await, stored(world.store.as_ref(), "other").await);
    let mut moved = one.metadata.clone();
    moved.insert("sealift-data-keys".into(), other.metadata["sealift-data-keys"].clone());
    for metadata in [other.metadata.clone(), moved] {
        replace(world.store.as_ref(), "object", one.body.clone(), metadata).await;
        let refused = world.read("object", &world.new).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Authentication, "{refused:?}");
        // Nor does a rewrap make it good.
        world.refused(&[&world.new], &add(&world.old), ErrorKind::Authentication).await;
    }
}

#[tokio::test]
async fn demands_are_made_before_anything_is_given_away() {
    let world = World::new().await;
    let context = EncryptionContext::new([("project".into(), "x".into())]).unwrap();
    let bound = ReadOptions { bound: true, ..ReadOptions::default() };
    for demands in [bound, ReadOptions { context, ..ReadOptions::default() }] {
        let options = RewrapOptions { demands, ..only(&world.new) };
        world.refused(&[&world.old], &options, ErrorKind::Authentication).await;
    }
    assert_eq!((world.old.calls(), world.new.calls()), (NONE, NONE));
}

#[tokio::test]
async fn s09_what_is_not_sealed_is_not_rewrapped() {
    let world = World::new().await;
    let Stored { body, .. } = world.stored().await;
    replace(world.store.as_ref(), "object", body, BTreeMap::new()).await;
    world.refused(&[&world.old], &only(&world.new), ErrorKind::NotSealed).await;
    let missing = world.rewrap_by(&[&world.old], "none", &only(&world.new)).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn s15_whoever_overwrites_the_object_meanwhile_wins() {
    let (_dir, worlds) = worlds().await;
    for world in worlds {
        let world = Arc::new(world);
        let another = b"another object".to_vec();
        world.new.while_wrapping({
            let (store, another) = (world.store.clone(), another.clone());
            move || {
                let (store, another) = (store.clone(), another.clone());
                Box::pin(async move { replace(store.as_ref(), "object", another, BTreeMap::new()).await })
            }
        });
        let error = world.rewrap(&only(&world.new)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
        let stored = world.stored().await;
        assert_eq!((stored.body, stored.metadata), (another, BTreeMap::new()));
    }
}

#[tokio::test]
async fn of_two_rewraps_at_once_one_learns_that_it_lost() {
    let (_dir, worlds) = worlds().await;
    for world in worlds {
        let world = Arc::new(world);
        let third = Counting::new();
        world.new.while_wrapping({
            let (world, third) = (world.clone(), third.clone());
            move || {
                let (world, third) = (world.clone(), third.clone());
                Box::pin(async move { drop(world.rewrap_by(&[&world.old], "object", &add(&third)).await.unwrap()) })
            }
        });
        let error = world.rewrap(&only(&world.new)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
        assert_eq!(names(world.envelope().await.data_keys()), [world.old.id(), third.id()], "the other's work stands");
        assert!(world.read("object", &third).await.unwrap() == world.plain);
        // Again, and it is done.
        world.rewrap(&only(&world.new)).await.unwrap();
        assert!(world.read("object", &world.new).await.unwrap() == world.plain);
    }
}

#[tokio::test]
async fn a_reader_in_a_directory_reads_on() {
    let (_dir, [_, world]) = worlds().await;
    let trusted = Trusted::new(vec![world.old.trust()]);
    let reader =
        world.engine.open(world.store.clone(), key("object"), &trusted, &ReadOptions::default()).await.unwrap();
    world.rewrap(&only(&world.new)).await.unwrap();
    assert!(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat() == world.plain);
}

#[tokio::test(start_paused = true)]
async fn s25_lost_answers_and_failures_are_retried_without_another_call_to_a_key_service() {
    let mut writes = 0;
    for seed in 0..100 {
        let store = SimStore::new(seed, MemoryStore::new().limits());
        let world = World::on(store.clone()).await;
        store.set_faults(Faults { fail: 40, lose_answer: 40, delay_ms: 20, ..Faults::default() });
        let done = world.rewrap(&only(&world.new)).await.unwrap();
        assert_eq!(done.outcome, RewrapOutcome::Written);
        assert_eq!((world.old.calls(), world.new.calls()), (Calls { unwraps: 1, ..NONE }, Calls { wraps: 1, ..NONE }));
        assert_eq!(world.stored().await.etag, done.etag);
        assert!(world.read("object", &world.new).await.unwrap() == world.plain);
        writes += store.requests();
    }
    assert!(writes > 130, "there were no retries to speak of");
}

#[tokio::test(start_paused = true)]
async fn s16_dying_at_the_write_leaves_the_old_envelope_or_the_new() {
    let mut left = [0, 0];
    for seed in 0..20 {
        let store = SimStore::new(seed, MemoryStore::new().limits());
        let world = World::on(store.clone()).await;
        store.set_faults(Faults { die_at: Some(0), ..Faults::default() });
        let options = only(&world.new);
        tokio::select! {
            _ = world.rewrap(&options) => panic!("it was to die"),
            () = store.died() => {}
        }
        store.set_faults(Faults::default());
        let is_new = names(world.envelope().await.data_keys()) == [world.new.id()];
        left[usize::from(is_new)] += 1;
        let opens = if is_new { &world.new } else { &world.old };
        assert!(world.read("object", opens).await.unwrap() == world.plain);
        // Again, and it is done.
        let again = world.rewrap(&only(&world.new)).await.unwrap();
        assert_eq!(again.outcome == RewrapOutcome::Unchanged, is_new);
        assert!(world.read("object", &world.new).await.unwrap() == world.plain);
    }
    assert!(left[0] > 0 && left[1] > 0, "{left:?}");
}

#[tokio::test]
async fn an_alias_of_a_key_that_is_a_recipient_already_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).unwrap().0);
    let by = |name: &str| Recipient { kms: local.clone(), key: name.to_owned() };
    let world = World::new().await;
    let id = local.describe_key(LocalKms::DEFAULT_ALIAS).unwrap().key_id;
    let with = |name: &str, remove| RewrapOptions { add: vec![by(name)], remove, ..RewrapOptions::default() };
    let done = world.rewrap(&with("alias/default", Remove::Others)).await.unwrap();
    assert_eq!(names(&done.after), [id.as_str()], "an envelope names ids");

    let before = world.stored().await;
    let trusted = Trusted::new(vec![(local.clone(), TrustedKeys::Any)]);
    for remove in [Remove::Others, Remove::Nothing, Remove::These(ids(&world.old))] {
        for name in ["alias/default", &id] {
            let options = with(name, remove.clone());
            let done = world.engine.rewrap(world.store.as_ref(), &key("object"), &trusted, &options).await.unwrap();
            assert_eq!(done.outcome, RewrapOutcome::Unchanged);
        }
    }
    let same = Remove::These(vec![CmkId { kms: None, key: id.clone() }]);
    let options = with("alias/default", same);
    let refused = world.engine.rewrap(world.store.as_ref(), &key("object"), &trusted, &options).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "added by its alias, and removed by its id");
    assert_eq!(world.stored().await, before);
}

#[tokio::test]
async fn the_old_key_may_go() {
    let home = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalKms::open_or_create(home.path().join("kms"), RootKeySource::File).unwrap().0);
    let by = |key: &str| RewrapOptions {
        add: vec![Recipient { kms: local.clone(), key: key.to_owned() }],
        remove: Remove::Others,
        ..RewrapOptions::default()
    };
    let (old, new) = (
        local.create_key(CreateKey::default()).unwrap().key_id,
        local.create_key(CreateKey::default()).unwrap().key_id,
    );
    let world = World::new().await;
    world.rewrap(&by(&old)).await.unwrap();
    let trusted = Trusted::new(vec![(local.clone(), TrustedKeys::Any)]);
    world.engine.rewrap(world.store.as_ref(), &key("object"), &trusted, &by(&new)).await.unwrap();
    std::fs::remove_file(home.path().join(format!("kms/keys/{old}.json"))).unwrap();
    let reader =
        world.engine.open(world.store.clone(), key("object"), &trusted, &ReadOptions::default()).await.unwrap();
    assert!(reader.stream(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat() == world.plain);
}

//! Scenario 26: keys that cannot be used.

use super::*;

#[tokio::test]
async fn s26_without_its_key_an_upload_is_refused_before_the_first_byte_is_sent() {
    let store = SimStore::new(26, MemoryStore::new().limits());
    let world = World::on(store.clone());
    let recipients = [Recipient { kms: world.kms.clone(), key: "no such key".into() }];
    let source = Box::new(BytesSource::new(Bytes::from_static(b"x")));
    let refused = world
        .engine
        .upload(world.store.clone(), world.key.clone(), source, &recipients, UploadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyUnavailable);
    assert_eq!(store.requests(), 0);
}

#[tokio::test]
async fn s26_a_second_recipient_opens_what_the_first_cannot() {
    let world = World::new();
    let second = Arc::new(KeyFile::new(DataKey::random().unwrap()));
    let recipients = [world.recipients().remove(0), Recipient { kms: second.clone(), key: second.id().to_owned() }];
    let source = Box::new(BytesSource::new(Bytes::from_static(b"for two")));
    let options = UploadOptions::default();
    world.engine.upload(world.store.clone(), world.key.clone(), source, &recipients, options).await.unwrap();
    let trusted = Trusted::new(vec![(second.clone(), TrustedKeys::Any)]);
    let reader =
        world.engine.open(world.store.clone(), world.key.clone(), &trusted, &ReadOptions::default()).await.unwrap();
    assert_eq!(read_all(&reader).await.unwrap(), b"for two");
    assert_eq!(reader.opened_with().unwrap().key, second.id());
}

/// The CMK is disabled, about to be deleted, pending import, or its material has expired.
#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn s26_whatever_state_stops_a_key_nothing_is_sent_and_a_second_recipient_still_opens() {
    use keys::{DAY, World as KeyStore, external, import, material};
    use sealift::KeyState;
    use sealift::kms::local::CreateKey;

    type Change = fn(&KeyStore, &str);
    let again: Change = |keys, key| drop(import(&keys.kms, key, &material(1), None).unwrap());
    let cases: [(KeyState, bool, Change, Change); 4] = [
        (
            KeyState::Disabled,
            false,
            |keys, key| drop(keys.kms.disable_key(key).unwrap()),
            |keys, key| drop(keys.kms.enable_key(key).unwrap()),
        ),
        (
            KeyState::PendingDeletion,
            false,
            |keys, key| drop(keys.kms.schedule_key_deletion(key, 7).unwrap()),
            |keys, key| drop(keys.kms.cancel_key_deletion(key).unwrap()),
        ),
        (KeyState::PendingImport, true, |keys, key| drop(keys.kms.delete_key_material(key).unwrap()), again),
        (KeyState::PendingImport, true, |keys, _| keys.clock.advance(DAY), again),
    ];
    for (state, imported, stop, resume) in cases {
        let keys = KeyStore::new();
        let key = if imported {
            let key = keys.kms.create_key(external()).unwrap().key_id;
            import(&keys.kms, &key, &material(1), Some(keys.clock.after(DAY))).unwrap();
            key
        } else {
            keys.kms.create_key(CreateKey::default()).unwrap().key_id
        };
        let local: Arc<dyn Kms> = Arc::new(keys.clock.open(&keys.dir));
        let store = SimStore::new(26, MemoryStore::new().limits());
        let world = World::on(store.clone());
        let first = Recipient { kms: local.clone(), key: key.clone() };
        let second = world.recipients().remove(0);
        let upload = async |recipients: &[Recipient]| {
            let source = Box::new(BytesSource::new(Bytes::from_static(b"for two")));
            let options = UploadOptions::default();
            world.engine.upload(world.store.clone(), world.key.clone(), source, recipients, options).await
        };
        upload(&[first.clone(), second.clone()]).await.unwrap();

        stop(&keys, &key);
        let sent = store.requests();
        for recipients in [vec![first.clone()], vec![second.clone(), first.clone()]] {
            let refused = upload(&recipients).await.unwrap_err();
            assert_eq!((refused.kind(), refused.key_state()), (ErrorKind::KeyUnavailable, Some(state)));
            assert!(refused.to_string().contains(&key), "{refused}");
        }
        assert_eq!(store.requests(), sent, "{state}: refused before anything is sent");

        let only_first = Trusted::new(vec![(local, TrustedKeys::Only(vec![key.clone()]))]);
        let options = ReadOptions::default();
        let open = async || world.engine.open(world.store.clone(), world.key.clone(), &only_first, &options).await;
        let refused = open().await.map(drop).unwrap_err();
        assert_eq!((refused.kind(), refused.key_state()), (ErrorKind::KeyUnavailable, Some(state)));
        assert!(refused.to_string().contains(state.name()), "{refused}");
        assert_eq!(world.read("object").await.unwrap(), b"for two", "{state}: by the second recipient");

        resume(&keys, &key);
        assert_eq!(read_all(&open().await.unwrap()).await.unwrap(), b"for two");
    }
}

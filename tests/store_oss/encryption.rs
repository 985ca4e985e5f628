//! Encryption on the server's side: asked for, confirmed, kept.

use super::*;

#[tokio::test]
async fn seven_answers_tell_the_server_side_encryption() {
    let server = OssServer::start();
    let kms = Sse {
        key_id: Some("a-cmk".into()),
        data_encryption: Some(SseDataEncryption::Sm4),
        ..Sse::new(SseAlgorithm::Kms)
    };
    for sse in [Sse::new(SseAlgorithm::Aes256), Sse::new(SseAlgorithm::Sm4), kms] {
        let store = builder(&server).sse(Some(sse.clone())).build().unwrap();
        let (name, properties) = (key("a"), Properties { metadata: named(&[("a", "b")]), ..Properties::default() });
        let put = store.put_whole_object(&name, held(&noise(9)), &properties, PutCondition::None).await.unwrap();
        let copied = store.copy_object(&name, &key("b"), PutCondition::None).await.unwrap();
        let begun = store.initiate_multipart_upload(&name, &properties, PutCondition::None).await.unwrap();
        let mut told = vec![put.encryption(), copied.encryption(), begun.encryption()];
        let upload = Upload { key: name.clone(), id: begun.value };
        let stored = store.upload_part(&upload, part(1, &noise(9))).await.unwrap();
        told.push(stored.encryption());
        let list = [CompletedPart { number: PartNumber::MIN, etag: stored.value }];
        let completed = store.complete_multipart_upload(&upload, &list, PutCondition::None).await.unwrap();
        assert!(completed.request_id().is_some() && completed.crc64().is_some());
        told.push(completed.encryption());
        told.push(store.get_object(&name, Some(ByteRange::From(3)), None).await.unwrap().encryption());
        told.push(store.head_object(&name).await.unwrap().encryption());
        for told in told {
            let told = told.unwrap();
            assert_eq!(told.algorithm, sse.algorithm.to_string());
            assert_eq!(told.key_id, sse.key_id);
            assert_eq!(told.data_encryption, sse.data_encryption.map(|cipher| cipher.to_string()));
        }
        // Never on a part.
        for request in server.take_requests() {
            let asked = request.headers.contains_key("x-oss-server-side-encryption");
            let call = oss_server::operation(&request);
            assert_eq!(asked, ["PutObject", "CopyObject", "InitiateMultipartUpload"].contains(&call), "{call}");
        }
    }
    let plain = store(&server);
    put(&plain, "plain", &noise(9)).await;
    assert_eq!(plain.head_object(&key("plain")).await.unwrap().encryption(), None);
}

#[tokio::test]
async fn errors_of_server_side_encryption_are_typed() {
    let server = OssServer::start();
    let kms = |id: &str| Sse { key_id: Some(id.to_owned()), ..Sse::new(SseAlgorithm::Kms) };
    for (id, expected, kind) in [
        ("unknown", ErrorCode::InvalidParameter, ErrorKind::InvalidInput),
        ("disabled", ErrorCode::CmkDisabled, ErrorKind::KeyUnavailable),
        ("deleted", ErrorCode::CmkPendingDeletion, ErrorKind::KeyUnavailable),
    ] {
        let store = builder(&server).sse(Some(kms(id))).build().unwrap();
        let error = store.initiate(&key("a"), &Properties::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry(), code(&error)), (kind, Retry::No, Some(expected)), "{error}");
        let error = store.put_object(&key("a"), held(&noise(9)), &Properties::default(), PutCondition::None).await;
        assert_eq!(error.unwrap_err().kind(), kind);
    }
    server.enable_kms(false);
    let store = builder(&server).sse(Some(kms("a-cmk"))).build().unwrap();
    let error = store.initiate(&key("a"), &Properties::default()).await.unwrap_err();
    assert_eq!((error.kind(), code(&error)), (ErrorKind::KeyUnavailable, Some(ErrorCode::KmsServiceNotEnabled)));
    assert!(error.to_string().contains("enable KMS"), "{error}");
    for bad in [
        Sse { key_id: Some("k".into()), ..Sse::new(SseAlgorithm::Aes256) },
        Sse { data_encryption: Some(SseDataEncryption::Sm4), ..Sse::new(SseAlgorithm::Sm4) },
        kms(""),
        kms("two words"),
    ] {
        assert_eq!(builder(&server).sse(Some(bad)).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_encryption_that_is_not_confirmed_is_an_error() {
    let server = OssServer::start();
    let store = builder(&server).sse(Some(Sse::new(SseAlgorithm::Aes256))).build().unwrap();
    let dropped = || What::Headers(&[("x-oss-server-side-encryption", "")]);
    server.fail_next("InitiateMultipartUpload", dropped());
    let error = store.initiate(&key("a"), &Properties::default()).await.unwrap_err();
    assert!(error.to_string().contains("was asked for"), "{error}");
    assert_eq!(store.list_uploads("").await.unwrap(), [], "the upload is given up");
    server.fail_next("PutObject", dropped());
    let error = store.put_object(&key("a"), held(&noise(9)), &Properties::default(), PutCondition::None).await;
    assert_eq!(error.map_err(|e| (e.kind(), e.retry())), Err((ErrorKind::Io, Retry::No)));
    let upload = begin(&store, "a").await;
    let list = upload_parts(&store, &upload, &[noise(9)]).await;
    server.fail_next("CompleteMultipartUpload", dropped());
    let error = store.complete(&upload, &list, PutCondition::None).await.unwrap_err();
    assert!(error.to_string().contains("is published, but"), "{error}");
}

#[tokio::test]
async fn set_sse_keeps_everything_else() {
    for (copy_limit, calls) in [(1 << 30, 1), (150 << 10, 0)] {
        let server = OssServer::start();
        server.state.copy_limit.store(copy_limit, SeqCst);
        let store = builder(&server).copy_limit(copy_limit).build().unwrap();
        let properties = Properties {
            metadata: named(&[("mine", "kept"), ("sealift-format", "1")]),
            content_type: Some("text/x-mine".to_owned()),
            storage_class: Some("IA".to_owned()),
            tags: named(&[("k 1", "v/1"), ("k2", "")]),
        };
        let bytes = noise(400_000);
        let name = key("dir/a b");
        store.put_object(&name, held(&bytes), &properties, PutCondition::None).await.unwrap();
        {
            let mut data = lock(&server.state.data);
            let object = data.objects.get_mut("dir/a b").unwrap();
            object.headers.insert("cache-control".into(), "no-cache".into());
            object.acl = "private".into();
        }
        let before = server.object("dir/a b");
        assert_eq!((before.class.as_str(), before.tags.len()), ("IA", 2));
        server.take_requests();
        let sse = Sse { key_id: Some("a-cmk".into()), ..Sse::new(SseAlgorithm::Kms) };
        let answer = store.set_sse(&name, &sse).await.unwrap();
        assert_eq!(answer.encryption().unwrap().key_id.as_deref(), Some("a-cmk"));
        let after = server.object("dir/a b");
        assert_eq!(
            (&after.headers, &after.tags, &after.acl, &after.class),
            (&before.headers, &before.tags, &before.acl, &before.class)
        );
        assert!(after.body == before.body);
        assert_eq!(after.sse[0].1, "KMS");
        let copies = server.take_requests().iter().filter(|r| oss_server::operation(r) == "CopyObject").count();
        assert_eq!(copies, calls);
        assert_eq!(store.list_uploads("").await.unwrap(), []);
        let head = store.head(&name).await.unwrap();
        // Tags do not come with the object.
        let properties = Properties { tags: BTreeMap::new(), ..properties };
        assert_eq!((head.properties, head.etag), (properties, answer.value));

        // Once more is nothing to do.
        server.take_requests();
        store.set_sse(&name, &sse).await.unwrap();
        assert_eq!(server.take_requests().len(), 1);

        // What cannot be done leaves the object as it is, and no upload.
        let error = store.set_sse(&name, &Sse { key_id: Some("disabled".into()), ..sse.clone() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
        server.fail_next("UploadPartCopy", What::Refuse(500, "InternalError", &[]));
        server.fail_next("CopyObject", What::Refuse(500, "InternalError", &[]));
        store.set_sse(&name, &Sse::new(SseAlgorithm::Sm4)).await.unwrap_err();
        assert_eq!(store.list_uploads("").await.unwrap(), []);
        assert_eq!(server.object("dir/a b").sse, after.sse);
        assert_eq!(store.set_sse(&key("nothing"), &sse).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn copies_and_replaced_metadata_keep_the_encryption() {
    let server = OssServer::start();
    let sse = Sse { key_id: Some("a-cmk".into()), ..Sse::new(SseAlgorithm::Kms) };
    put(&builder(&server).sse(Some(sse)).build().unwrap(), "a", &noise(500)).await;
    // A store that was told of no encryption.
    let store = store(&server);
    store.copy(&key("a"), &key("b"), PutCondition::None).await.unwrap();
    assert_eq!(server.object("b").sse, server.object("a").sse);
    let etag = store.head(&key("a")).await.unwrap().etag;
    let metadata = named(&[("new", "one")]);
    let newer = store.replace_metadata(&key("a"), &metadata, &etag).await.unwrap();
    let head = store.head(&key("a")).await.unwrap();
    assert_eq!((head.properties.metadata, head.etag), (metadata.clone(), newer));
    assert_eq!(server.object("b").sse, server.object("a").sse);
    assert_eq!(server.object("a").headers["content-type"], "application/octet-stream");
    let stale = store.replace_metadata(&key("a"), &metadata, &ETag("ANOTHER".into())).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Changed);
    // Replaced between the look and the copy.
    server.fail_next("CopyObject", What::Refuse(412, "PreconditionFailed", &[]));
    let raced = store.copy(&key("a"), &key("b"), PutCondition::None).await.unwrap_err();
    assert_eq!((raced.kind(), raced.retry()), (ErrorKind::Changed, Retry::No));
}

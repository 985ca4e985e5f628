//! Connections and answers that fail.

use super::sealed::World;
use super::*;

fn error_xml(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Try again.</Message></Error>"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_complete_answers_200_with_an_error_body() {
    let server = seaweedfs();
    let refusal = Fault::xml("200 OK", "", &error_xml("InternalError"));
    // Asked directly: no success, and worth another try.
    let proxy = Proxy::before(server.port, first(usize::MAX, is_complete, refusal.clone()));
    let refusing = store(&proxy.url()).await;
    let upload = begin(&refusing, "direct").await;
    let etag = put_part(&refusing, &upload, 1, held(b"part")).await.unwrap();
    let parts = [CompletedPart { number: number(1), etag }];
    let error = refusing.complete(&upload, &parts, PutCondition::None).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{error:?}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("InternalError"), "{error:?}");
    assert_eq!(kind(refusing.head(&key("direct")).await), ErrorKind::NotFound);
    // Neither is a success that says nothing.
    let proxy = Proxy::before(server.port, first(1, is_complete, Fault::xml("200 OK", "", "")));
    let silent = store(&proxy.url()).await;
    let error = silent.complete(&upload, &parts, PutCondition::None).await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
    refusing.abort(&upload).await.unwrap();

    // Through the engine: refused for ever, the upload fails; refused once, it succeeds.
    let (world, plain) = (World::new(), noise(6 * MIB));
    let failed = world.put_bytes(&refusing, &plain, UploadOptions::default()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io, "{failed:?}");
    assert_eq!(kind(refusing.head(&key("sealed")).await), ErrorKind::NotFound);
    let proxy = Proxy::before(server.port, first(1, is_complete, refusal));
    let store = store(&proxy.url()).await;
    world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
    assert_eq!(proxy.seen().iter().filter(|request| is_complete(request)).count(), 2);
    assert!(world.read(&store).await == plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_copy_that_failed_under_the_status_200_is_an_error() {
    let server = moto();
    let refusal = || Fault::xml("200 OK", "", &error_xml("InternalError"));
    for (in_one, call) in [(u64::MAX, "x-id=CopyObject"), (5 * MIB, "x-id=UploadPartCopy")] {
        let left = AtomicUsize::new(1);
        let proxy = Proxy::before(server.port, move |request| {
            let hit = request.contains(call) && left.swap(0, Ordering::Relaxed) == 1;
            if hit { refusal() } else { Fault::None }
        });
        let store = builder(&proxy.url()).multipart_copy_above(in_one).build().await.unwrap();
        let (from, to, body) = (key("from"), key("to"), noise(11 * MIB));
        store.put_object(&from, held(&body), &Properties::default(), PutCondition::None).await.unwrap();
        let error = store.copy(&from, &to, PutCondition::None).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Io, sealift::Retry::Yes), "{call}: {error:?}");
        assert_eq!(kind(store.head(&to).await), ErrorKind::NotFound, "{call}");
        assert_eq!(store.list_uploads("").await.unwrap(), [], "{call}");
        store.copy(&from, &to, PutCondition::None).await.unwrap();
        assert!(read(&store, "to").await == body);
        store.delete(&to).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_may_not_replace_is_refused_before_a_byte_is_sent() {
    let server = moto();
    let proxy = Proxy::before(server.port, |_| Fault::None);
    let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(6 * MIB));
    world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
    let before = proxy.seen().len();
    // Of more than one part: a smaller object is one request, which has the condition itself.
    let part_size = Some(5 * MIB);
    let options = UploadOptions { condition: PutCondition::IfNotExists, part_size, ..UploadOptions::default() };
    assert_eq!(kind(world.put_bytes(&store, &plain, options).await), ErrorKind::AlreadyExists);
    let requests = proxy.seen().split_off(before);
    assert!(matches!(requests.as_slice(), [head] if head.starts_with("HEAD ")), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s20_completes_answer_is_lost() {
    for server in [seaweedfs(), moto()] {
        for condition in [PutCondition::IfNotExists, PutCondition::None] {
            let proxy = Proxy::before(server.port, first(1, is_complete, Fault::LoseAnswer));
            let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(6 * MIB));
            let options = UploadOptions { condition, ..UploadOptions::default() };
            let uploaded = world.put_bytes(&store, &plain, options.clone()).await.unwrap();
            assert_eq!(uploaded.etag, store.head(&key("sealed")).await.unwrap().etag);
            assert!(world.read(&store).await == plain);
            assert_eq!(store.list_uploads("").await.unwrap(), []);
            if condition == PutCondition::IfNotExists {
                // A foreign object is no success.
                assert_eq!(kind(world.put_bytes(&store, &plain, options).await), ErrorKind::AlreadyExists);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s25_slow_down_resets_and_cut_bodies_are_ridden_out() {
    let server = seaweedfs();
    let slow = Fault::xml("503 Slow Down", "Retry-After: 0\r\n", &error_xml("SlowDown"));
    for fault in [slow, Fault::CutBody(100_000), Fault::LoseAnswer, Fault::CutAnswer(10)] {
        let proxy = Proxy::before(server.port, first(3, is_part, fault.clone()));
        let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(16 * MIB));
        world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
        assert!(world.read(&store).await == plain, "{fault:?}");
        let parts = proxy.seen().iter().filter(|request| is_part(request)).count();
        assert_eq!(
            (parts, proxy.count("POST ")),
            (4 + 3, 2),
            "{fault:?}: each failed part is sent once more, nothing else is"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_they_mean() {
    let server = moto();
    let cases = [
        ("503 Slow Down", "Retry-After: 7\r\n", "SlowDown", ErrorKind::Throttled, "fewer requests"),
        ("403 Forbidden", "", "AccessDenied", ErrorKind::PermissionDenied, "s3:GetObject"),
        ("400 Bad Request", "", "ExpiredToken", ErrorKind::PermissionDenied, "log in again"),
        (
            "301 Moved",
            "x-amz-bucket-region: eu-west-1\r\n",
            "PermanentRedirect",
            ErrorKind::InvalidInput,
            "--region eu-west-1",
        ),
        ("500 Internal", "", "InternalError", ErrorKind::Io, "internal error"),
        ("502 Bad Gateway", "", "", ErrorKind::Io, "the store failed"),
    ];
    for (status, headers, code, expected, says) in cases {
        let body = if code.is_empty() { "<html>sorry".to_owned() } else { error_xml(code) };
        let proxy = Proxy::before(server.port, first(usize::MAX, |_| true, Fault::xml(status, headers, &body)));
        let store = store(&proxy.url()).await;
        let error = store.get(&key("k"), None, None).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error:?}").contains(SECRET_KEY));
        if code == "SlowDown" {
            assert_eq!(error.retry(), sealift::Retry::After(Duration::from_secs(7)));
        }
        // Nothing is repeated here: whoever retries decides.
        assert_eq!(proxy.seen().len(), 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_corrected_from_the_stores_date() {
    let server = moto();
    let (name, nothing) = (key("k"), Properties::default());
    let skewed =
        Fault::xml("403 Forbidden", "Date: Fri, 01 Jan 2027 00:00:00 GMT\r\n", &error_xml("RequestTimeTooSkewed"));
    let proxy = Proxy::before(server.port, first(1, |_| true, skewed.clone()));
    let refused = store(&proxy.url()).await;
    // A payload is spent: whoever sent it is told to send it again.
    let put = || refused.put_object(&name, held(b"1"), &nothing, PutCondition::None);
    let error = put().await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
    assert!(error.to_string().contains("clock"), "{error}");
    put().await.unwrap();
    let signed = proxy.header("x-amz-date");
    assert!(!is_new_year(&signed[0]) && is_new_year(&signed[1]), "{signed:?}");

    // What has no payload is sent again at once.
    let proxy = Proxy::before(server.port, first(1, |_| true, skewed));
    assert_eq!(store(&proxy.url()).await.head(&name).await.unwrap().len, 1);
    let signed = proxy.header("x-amz-date");
    assert!(signed.len() == 2 && is_new_year(&signed[1]), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_upload_and_its_reading_are_signed_with_the_time_of_a_server_whose_clock_is_off() {
    for ahead in [3_600, -86_400] {
        let server = s3_server::moto_with_clock(ahead);
        s3_server::make_bucket(&server, BUCKET);
        let proxy = Proxy::before(server.port, |_| Fault::None);
        let (world, store, plain) = (World::new(), store(&proxy.url()).await, noise(11 * MIB));
        world.put_bytes(&store, &plain, UploadOptions::default()).await.unwrap();
        assert!(world.read(&store).await == plain);
        // One was refused, from which the rest have the time.
        assert_eq!(proxy.count("?uploads"), 2, "{:?}", proxy.seen());
        assert_eq!(proxy.seen().iter().filter(|request| is_part(request)).count(), 3);
    }
}

/// Whether a request was signed at the turn of the year: how far its clock is off is known to the second.
fn is_new_year(date: &str) -> bool {
    date.starts_with("20261231T2359") || date.starts_with("20270101T00")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_contradict_the_request_are_refused() {
    let server = moto();
    let plain = store(&server.url()).await;
    plain.put_object(&key("k"), held(&[7; 1000]), &Properties::default(), PutCondition::None).await.unwrap();
    let range = ByteRange::Inclusive { first: 10, last: 19 };
    let etag = "ETag: \"x\"\r\n";
    for (status, headers) in [
        // The whole object, another range, no ETag, an encoding.
        ("200 OK", etag.to_owned()),
        ("206 Partial Content", format!("{etag}Content-Range: bytes 11-20/1000\r\n")),
        ("206 Partial Content", "Content-Range: bytes 10-19/1000\r\n".to_owned()),
        ("206 Partial Content", format!("{etag}Content-Range: bytes 10-19/1000\r\nContent-Encoding: gzip\r\n")),
    ] {
        let body = "0123456789".repeat(if status == "200 OK" { 100 } else { 1 });
        let proxy = Proxy::before(server.port, first(1, |_| true, Fault::xml(status, &headers, &body)));
        let error = store(&proxy.url()).await.get(&key("k"), Some(range), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{status} {headers}: {error:?}");
    }
    // A body that ends in the middle.
    let proxy = Proxy::before(server.port, first(1, |_| true, Fault::CutAnswer(900)));
    let got = store(&proxy.url()).await.get(&key("k"), None, None).await.unwrap();
    let error: Error = got.body.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.retry(), sealift::Retry::Yes, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_listed_with_when_they_were_begun() {
    for server in [seaweedfs(), moto()] {
        let store = store(&server.url()).await;
        let upload = begin(&store, "begun").await;
        let listed = store.list_uploads_with_times("beg").await.unwrap().remove(0);
        assert_eq!(listed.upload, upload);
        // moto says 2010 of each.
        assert!(listed.begun.is_some_and(|begun| begun < std::time::SystemTime::now() + Duration::from_secs(60)));
        store.abort(&upload).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_abort_is_repeated_until_no_part_is_left() {
    let server = moto();
    // The first answer to an abort is a lie: the upload and its part are still there.
    let is_abort: fn(&str) -> bool = |request| request.starts_with("DELETE ");
    let lie = Fault::Answer("HTTP/1.1 204 No Content\r\n\r\n".to_owned());
    let proxy = Proxy::before(server.port, first(1, is_abort, lie));
    let store = store(&proxy.url()).await;
    let upload = begin(&store, "aborted").await;
    put_part(&store, &upload, 1, held(b"part")).await.unwrap();
    store.abort(&upload).await.unwrap();
    assert_eq!(proxy.count("DELETE "), 2);
    assert_eq!(kind(store.list_parts(&upload).await), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_silent_or_absent_is_an_error_worth_a_retry() {
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let patient = builder(&url).request_timeout(Duration::from_millis(300)).build().await.unwrap();
    let error = patient.head(&key("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, sealift::Retry::Yes), "{error:?}");
    drop(silent);
    // No resolver is asked for a name whose label is too long.
    for url in [url, format!("http://{}.invalid:1", "a".repeat(64))] {
        let error = store(&url).await.head(&key("k")).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unreachable, sealift::Retry::Yes), "{error:?}");
        assert!(error.to_string().contains(&format!("cannot connect to {url}")), "{error}");
    }
}

//! Objects that are stored by one request, read, copied, listed and removed.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Offsets, Test, bytes, held, metadata, ok, produced, refused};
use crate::error::{Error, ErrorKind};
use crate::store::{Payload, Properties, PutCondition};
use crate::types::ByteRange;

impl Test<'_> {
    pub(super) async fn objects(&self) {
        let key = self.key("objects");
        self.missing(&key).await;
        let mut tags = Vec::new();
        for (seed, len) in [(1, 1000), (2, 1000), (3, 0), (4, 1), (5, 3_000_000), (6, 23)] {
            let (body, properties) = (bytes(seed, len), metadata(&[("seed", &seed.to_string())]));
            let payload = if seed % 2 == 0 { held(&body) } else { produced(&body) };
            let put = self.store.put_object(&key, payload, &properties, PutCondition::None).await;
            let etag = ok(put, "put_object");
            assert_eq!(
                self.holds(&key, &body, &properties).await.etag,
                etag,
                "head has the ETag that put_object returned"
            );
            assert!(!tags.contains(&etag), "another body has another ETag");
            tags.push(etag);
        }
        ok(self.store.delete(&key).await, "delete");
        self.missing(&key).await;
    }

    pub(super) async fn properties(&self) {
        let key = self.key("properties");
        let body = bytes(1, 100);
        for properties in [
            metadata(&[]),
            metadata(&[("a", "b")]),
            metadata(&[("sealift-format", "1"), ("sealift-data-keys", r#"[{"kms":"local","key":"k","blob":"Zm9v"}]"#)]),
            metadata(&[("long", &"x".repeat(1500))]),
            Properties { content_type: Some("text/x-sealed; charset=utf-8".to_owned()), ..metadata(&[("a", "b")]) },
            metadata(&[]),
        ] {
            // Replaced as a whole: none of the last object's remain.
            self.put(&key, &body, &properties).await;
            self.holds(&key, &body, &properties).await;
            let got = ok(self.store.get(&key, Some(ByteRange::Suffix(1)), None).await, "get");
            assert_eq!(
                (got.info.properties, got.info.len),
                (properties, 100),
                "a range's answer tells of the whole object"
            );
        }
        // Not every store can keep a name without a value; then it says so.
        let empty = metadata(&[("empty", ""), ("other", "value")]);
        match self.store.put_object(&key, held(&body), &empty, PutCondition::None).await {
            Ok(_) => drop(self.holds(&key, &body, &empty).await),
            refusal => refused(refusal, ErrorKind::InvalidInput, "metadata without a value"),
        }
    }

    pub(super) async fn ranges(&self) {
        let key = self.key("ranges");
        let len = 2_500_000;
        let body = bytes(7, len);
        let etag = self.put(&key, &body, &metadata(&[])).await;
        for range in [
            ByteRange::Inclusive { first: 0, last: 0 },
            ByteRange::Inclusive { first: 5, last: 1_048_580 },
            ByteRange::Inclusive { first: 1_048_576, last: 2_097_151 },
            ByteRange::Inclusive { first: len - 1, last: len - 1 },
            ByteRange::Inclusive { first: len - 2, last: len + 1000 },
            ByteRange::Inclusive { first: 3, last: u64::MAX },
            ByteRange::From(0),
            ByteRange::From(len - 1),
            ByteRange::Suffix(1),
            ByteRange::Suffix(65_536),
            ByteRange::Suffix(len),
            ByteRange::Suffix(u64::MAX),
        ] {
            let expected = ok(range.resolve(len), "a range that holds bytes");
            let got = ok(self.store.get(&key, Some(range), Some(&etag)).await, "get of a range");
            assert_eq!((got.range, got.info.len), (expected.clone(), len), "{range}");
            let expected = body.slice(expected.start as usize..expected.end as usize);
            assert!(ok(self.read(&key, Some(range)).await, "get of a range") == expected, "bytes of {range}");
        }
        for range in [ByteRange::From(len), ByteRange::Inclusive { first: len, last: len }, ByteRange::Suffix(0)] {
            refused(
                self.store.get(&key, Some(range), None).await,
                ErrorKind::RangeNotSatisfiable,
                "a range without bytes",
            );
        }
        self.put(&key, &bytes(8, 0), &metadata(&[])).await;
        assert!(ok(self.read(&key, None).await, "get of an empty object").is_empty());
        refused(
            self.store.get(&key, Some(ByteRange::Suffix(10)), None).await,
            ErrorKind::RangeNotSatisfiable,
            "a range of an empty object",
        );
    }

    pub(super) async fn conditions(&self) {
        let key = self.key("conditions");
        let (first, second) = (bytes(1, 500), bytes(2, 500));
        let properties = metadata(&[("which", "first")]);
        let new = PutCondition::IfNotExists;
        let etag = ok(self.store.put_object(&key, held(&first), &properties, new).await, "put of a new object");
        let again = self.store.put_object(&key, held(&second), &metadata(&[("which", "second")]), new).await;
        refused(again, ErrorKind::AlreadyExists, "put_object if there is none");
        assert_eq!(self.holds(&key, &first, &properties).await.etag, etag, "a refused put changes nothing");

        let upload = self.initiate(&key, &metadata(&[("which", "third")])).await;
        let list = self.put_parts(&upload, Offsets::Known, &[(1, second.clone())], &[0]).await;
        let completed = self.store.complete(&upload, &list, new).await;
        refused(completed, ErrorKind::AlreadyExists, "complete if there is none");
        self.holds(&key, &first, &properties).await;
        ok(self.store.abort(&upload).await, "abort after a refused complete");

        refused(self.store.copy(&key, &key, new).await, ErrorKind::AlreadyExists, "copy if there is none");
        ok(self.store.get(&key, None, Some(&etag)).await, "get if it matches");
        let newer = self.put(&key, &second, &metadata(&[])).await;
        assert_ne!(newer, etag, "another body has another ETag");
        refused(
            self.store.get(&key, None, Some(&etag)).await,
            ErrorKind::Changed,
            "get if it matches, and it does not",
        );

        let other = self.key("conditions-of-an-upload");
        let upload = self.initiate(&other, &properties).await;
        let list = self.put_parts(&upload, Offsets::Known, &[(1, first.clone())], &[0]).await;
        ok(self.store.complete(&upload, &list, new).await, "complete if there is none, and there is none");
        self.holds(&other, &first, &properties).await;
    }

    /// Payloads that fail, end early or do not end: the part or object is not stored, and what was there stays.
    pub(super) async fn failing_payloads(&self) {
        let failing = |kind| {
            let piece = |n| Ok(bytes(9, n));
            match kind {
                0 => Payload::produced(
                    300,
                    stream::iter([piece(100), Err(Error::new(ErrorKind::SourceChanged, "changed"))]),
                ),
                1 => Payload::produced(300, stream::iter([piece(100), piece(199)])),
                2 => Payload::produced(300, stream::iter([piece(100), piece(201)])),
                _ => Payload::produced(300, stream::empty()),
            }
        };
        let key = self.key("failing");
        let (body, properties) = (bytes(1, 300), metadata(&[("which", "first")]));
        let etag = self.put(&key, &body, &properties).await;
        for kind in 0..4 {
            let put = self.store.put_object(&key, failing(kind), &metadata(&[]), PutCondition::None).await;
            let expected = if kind == 0 { ErrorKind::SourceChanged } else { ErrorKind::Io };
            refused(put, expected, "put_object of a payload that fails");
            assert_eq!(self.holds(&key, &body, &properties).await.etag, etag);
        }
        for kind in 0..4 {
            for offset in [Some(0), None] {
                let upload = self.initiate(&key, &metadata(&[])).await;
                let expected = if kind == 0 { ErrorKind::SourceChanged } else { ErrorKind::Io };
                let put = self.put_part(&upload, 1, offset, failing(kind)).await;
                refused(put, expected, "put_part of a payload that fails");
                assert_eq!(self.listed(&upload).await, [], "a part that failed is not stored");
                let etag = ok(self.put_part(&upload, 1, offset, held(&body)).await, "put_part after one that failed");
                assert_eq!(self.listed(&upload).await, [(1, etag, 300)]);
                ok(self.store.abort(&upload).await, "abort");
            }
        }
        assert_eq!(self.holds(&key, &body, &properties).await.etag, etag);
        let uploads = ok(self.store.list_uploads(&self.prefix).await, "list_uploads");
        assert_eq!(uploads, [], "objects that failed leave no upload");
    }

    pub(super) async fn copies(&self) {
        let (from, to) = (self.key("copy/from"), self.key("copied/to/there"));
        refused(self.store.copy(&from, &to, PutCondition::None).await, ErrorKind::NotFound, "copy of no object");
        let body = bytes(3, 200_000);
        let properties = Properties { content_type: Some("text/plain".to_owned()), ..metadata(&[("a", "b")]) };
        self.put(&from, &body, &properties).await;
        ok(self.store.copy(&from, &to, PutCondition::IfNotExists).await, "copy");
        self.holds(&to, &body, &properties).await;
        self.holds(&from, &body, &properties).await;

        // The copy is an object of its own.
        ok(self.store.delete(&from).await, "delete");
        self.holds(&to, &body, &properties).await;
        ok(self.store.copy(&to, &to, PutCondition::None).await, "copy onto itself");
        self.holds(&to, &body, &properties).await;
        self.put(&from, &bytes(4, 10), &metadata(&[])).await;
        let etag = ok(self.store.copy(&from, &to, PutCondition::None).await, "copy onto another");
        assert_eq!(
            self.holds(&to, &bytes(4, 10), &metadata(&[])).await.etag,
            etag,
            "head has the ETag that copy returned"
        );
    }

    pub(super) async fn listings(&self) {
        // `-` and `.` sort before `/`, `0` after it.
        let mut names = ["l/a/b", "l/a-", "l/a.b", "l/a0", "l/a/b.c", "l/a/c/d", "l/A", "l/ü", "l/z"];
        for (i, name) in names.iter().enumerate() {
            self.put(&self.key(name), &bytes(1, i as u64), &metadata(&[])).await;
        }
        names.sort_unstable();
        for prefix in ["l/", "l/a", "l/a/", "l/a/b", "l/a/c/", "l/z", "l/zz", "l/ü", "no", "l/a/c/d/"] {
            let listed: Vec<_> = ok(self.store.list(self.key(prefix).as_str()).try_collect().await, "list");
            let keys: Vec<_> = listed.iter().map(|object| object.key.clone()).collect();
            let expected: Vec<_> =
                names.iter().filter(|name| name.starts_with(prefix)).map(|name| self.key(name)).collect();
            assert_eq!(keys, expected, "list of {prefix:?}");
            for object in listed {
                assert_eq!(object.len, ok(self.store.head(&object.key).await, "head").len, "{}", object.key);
            }
        }
        // From a key on, from where there is none, from a folder, from beyond its end, and from before and behind all with the prefix.
        for prefix in ["l/", "l/a", "l/a/"] {
            for after in ["l/a/b", "l/a.", "l/a/", "l/a/c", "l/a/\u{10ffff}", "l/a0", "l/", "k", "l/z", "m"] {
                let (below, start) = (self.key(prefix), self.prefix.clone() + after);
                let listed: Vec<_> = ok(self.store.list_after(below.as_str(), &start).try_collect().await, "list");
                let keys: Vec<_> = listed.iter().map(|object| object.key.clone()).collect();
                let expected = names.iter().filter(|name| name.starts_with(prefix) && **name > after);
                let expected: Vec<_> = expected.map(|name| self.key(name)).collect();
                assert_eq!(keys, expected, "list of {prefix:?} after {after:?}");
            }
        }
    }

    pub(super) async fn a_read_sees_one_state(&self) {
        let key = self.key("one-state");
        let old = bytes(1, 3_000_000);
        self.put(&key, &old, &metadata(&[("which", "old")])).await;
        let mut got = ok(self.store.get(&key, None, None).await, "get");
        let mut read = ok(got.body.next().await.expect("a first piece"), "first piece").to_vec();
        self.put(&key, &bytes(2, 3_000_000), &metadata(&[("which", "new")])).await;
        // The old object's bytes to the end, or an error: never some of each.
        while let Some(piece) = got.body.next().await {
            match piece {
                Ok(piece) => read.extend_from_slice(&piece),
                Err(_) => return,
            }
        }
        assert!(old == read, "a body that is replaced while it is read");
    }
}

//! Replacing an object's metadata while its body stays.

use futures::StreamExt as _;

use super::{Offsets, Test, bytes, metadata, ok, refused};
use crate::error::ErrorKind;
use crate::store::Properties;
use crate::types::{ByteRange, ETag};

impl Test<'_> {
    pub(super) async fn replaced_metadata(&self) {
        let key = self.key("metadata/replaced");
        let no_object = self.store.replace_metadata(&key, &metadata(&[]).metadata, &ETag("none".into())).await;
        refused(no_object, ErrorKind::NotFound, "replace_metadata of no object");
        self.missing(&key).await;

        let content_type = Some("text/plain".to_owned());
        let typed = |pairs: &[(&str, &str)]| Properties { content_type: content_type.clone(), ..metadata(pairs) };
        let (body, old) = (bytes(1, 300_000), typed(&[("a", "old"), ("gone", "soon")]));
        let before = self.put(&key, &bytes(2, 300_000), &metadata(&[])).await;
        let mut etag = self.put(&key, &body, &old).await;
        let other = self.store.replace_metadata(&key, &metadata(&[("b", "new")]).metadata, &before).await;
        refused(other, ErrorKind::Changed, "replace_metadata with the ETag of a body that was replaced");
        assert_eq!(self.holds(&key, &body, &old).await.etag, etag, "a refused replace_metadata changes nothing");

        for new in [
            // Replaced as a whole: none of the last remain.
            typed(&[("a", "new"), ("sealift-data-keys", r#"[{"kms":"local","key":"k","blob":"Zm9v"}]"#)]),
            typed(&[("long", &"x".repeat(1500))]),
            typed(&[]),
            typed(&[("a", "last")]),
        ] {
            etag = ok(self.store.replace_metadata(&key, &new.metadata, &etag).await, "replace_metadata");
            assert_eq!(
                self.holds(&key, &body, &new).await.etag,
                etag,
                "head has the ETag that replace_metadata returned"
            );
            let got = ok(self.store.get(&key, Some(ByteRange::Suffix(10)), Some(&etag)).await, "get if it matches");
            assert_eq!((got.info.properties, got.info.len), (new, body.len() as u64));
        }

        // The next body comes with its own metadata, and what was replaced does not come back.
        self.put(&key, &bytes(3, 10), &metadata(&[("which", "next")])).await;
        self.holds(&key, &bytes(3, 10), &metadata(&[("which", "next")])).await;
        let again = self.store.replace_metadata(&key, &metadata(&[]).metadata, &etag).await;
        refused(again, ErrorKind::Changed, "replace_metadata with the ETag of a body that was replaced");

        // An object that was uploaded in parts.
        let upload = self.initiate(&key, &metadata(&[("which", "parts")])).await;
        let parts = [(1, bytes(4, self.part_len)), (2, bytes(5, 7))];
        let list = self.put_parts(&upload, Offsets::Known, &parts, &[0, 1]).await;
        let etag = ok(self.complete(&upload, &list).await, "complete");
        let new = metadata(&[("which", "replaced")]);
        let etag = ok(self.store.replace_metadata(&key, &new.metadata, &etag).await, "replace_metadata");
        let body = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(self.holds(&key, &body, &new).await.etag, etag);
        ok(self.store.delete(&key).await, "delete");
        let deleted = self.store.replace_metadata(&key, &metadata(&[]).metadata, &etag).await;
        refused(deleted, ErrorKind::NotFound, "replace_metadata of an object that was deleted");
        self.missing(&key).await;
    }

    /// One of them, whole: not a mix, and not what was before.
    pub(super) async fn metadata_replaced_twice_at_once(&self) {
        let key = self.key("metadata/twice");
        let body = bytes(1, 1000);
        let etag = self.put(&key, &body, &metadata(&[("which", "before")])).await;
        let new = ["one", "two"].map(|which| metadata(&[("which", which), (which, which)]));
        let replace = |new| self.store.replace_metadata(&key, new, &etag);
        let (one, two) = futures::join!(replace(&new[0].metadata), replace(&new[1].metadata));
        let mut may_hold = Vec::new();
        for (done, new) in [one, two].into_iter().zip(new) {
            match done {
                Ok(_) => may_hold.push(new),
                // Where ETags are made of the body alone, both succeed.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}"),
            }
        }
        let holds = ok(self.store.head(&key).await, "head").properties;
        assert!(may_hold.contains(&holds), "{holds:?} is none of {may_hold:?}");
        self.holds(&key, &body, &holds).await;
    }

    pub(super) async fn a_read_goes_on_or_fails_while_metadata_is_replaced(&self) {
        let key = self.key("metadata/read");
        let body = bytes(1, 3_000_000);
        let old = metadata(&[("which", "old")]);
        let etag = self.put(&key, &body, &old).await;
        let mut got = ok(self.store.get(&key, None, Some(&etag)).await, "get");
        assert_eq!(got.info.properties, old);
        let mut read = ok(got.body.next().await.expect("a first piece"), "first piece").to_vec();
        let new = metadata(&[("which", "new")]);
        ok(self.store.replace_metadata(&key, &new.metadata, &etag).await, "replace_metadata");
        loop {
            match got.body.next().await {
                Some(Ok(piece)) => read.extend_from_slice(&piece),
                Some(Err(_)) => break,
                None => {
                    assert!(read == body, "a body whose metadata is replaced while it is read");
                    break;
                }
            }
        }
        match self.store.get(&key, Some(ByteRange::Suffix(1)), Some(&etag)).await {
            Ok(got) => assert_eq!(got.info.properties, new, "a later answer has the new metadata"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}"),
        }
        self.holds(&key, &body, &new).await;
    }
}

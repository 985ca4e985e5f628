//! Multipart uploads: parts in any order, again, and side by side; Complete and abort.

use super::{Offsets, Test, bytes, held, metadata, number, ok, produced, refused};
use crate::error::ErrorKind;
use crate::store::{CompletedPart, Properties, StoredPart, Upload};
use crate::types::{ETag, UploadId};

impl Test<'_> {
    pub(super) async fn uploads(&self, places: Offsets) {
        let key = self.key(&format!("uploads/{places:?}"));
        let properties = Properties { content_type: Some("text/plain".to_owned()), ..metadata(&[("a", "upload")]) };
        let n = self.part_len;
        let parts = [(1, bytes(1, n)), (2, bytes(2, n)), (3, bytes(3, 7))];
        let upload = self.initiate(&key, &properties).await;
        assert_eq!(self.listed(&upload).await, [], "a new upload has no parts");
        let listed = ok(self.store.list_uploads(key.as_str()).await, "list_uploads");
        assert_eq!(listed, std::slice::from_ref(&upload));
        let list = self.put_parts(&upload, places, &parts, &[0, 1, 2]).await;
        let expected: Vec<_> =
            list.iter().zip(&parts).map(|(part, (n, bytes))| (*n, part.etag.clone(), bytes.len() as u64)).collect();
        assert_eq!(self.listed(&upload).await, expected);
        self.missing(&key).await;
        let etag = ok(self.complete(&upload, &list).await, "complete");
        let body = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(self.holds(&key, &body, &properties).await.etag, etag, "head has the ETag that complete returned");
        assert_eq!(ok(self.store.list_uploads(key.as_str()).await, "list_uploads"), [], "a completed upload is gone");
        refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of a completed upload");

        // An upload of one part, below every minimum; it replaces the object only when it is completed.
        let replacement = bytes(4, 1);
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &[(10_000, replacement.clone())], &[0]).await;
        self.holds(&key, &body, &properties).await;
        let newer = ok(self.complete(&upload, &list).await, "complete");
        assert_ne!(newer, etag, "another body has another ETag");
        self.holds(&key, &replacement, &metadata(&[])).await;
    }

    pub(super) async fn many_parts_in_any_order(&self, places: Offsets) {
        let key = self.key(&format!("any-order/{places:?}"));
        // Numbers have gaps.
        let mut parts: Vec<_> = (1..=5).map(|i| (i * i, bytes(i as u8, self.part_len))).collect();
        parts.push((9_999, bytes(9, self.part_len)));
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &parts, &[4, 0, 5, 2, 1, 3]).await;
        ok(self.complete(&upload, &list).await, "complete of parts with gaps");
        let body = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        self.holds(&key, &body, &metadata(&[])).await;
    }

    /// Says whether the store keeps every attempt.
    pub(super) async fn parts_stored_again(&self, places: Offsets) -> bool {
        let key = self.key(&format!("again/{places:?}"));
        let n = self.part_len;
        let upload = self.initiate(&key, &metadata(&[])).await;
        let offset = |at| (places == Offsets::Known).then_some(at);
        let first = ok(self.put_part(&upload, 1, offset(0), held(&bytes(1, n))).await, "put_part");
        let tail = ok(self.put_part(&upload, 2, offset(n), held(&bytes(2, 9))).await, "put_part");
        let second = ok(self.put_part(&upload, 1, offset(0), produced(&bytes(3, n))).await, "put_part again");
        assert_ne!(first, second, "other bytes have another ETag");
        let attempts = ok(self.store.list_attempts(&upload).await, "list_attempts");
        let is_second = |part: &StoredPart| part.number == number(1) && part.etag == second;
        assert!(attempts.iter().any(is_second), "the latest attempt is among {attempts:?}");
        let list = |one: &ETag| {
            vec![
                CompletedPart { number: number(1), etag: one.clone() },
                CompletedPart { number: number(2), etag: tail.clone() },
            ]
        };
        match self.complete(&upload, &list(&first)).await {
            // A store that keeps every attempt: what is listed is what there is.
            Ok(_) => {
                self.holds(&key, &[bytes(1, n), bytes(2, 9)].concat().into(), &metadata(&[])).await;
                return true;
            }
            refusal => refused(refusal, ErrorKind::Changed, "complete with a part that was replaced"),
        }
        self.missing(&key).await;
        assert_eq!(self.listed(&upload).await, [(1, second.clone(), n), (2, tail.clone(), 9)]);
        ok(self.complete(&upload, &list(&second)).await, "complete after one that was refused");
        self.holds(&key, &[bytes(3, n), bytes(2, 9)].concat().into(), &metadata(&[])).await;
        false
    }

    pub(super) async fn refused_completes(&self, places: Offsets) {
        let key = self.key(&format!("refused/{places:?}"));
        let (body, properties) = (bytes(8, 8), metadata(&[("old", "one")]));
        self.put(&key, &body, &properties).await;
        let parts = [(1, bytes(1, self.part_len)), (2, bytes(2, self.part_len)), (3, bytes(3, 5))];
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &parts, &[0, 1, 2]).await;

        refused(self.complete(&upload, &[]).await, ErrorKind::InvalidInput, "complete without parts");
        let reversed: Vec<_> = list.iter().rev().cloned().collect();
        refused(
            self.complete(&upload, &reversed).await,
            ErrorKind::InvalidInput,
            "complete with parts in another order",
        );
        let twice = [&list[..1], &list[..]].concat();
        refused(self.complete(&upload, &twice).await, ErrorKind::InvalidInput, "complete with a part twice");
        let missing = CompletedPart { number: number(4), etag: list[2].etag.clone() };
        let more = [&list[..], &[missing]].concat();
        refused(self.complete(&upload, &more).await, ErrorKind::Changed, "complete with a part that is not there");
        let mut swapped = list.clone();
        swapped[0].etag = list[1].etag.clone();
        refused(self.complete(&upload, &swapped).await, ErrorKind::Changed, "complete with another part's ETag");

        let limits = self.store.limits();
        if limits.min_part > 1 {
            let short = self.initiate(&self.key("short"), &metadata(&[])).await;
            let parts = [(1, bytes(1, limits.min_part - 1)), (2, bytes(2, 10))];
            let list = self.put_parts(&short, places, &parts, &[0, 1]).await;
            refused(
                self.complete(&short, &list).await,
                ErrorKind::LimitExceeded,
                "complete with a part below the minimum",
            );
            ok(self.store.abort(&short).await, "abort");
        }
        if limits.equal_parts {
            let unequal = self.initiate(&self.key("unequal"), &metadata(&[])).await;
            let parts = [(1, bytes(1, self.part_len)), (2, bytes(2, self.part_len + 1)), (3, bytes(3, 10))];
            let list = self.put_parts(&unequal, places, &parts, &[0, 1, 2]).await;
            refused(self.complete(&unequal, &list).await, ErrorKind::LimitExceeded, "complete with unequal parts");
            ok(self.store.abort(&unequal).await, "abort");
        }

        self.holds(&key, &body, &properties).await;
        assert_eq!(self.listed(&upload).await.len(), 3, "a refused complete takes no part away");
        // Not all parts need be listed; the first ones here, so that the offsets still fit.
        ok(self.complete(&upload, &list[..2]).await, "complete with some of the parts");
        self.holds(&key, &[&parts[0].1[..], &parts[1].1[..]].concat().into(), &metadata(&[])).await;
    }

    pub(super) async fn aborts(&self, places: Offsets) {
        let key = self.key(&format!("aborts/{places:?}"));
        let (body, properties) = (bytes(8, 8), metadata(&[("old", "one")]));
        self.put(&key, &body, &properties).await;
        let upload = self.initiate(&key, &metadata(&[])).await;
        let list = self.put_parts(&upload, places, &[(1, bytes(1, 10))], &[0]).await;
        for _ in 0..2 {
            ok(self.store.abort(&upload).await, "abort, and again");
            assert_eq!(ok(self.store.list_uploads(key.as_str()).await, "list_uploads"), []);
            refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of an aborted upload");
            refused(self.complete(&upload, &list).await, ErrorKind::NotFound, "complete of an aborted upload");
            let offset = (places == Offsets::Known).then_some(0);
            let put = self.put_part(&upload, 2, offset, held(&bytes(2, 10))).await;
            refused(put, ErrorKind::NotFound, "put_part to an aborted upload");
        }
        self.holds(&key, &body, &properties).await;
    }

    pub(super) async fn uploads_side_by_side(&self, places: Offsets) {
        let keys = ["side/b", "side/a", "side/a", "sidestep"].map(|name| self.key(name));
        let mut uploads = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let upload = self.initiate(key, &metadata(&[("which", &i.to_string())])).await;
            uploads.push((upload, bytes(i as u8, 300)));
        }
        for (prefix, expected) in
            [("side/", &[1, 2, 0][..]), ("side", &[1, 2, 0, 3]), ("side/b", &[0]), ("sides", &[3]), ("nothing", &[])]
        {
            let mut listed = ok(self.store.list_uploads(self.key(prefix).as_str()).await, "list_uploads");
            let mut expected: Vec<_> = expected.iter().map(|&i: &usize| uploads[i].0.clone()).collect();
            let order = |a: &Upload, b: &Upload| (&a.key, &a.id).cmp(&(&b.key, &b.id));
            listed.sort_by(order);
            expected.sort_by(order);
            assert_eq!(listed, expected, "list_uploads of {prefix:?}");
        }
        for i in [2, 0, 1, 3] {
            let (upload, body) = &uploads[i];
            let list = self.put_parts(upload, places, &[(1, body.clone())], &[0]).await;
            ok(self.complete(upload, &list).await, "complete");
            self.holds(&upload.key, body, &metadata(&[("which", &i.to_string())])).await;
        }
    }

    /// Some parts know where they go and others do not.
    pub(super) async fn mixed_offsets(&self) {
        let key = self.key("mixed");
        let n = self.part_len;
        let parts: Vec<_> = (1..=4).map(|i| bytes(i, n)).collect();
        let upload = self.initiate(&key, &metadata(&[])).await;
        let mut list = Vec::new();
        for (i, offset) in [(0, None), (1, Some(n)), (2, None), (3, Some(3 * n))] {
            let etag = ok(self.put_part(&upload, i + 1, offset, held(&parts[i as usize])).await, "put_part");
            list.push(CompletedPart { number: number(i + 1), etag });
        }
        // Stored again the other way round.
        for (i, offset) in [(0, Some(0)), (1, None)] {
            let etag = ok(self.put_part(&upload, i + 1, offset, held(&bytes(9 + i as u8, n))).await, "put_part");
            list[i as usize].etag = etag;
        }
        ok(self.complete(&upload, &list).await, "complete");
        let body = [&bytes(9, n)[..], &bytes(10, n)[..], &parts[2][..], &parts[3][..]].concat();
        self.holds(&key, &body.into(), &metadata(&[])).await;
    }

    /// Where the store is one: parts written by whoever has a piece.
    pub(super) async fn direct_parts(&self) {
        let Some(direct) = self.store.direct() else { return };
        let key = self.key("direct");
        let (n, properties) = (self.part_len, metadata(&[("a", "b")]));
        let upload = self.initiate(&key, &properties).await;
        let begin = |part, at, len| direct.begin_part(&upload, number(part), at, len);

        let body = bytes(1, n);
        let sink = ok(begin(1, 0, n).await, "begin_part");
        let pieces: Vec<_> = body.chunks(33).enumerate().map(|(i, piece)| (i as u64 * 33, piece)).collect();
        for (at, piece) in pieces.iter().rev() {
            ok(sink.write(*at, piece), "write");
        }
        assert!(self.listed(&upload).await.is_empty(), "a part is not stored before it is finished");
        refused(sink.write(n, b"x"), ErrorKind::InvalidInput, "write past the end");
        refused(sink.write(u64::MAX, b"x"), ErrorKind::InvalidInput, "write past all ends");
        let one = ok(sink.finish().await, "finish");

        let incomplete = ok(begin(2, n, 9).await, "begin_part");
        ok(incomplete.write(0, b"12345678"), "write");
        assert!(incomplete.finish().await.is_err(), "a part that lacks a byte is not stored");
        drop(ok(begin(2, n, 9).await, "begin_part"));
        assert_eq!(self.listed(&upload).await, [(1, one.clone(), n)]);

        let again = ok(begin(2, n, 9).await, "begin_part again");
        ok(again.write(0, &bytes(2, 9)), "write");
        let two = ok(again.finish().await, "finish");
        let list = [(1, one), (2, two)].map(|(part, etag)| CompletedPart { number: number(part), etag });
        ok(self.complete(&upload, &list).await, "complete");
        self.holds(&key, &[bytes(1, n), bytes(2, 9)].concat().into(), &properties).await;
        let gone = begin(1, 0, n).await;
        refused(gone.map(drop), ErrorKind::NotFound, "begin_part of an upload that is complete");
    }

    pub(super) async fn missing_uploads(&self) {
        let key = self.key("missing");
        let other = self.initiate(&self.key("missing-other"), &metadata(&[])).await;
        let ids = [other.id.clone(), UploadId("no such upload".into()), UploadId("../../..".into())];
        for id in ids {
            let upload = Upload { key: key.clone(), id };
            let part = CompletedPart { number: number(1), etag: ETag("none".into()) };
            refused(self.store.list_parts(&upload).await, ErrorKind::NotFound, "list_parts of no upload");
            refused(self.complete(&upload, &[part]).await, ErrorKind::NotFound, "complete of no upload");
            let put = self.put_part(&upload, 1, Some(0), held(&bytes(1, 10))).await;
            refused(put, ErrorKind::NotFound, "put_part to no upload");
            ok(self.store.abort(&upload).await, "abort of no upload");
        }
        assert_eq!(self.listed(&other).await, [], "another key's upload is untouched");
        ok(self.store.abort(&other).await, "abort");
    }
}

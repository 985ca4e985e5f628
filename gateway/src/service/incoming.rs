//! A client's bytes on their way in: counted and hashed as they pass, and refused at their end if they are not what was announced.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use md5::{Digest as _, Md5};
use sealift::crypto::Crc64;
use sealift::{Error, ErrorKind};
use sha2::Sha256;

use super::checksums::{Checksum, ChecksumAlgorithm, Hasher};
use super::error::{Failure, FailureKind, Result};

/// What a body's checksum must be, as far as the client says it: asked at the body's end, behind which it may come.
type Expected = Box<dyn FnOnce() -> Result<Option<String>> + Send>;

/// The body of a request that writes.
pub struct Body {
    len: Option<u64>,
    bytes: BoxStream<'static, Result<Bytes>>,
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    checksum: Option<(ChecksumAlgorithm, Expected)>,
}

impl Body {
    /// A body of `len` bytes, if that is known, which come as `bytes`.
    pub fn new(len: Option<u64>, bytes: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self { len, bytes: bytes.boxed(), md5: None, sha256: None, checksum: None }
    }

    /// The same, refused unless it has this MD5.
    #[must_use]
    pub fn with_md5(mut self, md5: [u8; 16]) -> Self {
        self.md5 = Some(md5);
        self
    }

    /// The same, refused unless it has this SHA-256.
    #[must_use]
    pub fn with_sha256(mut self, sha256: [u8; 32]) -> Self {
        self.sha256 = Some(sha256);
        self
    }

    /// The same, whose checksum is computed to be kept with it. It is refused unless that is what `expected` says, asked at its end.
    #[must_use]
    pub fn with_checksum(
        mut self,
        algorithm: ChecksumAlgorithm,
        expected: impl FnOnce() -> Result<Option<String>> + Send + 'static,
    ) -> Self {
        self.checksum = Some((algorithm, Box::new(expected)));
        self
    }

    /// The algorithm of its checksum, if that is computed.
    pub(super) fn checksum(&self) -> Option<ChecksumAlgorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// How many bytes it has, if that is known.
    #[must_use]
    pub fn announced_len(&self) -> Option<u64> {
        self.len
    }

    /// Takes all of it, and refuses it if it is not what was announced.
    ///
    /// # Errors
    /// [`FailureKind::BadDigest`], [`FailureKind::Sha256Mismatch`] and [`FailureKind::IncompleteBody`].
    pub async fn check(self) -> Result<()> {
        let (bytes, seen) = self.checked();
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = bytes.next().await {
            piece.map_err(|error| seen.explain(error))?;
        }
        Ok(())
    }

    /// Its bytes, which end with an error if they are not as many as announced, or have another digest than announced. Whoever stores
    /// them must not publish anything before their end.
    pub(super) fn checked(self) -> (impl Stream<Item = sealift::Result<Bytes>> + Send + use<>, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let check = Check {
            announced: self.len,
            bytes: self.bytes,
            expected_md5: self.md5,
            sha256: self.sha256.map(|expected| (Sha256::new(), expected)),
            checksum: self.checksum.map(|(algorithm, expected)| (Hasher::new(algorithm), expected)),
            md5: Md5::new(),
            crc64: Crc64::new(),
            len: 0,
            seen: Arc::clone(&seen),
        };
        let stream = stream::unfold(Some(check), |check| async move {
            let mut check = check?;
            match check.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(check))),
                Ok(None) => None,
                Err(failure) => Some((Err(check.seen.fail(failure)), None)),
            }
        });
        // Whoever gathers parts from it asks again after its end.
        (stream.fuse(), seen)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len).finish_non_exhaustive()
    }
}

/// What went by.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    digests: Option<Digests>,
    failure: Option<Failure>,
}

/// What is known of bytes that went by to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) len: u64,
    pub(super) md5: [u8; 16],
    pub(super) crc64: u64,
    pub(super) checksum: Option<Checksum>,
}

impl Seen {
    /// What all bytes together are, if they went by to their end and were what was announced.
    pub(super) fn digests(&self) -> sealift::Result<Digests> {
        let unfinished = || Error::new(ErrorKind::Internal, "a body was not read to its end");
        self.lock().digests.clone().ok_or_else(unfinished)
    }

    /// Why what was to take the bytes failed: because of them, or else because of `error`.
    pub(super) fn explain(&self, error: Error) -> Failure {
        match self.lock().failure.take() {
            Some(failure) => failure,
            None => error.into(),
        }
    }

    fn fail(&self, failure: Failure) -> Error {
        let error = Error::new(ErrorKind::SourceRead, failure.to_string());
        self.lock().failure.get_or_insert(failure);
        error
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Check {
    announced: Option<u64>,
    bytes: BoxStream<'static, Result<Bytes>>,
    expected_md5: Option<[u8; 16]>,
    sha256: Option<(Sha256, [u8; 32])>,
    checksum: Option<(Hasher, Expected)>,
    md5: Md5,
    crc64: Crc64,
    len: u64,
    seen: Arc<Seen>,
}

impl Check {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(bytes) = self.bytes.next().await else {
            self.finish()?;
            return Ok(None);
        };
        let bytes = bytes?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.announced.is_some_and(|announced| self.len > announced) {
            return Err(wrong_length());
        }
        self.md5.update(&bytes);
        self.crc64.update(&bytes);
        if let Some((sha256, _)) = &mut self.sha256 {
            sha256.update(&bytes);
        }
        if let Some((checksum, _)) = &mut self.checksum {
            checksum.update(&bytes);
        }
        Ok(Some(bytes))
    }

    fn finish(&mut self) -> Result<()> {
        if self.announced.is_some_and(|announced| self.len != announced) {
            return Err(wrong_length());
        }
        let md5: [u8; 16] = std::mem::take(&mut self.md5).finalize().into();
        if self.expected_md5.is_some_and(|expected| expected != md5) {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(Failure::new(FailureKind::BadDigest, message));
        }
        if let Some((sha256, expected)) = self.sha256.take()
            && <[u8; 32]>::from(sha256.finalize()) != expected
        {
            let message = "The SHA-256 you signed does not match what we received.";
            return Err(Failure::new(FailureKind::Sha256Mismatch, message));
        }
        let checksum = match self.checksum.take() {
            None => None,
            Some((hasher, expected)) => {
                let found = hasher.finish();
                if expected()?.is_some_and(|expected| expected != found.value()) {
                    let message = format!("The {} you specified did not match what we received.", found.algorithm());
                    return Err(Failure::new(FailureKind::BadDigest, message));
                }
                Some(found)
            }
        };
        self.seen.lock().digests = Some(Digests { len: self.len, md5, crc64: self.crc64.value(), checksum });
        Ok(())
    }
}

fn wrong_length() -> Failure {
    Failure::new(FailureKind::IncompleteBody, "The request's body has another length than was announced.")
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    fn body(len: Option<u64>, pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        Body::new(len, stream::iter(pieces))
    }

    async fn outcome(body: Body) -> Result<Digests> {
        let (bytes, seen) = body.checked();
        match bytes.try_collect::<Vec<_>>().await {
            Ok(_) => Ok(seen.digests()?),
            Err(error) => Err(seen.explain(error)),
        }
    }

    #[tokio::test]
    async fn the_end_is_the_end_however_often_it_is_asked_for() {
        for (len, items) in [(None, 1), (Some(4), 1), (Some(6), 2)] {
            let mut bytes = body(len, &["hello"]).checked().0.boxed();
            for _ in 0..items {
                assert!(bytes.next().await.is_some());
            }
            assert!(bytes.next().await.is_none() && bytes.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_passes_is_what_was_announced() {
        let md5 = Md5::digest(b"hello").into();
        let sha256 = Sha256::digest(b"hello").into();
        let crc32 = |value: &'static str| move || Ok((!value.is_empty()).then(|| value.to_owned()));
        let good = body(Some(5), &["he", "", "llo"]).with_md5(md5).with_sha256(sha256);
        let good = good.with_checksum(ChecksumAlgorithm::Crc32, crc32("NhCmhg=="));
        let digests = outcome(good).await.unwrap();
        assert_eq!(digests.checksum, Checksum::new(ChecksumAlgorithm::Crc32, "NhCmhg=="));
        let unsaid = body(None, &["hello"]).with_checksum(ChecksumAlgorithm::Crc32, crc32(""));
        assert_eq!(outcome(unsaid).await.unwrap().checksum, digests.checksum);
        assert_eq!((digests.len, digests.md5, digests.crc64), (5, md5, sealift::crypto::crc64(b"hello")));
        assert_eq!(outcome(body(None, &[])).await.unwrap().len, 0);

        let kind = async |body| outcome(body).await.unwrap_err().kind();
        assert_eq!(kind(body(Some(5), &["hellO"]).with_md5(md5)).await, FailureKind::BadDigest);
        assert_eq!(kind(body(Some(5), &["hellO"]).with_sha256(sha256)).await, FailureKind::Sha256Mismatch);
        let wrong = body(Some(5), &["hello"]).with_checksum(ChecksumAlgorithm::Crc32, crc32("AAAAAA=="));
        assert_eq!(kind(wrong).await, FailureKind::BadDigest);
        let none = || Err(Failure::new(FailureKind::InvalidArgument, "it did not come"));
        let lacking = body(None, &["hello"]).with_checksum(ChecksumAlgorithm::Crc32, none);
        assert_eq!(kind(lacking).await, FailureKind::InvalidArgument);
        assert_eq!(kind(body(Some(5), &["hell"])).await, FailureKind::IncompleteBody);
        assert_eq!(kind(body(Some(5), &["hello", "o"])).await, FailureKind::IncompleteBody);
    }
}

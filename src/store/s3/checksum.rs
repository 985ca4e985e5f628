//! The checksums that S3 compares: of payloads, and of objects made of parts.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::types::ChecksumAlgorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use futures::stream::TryStreamExt as _;

use super::S3Checksum;
use super::errors::Request;
use crate::error::{Result, Retry};
use crate::store::Payload;

impl S3Checksum {
    pub(super) fn algorithm(self) -> ChecksumAlgorithm {
        match self {
            Self::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
            Self::Crc32c => ChecksumAlgorithm::Crc32C,
        }
    }

    fn crc(self) -> CrcAlgorithm {
        match self {
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
        }
    }

    /// The checksum of two runs of bytes in a row, of which the second has `len_b` bytes.
    pub(super) fn combine(self, a: u64, b: u64, len_b: u64) -> u64 {
        checksum_combine(self.crc(), a, b, len_b)
    }

    /// As S3 writes it.
    fn encode(self, sum: u64) -> String {
        let bytes = sum.to_be_bytes();
        match self {
            Self::Crc64Nvme => STANDARD.encode(bytes),
            // The upper half of a sum of 32 bits is zero.
            Self::Crc32c => STANDARD.encode(&bytes[4..]),
        }
    }

    /// What [`encode`](Self::encode) wrote.
    fn decode(self, text: &str) -> Option<u64> {
        let bytes = STANDARD.decode(text).ok()?;
        match self {
            Self::Crc64Nvme => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Crc32c => Some(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        }
    }
}

/// What an answer says of the checksums of one thing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored<'a> {
    pub(super) crc64_nvme: Option<&'a str>,
    pub(super) crc32c: Option<&'a str>,
}

impl<'a> Stored<'a> {
    fn of(&self, which: S3Checksum) -> Option<&'a str> {
        match which {
            S3Checksum::Crc64Nvme => self.crc64_nvme,
            S3Checksum::Crc32c => self.crc32c,
        }
    }

    /// The one that is `wanted`, if there is one of all the bytes: one that is made of the parts' checksums ends with their number.
    pub(super) fn value(&self, wanted: Option<S3Checksum>) -> Option<u64> {
        wanted.and_then(|wanted| wanted.decode(self.of(wanted)?))
    }
}

/// The checksum of what is sent, if one is wanted.
#[derive(Clone, Debug)]
pub(super) enum Sum {
    Unwanted,
    /// Known before anything is sent.
    Known(S3Checksum, u64),
    /// Computed while it is sent: here, and by the SDK, which puts it behind the body.
    Sending(S3Checksum, Arc<Mutex<Digest>>),
}

impl Sum {
    /// That of `payload`, which has to be sent as it is returned.
    pub(super) fn of(wanted: Option<S3Checksum>, payload: Payload) -> (Self, Payload) {
        let Some(wanted) = wanted else { return (Self::Unwanted, payload) };
        let mut digest = Digest::new(wanted.crc());
        if let Some(segments) = payload.as_held() {
            segments.iter().for_each(|segment| digest.update(segment));
            return (Self::Known(wanted, digest.finalize()), payload);
        }
        let digest = Arc::new(Mutex::new(digest));
        let (counting, len) = (Arc::clone(&digest), payload.len());
        let segments = payload.inspect_ok(move |segment| {
            counting.lock().unwrap_or_else(PoisonError::into_inner).update(segment);
        });
        (Self::Sending(wanted, digest), Payload::produced(len, segments))
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Known(..))
    }

    /// The header that announces it, if it is the one of `which` and known.
    pub(super) fn header(&self, which: S3Checksum) -> Option<String> {
        match self {
            Self::Known(known, sum) if *known == which => Some(known.encode(*sum)),
            _ => None,
        }
    }

    /// What the SDK has to compute.
    pub(super) fn by_sdk(&self) -> Option<ChecksumAlgorithm> {
        match self {
            Self::Sending(wanted, _) => Some(wanted.algorithm()),
            _ => None,
        }
    }

    /// Refuses an answer of a store that has another checksum of what it took. One that says none compared it, or knows none. Returns that
    /// of all that was sent.
    pub(super) fn compare(&self, request: &Request, stored: Stored<'_>) -> Result<Option<u64>> {
        let (which, sum) = match self {
            Self::Unwanted => return Ok(None),
            Self::Known(which, sum) => (*which, *sum),
            Self::Sending(which, digest) => (*which, digest.lock().unwrap_or_else(PoisonError::into_inner).finalize()),
        };
        let sent = which.encode(sum);
        match stored.of(which) {
            Some(stored) if stored != sent => {
                let why = format!("the checksum of what was sent is {sent}, but the store has something with {stored}");
                Err(request.contradicted(why).with_retry(Retry::Yes))
            }
            _ => Ok(Some(sum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The check values of the [catalogue](https://reveng.sourceforge.io/crc-catalogue/all.htm), of `123456789`.
    const CHECKS: [(S3Checksum, u64, &str); 2] =
        [(S3Checksum::Crc64Nvme, 0xae8b_1486_0a79_9888, "rosUhgp5mIg="), (S3Checksum::Crc32c, 0xe306_9283, "4waSgw==")];

    #[test]
    fn sums_of_parts_make_that_of_the_whole_as_s3_writes_it() {
        for (which, check, text) in CHECKS {
            let sum = |bytes: &'static [u8]| {
                let (sum, _) = Sum::of(Some(which), Payload::held(vec![Bytes::from_static(bytes)]));
                sum.compare(&Request::new("store it"), Stored::default()).unwrap().unwrap()
            };
            let parts = [b"1234" as &[u8], b"", b"5", b"6789"];
            let whole = parts.iter().fold(0, |whole, part| which.combine(whole, sum(part), part.len() as u64));
            assert_eq!((whole, sum(b"123456789")), (check, check), "{which:?}");
            assert_eq!((which.encode(check), which.decode(text)), (text.to_owned(), Some(check)));
            // Those made of the parts' sums, and those of another length, are none of all the bytes.
            for bad in ["", "4waSgw==-2", "rosUhgp5mIg=-2", "AA==", "?"] {
                assert_eq!(which.decode(bad), None, "{bad}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_summed_while_it_is_sent_has_the_same_sum() {
        for (which, check, text) in CHECKS {
            let segments = [b"123" as &[u8], b"456789"].map(|segment| Ok(Bytes::from_static(segment)));
            let (sum, payload) = Sum::of(Some(which), Payload::produced(9, futures::stream::iter(segments)));
            assert_eq!((sum.header(which), sum.by_sdk()), (None, Some(which.algorithm())));
            assert_eq!(payload.try_collect::<Vec<_>>().await.unwrap().concat(), b"123456789");
            let request = Request::new("store it");
            assert_eq!(sum.compare(&request, Stored::default()).unwrap(), Some(check));
            let both = |text| Stored { crc64_nvme: Some(text), crc32c: Some(text) };
            assert_eq!(sum.compare(&request, both(text)).unwrap(), Some(check));
            assert_eq!(sum.compare(&request, both("AAAAAA==")).unwrap_err().retry(), Retry::Yes);
        }
    }
}

//! The end of an object, with its trailer, and its metadata, with the envelope: what opening it begins with.

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::fetch::{Fetch, Origin, unexpected_range, wrong_length};
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::format::{Envelope, Manifest, TAIL_READ, trailer, unsealed_by};
use crate::kms::recipients::Trusted;
use crate::store::{GetObject, MultipartStore, ObjectInfo};
use crate::types::{ByteRange, EncryptionContext, ObjectKey, WrappedKey};

/// An object's end, and what its metadata says.
pub(crate) struct Tail {
    pub(crate) info: ObjectInfo,
    pub(crate) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
}

/// A data key that opens the object, who unwrapped it, and what it opened.
pub(crate) struct Unlocked {
    pub(crate) data_key: DataKey,
    /// Index into the data keys that were to be tried.
    pub(crate) recipient: usize,
    pub(crate) manifest: Manifest,
}

/// The envelope of the object that `info` describes.
pub(crate) fn envelope_of(store: &dyn MultipartStore, key: &ObjectKey, info: &ObjectInfo) -> Result<Envelope> {
    Envelope::from_metadata(&info.properties.metadata).map_err(|e| {
        if e.kind() != ErrorKind::NotSealed {
            return e.while_doing(key);
        }
        if unsealed_by(&info.properties.metadata).is_some() {
            return Error::new(ErrorKind::NotSealed, format!("{key} was stored unsealed, on purpose"));
        }
        let place = store.metadata_place(key).map_or_else(String::new, |place| format!(" (looked for {place})"));
        let why = "has no envelope: it was not sealed by Sealift, or its metadata was lost";
        Error::new(ErrorKind::NotSealed, format!("{key} {why}{place}"))
    })
}

/// Fetches the last bytes of an object with its metadata.
pub(crate) async fn fetch_tail(origin: Origin<'_>) -> Result<Tail> {
    origin.retries.run(origin.shared, || fetch_tail_once(origin.store, origin.key)).await
}

async fn fetch_tail_once(store: &dyn MultipartStore, key: &ObjectKey) -> Result<Tail> {
    let (info, bytes) = fetch_end(store, key).await?;
    let envelope = envelope_of(store, key, &info)?;
    if info.len == 0 {
        return Err(Error::new(ErrorKind::Malformed, format!("{key} has an envelope, and no body")));
    }
    Ok(Tail { info, envelope, bytes })
}

/// What the store knows of an object, and its last bytes.
pub(super) async fn fetch_end(store: &dyn MultipartStore, key: &ObjectKey) -> Result<(ObjectInfo, Vec<u8>)> {
    let got = match store.get(key, Some(ByteRange::Suffix(TAIL_READ)), None).await {
        // An empty body has no last bytes. If it is not empty by now, somebody has replaced it, and it is asked for again.
        Err(e) if e.kind() == ErrorKind::RangeNotSatisfiable => match store.head(key).await? {
            info if info.len == 0 => return Ok((info, Vec::new())),
            _ => return Err(Error::new(ErrorKind::Changed, format!("{key} is being replaced")).with_retry(Retry::Yes)),
        },
        got => got?,
    };
    let end = got.info.len;
    if got.range != (end.saturating_sub(TAIL_READ)..end) {
        return Err(unexpected_range(key));
    }
    let GetObject { info, range, mut body } = got;
    // At most what was asked for: the range was compared.
    let len = usize::try_from(range.end - range.start).map_err(|_| wrong_length())?;
    let mut bytes = Vec::with_capacity(len);
    while let Some(piece) = body.try_next().await? {
        if piece.len() > len - bytes.len() {
            return Err(wrong_length());
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() < len {
        return Err(wrong_length());
    }
    Ok((info, bytes))
}

/// `end`, if it is all of the object's body.
pub(super) fn whole_body(info: &ObjectInfo, end: Vec<u8>) -> Option<Bytes> {
    (end.len() as u64 == info.len).then(|| end.into())
}

impl Tail {
    /// The encryption context that the object's data keys are wrapped with.
    pub(crate) fn kms_context(&self, store: &dyn MultipartStore, key: &ObjectKey) -> EncryptionContext {
        let bound_to = self.envelope.is_bound().then(|| (store.bucket(), key.as_str()));
        Envelope::kms_context(self.envelope.object_id(), self.envelope.context(), bound_to)
    }

    /// Unwraps the object's data key by the first of `data_keys` that is trusted and whose data key opens the trailer.
    pub(crate) async fn unlock(
        &self,
        origin: Origin<'_>,
        trusted: &Trusted,
        data_keys: &[WrappedKey],
    ) -> Result<Unlocked> {
        let Origin { store, key, .. } = origin;
        let backend = origin.shared.backend;
        let trailer = self.trailer(origin).await?;
        let mut manifest = None;
        let unwrapped = trusted
            .unwrap(data_keys, &self.kms_context(store, key), |data_key| {
                let opened = trailer::open(backend, data_key, self.envelope.object_id(), &trailer, self.info.len);
                // A trailer that opens, and is wrong inside, is this object's: no other key will make it right.
                let is_the_key = !matches!(&opened, Err(e) if e.kind() == ErrorKind::Authentication);
                manifest = Some(opened);
                is_the_key
            })
            .await;
        let named = |e: Error| e.while_doing(format_args!("opening {key}"));
        let (data_key, recipient) = unwrapped.map_err(|e| match (e.kind(), self.envelope.is_bound()) {
            (ErrorKind::Authentication, true) => {
                named(e.while_doing("it is bound to the name it was put under, and does not open under another"))
            }
            _ => named(e),
        })?;
        let missing = || Err(Error::new(ErrorKind::Internal, "a data key was taken unchecked"));
        let manifest = manifest.unwrap_or_else(missing).map_err(named)?;
        Ok(Unlocked { data_key, recipient, manifest })
    }

    /// Whether the body that `other` was read from is this one, as far as its length and end tell.
    pub(crate) fn ends_like(&self, other: &Self) -> bool {
        self.info.len == other.info.len && self.bytes == other.bytes
    }

    /// The whole trailer, fetched if it is longer than the tail.
    pub(crate) async fn trailer(&self, origin: Origin<'_>) -> Result<Vec<u8>> {
        let named = |e: Error| e.while_doing(origin.key);
        let len = trailer::len_at_end(&self.bytes, self.info.len).map_err(named)?;
        if let Some(start) = (self.bytes.len() as u64).checked_sub(len) {
            return Ok(self.bytes.get(start as usize..).unwrap_or_default().to_vec());
        }
        let mut trailer = vec![0; usize::try_from(len).map_err(|_| wrong_length())?];
        let mut body =
            Fetch { origin, info: &self.info, whole: None }.range(self.info.len - len..self.info.len).await?;
        body.read(&mut trailer).await?;
        body.end().await?;
        Ok(trailer)
    }
}

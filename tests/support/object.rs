//! Sealed objects in memory, sealed and opened through the public API alone: the shortest writer and reader that keep
//! every rule of FORMAT.md.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::ops::Range;

use sealift::crypto::{Backend, CHUNK, HEADER, Opener, SEALED_STRIPE, STRIPE, Sealer, TAG, open_message, seal_message};
use sealift::format::{Envelope, Layout, Manifest, ManifestPart, context, trailer};
use sealift::{
    DataKey, EncryptionContext, Error, ErrorKind, KmsService, ObjectId, PartNumber, Result, Salt, WrappedKey,
};

/// What a store has.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// The one CMK a reader is configured with: `example` of the service `local`.
pub(crate) struct Cmk(pub(crate) DataKey);

impl Cmk {
    const ID: &str = "example";

    pub(crate) fn random() -> Self {
        Self(DataKey::random().unwrap())
    }

    pub(crate) fn wrap(&self, data_key: &DataKey, context: &EncryptionContext) -> WrappedKey {
        let blob = seal_message(Backend::default(), &self.0, &context::kms_local(context), data_key.expose()).unwrap();
        WrappedKey { kms: KmsService::Local, key: Self::ID.into(), blob }
    }

    /// The data key of the first recipient that is this CMK and can.
    pub(crate) fn unwrap(&self, envelope: &Envelope, bucket: &str, key: &str) -> Result<DataKey> {
        let bound_to = envelope.is_bound().then_some((bucket, key));
        let context = Envelope::kms_context(envelope.object_id(), envelope.context(), bound_to);
        let mut result = Err(Error::new(ErrorKind::KeyUnavailable, "no recipient is the configured CMK"));
        for wrapped in envelope.data_keys().iter().filter(|key| key.kms == KmsService::Local && key.key == Self::ID) {
            result = open_message(Backend::default(), &self.0, &context::kms_local(&context), &wrapped.blob)
                .and_then(|mut data_key| DataKey::take(&mut data_key));
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// A sealed object, open for reading.
pub(crate) struct Reader<'a> {
    data_key: DataKey,
    object_id: ObjectId,
    layout: Layout,
    body: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn open(data_key: DataKey, object_id: ObjectId, body: &'a [u8]) -> Result<Self> {
        let len = body.len() as u64;
        let trailer = body.len() - trailer::len_at_end(body, len)? as usize;
        let manifest = trailer::open(Backend::default(), &data_key, &object_id, &body[trailer..], len)?;
        Ok(Self { layout: Layout::new(&manifest), data_key, object_id, body })
    }

    pub(crate) fn plain_len(&self) -> u64 {
        self.layout.plain_len()
    }

    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for piece in self.layout.pieces(range) {
            let part = &self.layout.parts()[piece.part];
            let header: &[u8; HEADER] = self.slice(&part.sealed).first_chunk().expect("a part has a header");
            if header[..Salt::LEN] != *part.salt.as_bytes() {
                return Err(Error::new(ErrorKind::Authentication, "another sealing of the part").with_part(part.number));
            }
            let context = context::part(&self.object_id, part.number);
            let opener = Opener::begin(Backend::default(), &self.data_key, &context, header)?;

            let sealed = self.slice(&piece.sealed);
            let chunks = (piece.chunks.end - piece.chunks.start) as usize;
            let mut plaintext = vec![0; sealed.len() - chunks * TAG];
            opener.open(piece.chunks.start, sealed, piece.last, &mut plaintext)?;
            out.extend_from_slice(&plaintext[piece.skip..][..piece.take as usize]);
        }
        Ok(out)
    }

    pub(crate) fn read_all(&self) -> Result<Vec<u8>> {
        self.read(0..self.plain_len())
    }

    /// The trailer was opened, so all that the layout names is there.
    fn slice(&self, range: &Range<u64>) -> &'a [u8] {
        &self.body[range.start as usize..range.end as usize]
    }
}

/// An upload: what is random is drawn as for a real one.
pub(crate) struct Upload {
    pub(crate) object_id: ObjectId,
    pub(crate) data_key: DataKey,
    pub(crate) parts: Vec<ManifestPart>,
    pub(crate) sealed: Vec<Vec<u8>>,
    pub(crate) context: EncryptionContext,
    pub(crate) bound_to: Option<(&'static str, &'static str)>,
}

impl Upload {
    /// Parts 1, 2, … of these lengths, cut from `plaintext`, which they use up.
    pub(crate) fn new(plaintext: &[u8], lens: &[usize]) -> Self {
        let mut upload = Self {
            object_id: ObjectId::random().unwrap(),
            data_key: DataKey::random().unwrap(),
            parts: Vec::new(),
            sealed: Vec::new(),
            context: EncryptionContext::default(),
            bound_to: None,
        };
        let mut rest = plaintext;
        for (n, &len) in (1..).zip(lens) {
            let (part, behind) = rest.split_at(len);
            rest = behind;
            let number = PartNumber::try_from(n).unwrap();
            let (salt, sealed) = upload.seal_part(number, part);
            upload.parts.push(ManifestPart { number, len: len as u64, crc64: 0, salt });
            upload.sealed.push(sealed);
        }
        assert!(rest.is_empty(), "the parts hold all of the plaintext");
        upload
    }

    pub(crate) fn seal_part(&self, number: PartNumber, plaintext: &[u8]) -> (Salt, Vec<u8>) {
        let context = context::part(&self.object_id, number);
        let mut sealer = Sealer::begin(Backend::default(), &self.data_key, &context).unwrap();
        let mut sealed = sealer.header().to_vec();
        let (stripes, last) = plaintext.as_chunks::<STRIPE>();
        for stripe in stripes {
            let at = sealed.len();
            sealed.resize(at + SEALED_STRIPE, 0);
            sealer.next_stripe().unwrap().seal(stripe, &mut sealed[at..]).unwrap();
        }
        let at = sealed.len();
        sealed.resize(at + last.len() + TAG * (last.len() / CHUNK + 1), 0);
        sealer.next_stripe().unwrap().seal_last(last, &mut sealed[at..]).unwrap();
        (sealer.salt(), sealed)
    }

    pub(crate) fn trailer(&self) -> Vec<u8> {
        let manifest = Manifest::new(self.parts.clone(), false, BTreeMap::new()).unwrap();
        trailer::seal(Backend::default(), &self.data_key, &self.object_id, &manifest).unwrap()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        [self.sealed.concat(), self.trailer()].concat()
    }

    pub(crate) fn stored(&self, cmk: &Cmk) -> Stored {
        let kms_context = Envelope::kms_context(&self.object_id, &self.context, self.bound_to);
        let wrapped = cmk.wrap(&self.data_key, &kms_context);
        let envelope =
            Envelope::new(self.object_id, vec![wrapped], self.context.clone(), self.bound_to.is_some()).unwrap();
        Stored { metadata: envelope.to_metadata(), body: self.body() }
    }
}

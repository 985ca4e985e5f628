//! Import tokens. A token carries its own state, sealed, so that the store keeps none, and any process that uses the
//! store can take any token:
//!
//! ```text
//! header = "sealift/v1/import-token" ‖ 0x00 ‖ store id[16] ‖ key id[16] ‖ algorithm u8 ‖ valid until u64, seconds since 1970
//! token  = header ‖ Cobblestone-256 message under the root key, whose plaintext is the RSA private key (PKCS #8, DER)
//!          and whose context is the header
//! ```
//!
//! The algorithm is 1 for RSAES_OAEP_SHA_256, 2 for RSAES_OAEP_SHA_1, 3 for RSAES_PKCS1_V1_5. It is in the token, so that
//! nobody can ask for another than the private key was made for.

use zeroize::Zeroizing;

use super::id::Id;
use super::import::WrappingAlgorithm;
use super::root_key::RootKey;
use crate::crypto::{Backend, open_message, seal_message};
use crate::error::{Error, ErrorKind, Result};

pub(super) struct ImportToken {
    pub(super) key_id: Id,
    pub(super) algorithm: WrappingAlgorithm,
    /// Seconds since 1970.
    pub(super) valid_until: u64,
    /// PKCS #8 in DER.
    pub(super) private_key: Zeroizing<Vec<u8>>,
}

impl ImportToken {
    /// The token as the caller keeps it.
    pub(super) fn seal(&self, store_id: Id, root_key: &RootKey) -> Result<Vec<u8>> {
        let header = [
            LABEL,
            store_id.as_bytes().as_slice(),
            self.key_id.as_bytes(),
            &[number(self.algorithm)],
            &self.valid_until.to_be_bytes(),
        ]
        .concat();
        let message = seal_message(Backend::default(), root_key.key(), &header, &self.private_key)?;
        Ok([header, message].concat())
    }

    /// What [`seal`](Self::seal) made for this store.
    pub(super) fn open(token: &[u8], store_id: Id, root_key: &RootKey) -> Result<Self> {
        let invalid = |message| Error::new(ErrorKind::InvalidInput, message);
        let none = || invalid("this is no import token, or it is damaged");
        let (header, message) = token.split_at_checked(HEADER).ok_or_else(none)?;
        let rest = header.strip_prefix(LABEL).ok_or_else(none)?;
        let (of_store, rest) = rest.split_first_chunk::<16>().ok_or_else(none)?;
        if of_store != store_id.as_bytes() {
            return Err(invalid("the import token is another key store's: get one from this store"));
        }
        let private_key = open_message(Backend::default(), root_key.key(), header, message)
            .map(Zeroizing::new)
            .map_err(|_| none())?;

        // Only now is the header known to be ours.
        let (key_id, rest) = rest.split_first_chunk::<16>().ok_or_else(none)?;
        let (&[algorithm], valid_until) = rest.split_first_chunk::<1>().ok_or_else(none)?;
        Ok(Self {
            key_id: Id::from_bytes(*key_id),
            algorithm: WrappingAlgorithm::ALL.into_iter().find(|one| number(*one) == algorithm).ok_or_else(none)?,
            valid_until: u64::from_be_bytes(valid_until.try_into().map_err(|_| none())?),
            private_key,
        })
    }

    /// Refuses the token for another key than `key_id`, and once it has expired.
    pub(super) fn check(&self, key_id: Id, now: u64) -> Result<()> {
        let message = if self.key_id != key_id {
            format!("the import token is for the key {}, not {key_id}: get one for this key", self.key_id)
        } else if self.valid_until <= now {
            "the import token has expired, as tokens do after 24 hours: get another, and encrypt the key material to \
             the public key that comes with it"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

fn number(algorithm: WrappingAlgorithm) -> u8 {
    match algorithm {
        WrappingAlgorithm::RsaesOaepSha256 => 1,
        WrappingAlgorithm::RsaesOaepSha1 => 2,
        WrappingAlgorithm::RsaesPkcs1V15 => 3,
    }
}

const LABEL: &[u8] = b"sealift/v1/import-token\0";
const HEADER: usize = LABEL.len() + 16 + 16 + 1 + 8;

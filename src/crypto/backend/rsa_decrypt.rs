//! RSA key pairs that others encrypt to, for importing key material. Only aws-lc-rs has it: RustCrypto's leaks by its
//! timing (RUSTSEC-2023-0071), and ring's only signs.

use zeroize::Zeroizing;

use crate::crypto::DataKey;
use crate::error::Result;

/// How what is encrypted was padded: RFC 8017, sections 7.1 and 7.2. The mask generation function is MGF1 with the hash
/// that is named, and the label is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Padding {
    OaepSha256,
    OaepSha1,
    Pkcs1V15,
}

/// Bits of the modulus.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeySize {
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

pub(crate) struct KeyPair {
    /// PKCS #8, version 1, in DER.
    pub(crate) private_key: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo in DER.
    pub(crate) public_key: Vec<u8>,
}

#[cfg(feature = "aws-lc-rs")]
pub(crate) fn generate(size: KeySize) -> Result<KeyPair> {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize as Size, PrivateDecryptingKey};

    use crate::error::{Error, ErrorKind};

    let failed = |_| Error::new(ErrorKind::Internal, "aws-lc-rs could not make an RSA key");
    let key = PrivateDecryptingKey::generate(match size {
        KeySize::Rsa2048 => Size::Rsa2048,
        KeySize::Rsa3072 => Size::Rsa3072,
        KeySize::Rsa4096 => Size::Rsa4096,
    })
    .map_err(failed)?;
    let private_key: Pkcs8V1Der<'static> = key.as_der().map_err(failed)?;
    let public_key: PublicKeyX509Der<'static> = key.public_key().as_der().map_err(failed)?;
    // aws-lc-rs wipes its own copies.
    let private_key = Zeroizing::new(private_key.as_ref().to_vec());
    Ok(KeyPair { private_key, public_key: public_key.as_ref().to_vec() })
}

/// The 32 bytes that were encrypted as `ciphertext`. `None` if anything at all is wrong with it: whoever tells the
/// reasons apart can decrypt without the key.
#[cfg(feature = "aws-lc-rs")]
pub(crate) fn decrypt(private_key: &[u8], padding: Padding, ciphertext: &[u8]) -> Result<Option<DataKey>> {
    use aws_lc_rs::rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey,
        PrivateDecryptingKey,
    };

    let decrypt = || {
        let key = PrivateDecryptingKey::from_pkcs8(private_key).ok()?;
        let mut room = Zeroizing::new(vec![0; key.key_size_bytes()]);
        let oaep = |key, algorithm, room| {
            OaepPrivateDecryptingKey::new(key)?.decrypt(algorithm, ciphertext, room, None).map(|plain| plain.len())
        };
        let len = match padding {
            Padding::OaepSha256 => oaep(key, &OAEP_SHA256_MGF1SHA256, &mut room),
            Padding::OaepSha1 => oaep(key, &OAEP_SHA1_MGF1SHA1, &mut room),
            Padding::Pkcs1V15 => Pkcs1PrivateDecryptingKey::new(key)
                .and_then(|key| key.decrypt(ciphertext, &mut room).map(|plain| plain.len())),
        };
        DataKey::take(room.get_mut(..len.ok()?)?).ok()
    };
    Ok(decrypt())
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) fn generate(_: KeySize) -> Result<KeyPair> {
    Err(unsupported())
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) fn decrypt(_: &[u8], _: Padding, _: &[u8]) -> Result<Option<DataKey>> {
    Err(unsupported())
}

#[cfg(not(feature = "aws-lc-rs"))]
fn unsupported() -> crate::error::Error {
    let message = "importing key material needs RSA, which this build does not have: enable the feature aws-lc-rs";
    crate::error::Error::new(crate::error::ErrorKind::UnsupportedFormat, message)
}

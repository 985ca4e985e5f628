//! RSAES-OAEP ([RFC 8017, section 7.1](https://www.rfc-editor.org/rfc/rfc8017#section-7.1)) by aws-lc-rs, with SHA-256
//! as the hash and in MGF1.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use zeroize::Zeroizing;

/// A public key of 2,048 to 8,192 bits.
pub(crate) struct OaepPublicKey {
    key: OaepPublicEncryptingKey,
    spki: Vec<u8>,
}

impl OaepPublicKey {
    /// Reads a `SubjectPublicKeyInfo`, or says no.
    pub(crate) fn from_spki(der: &[u8]) -> Option<Self> {
        Self::new(PublicEncryptingKey::from_der(der).ok()?)
    }

    fn new(key: PublicEncryptingKey) -> Option<Self> {
        // Written anew: one key has one spelling, whatever its file allowed itself.
        let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
        let spki = der.as_ref().to_vec();
        Some(Self { key: OaepPublicEncryptingKey::new(key).ok()?, spki })
    }

    /// The key as a DER-encoded `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn bits(&self) -> usize {
        self.key.key_size_bits()
    }

    /// Encrypts `plaintext` to as many bytes as the modulus has.
    pub(crate) fn encrypt(&self, label: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut ciphertext = vec![0; self.key.ciphertext_size()];
        let len = self.key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut ciphertext, Some(label)).ok()?.len();
        ciphertext.truncate(len);
        Some(ciphertext)
    }
}

/// A private key of 2,048 to 8,192 bits. aws-lc wipes it when it is freed.
pub(crate) struct OaepPrivateKey(OaepPrivateDecryptingKey);

impl OaepPrivateKey {
    /// Reads an unencrypted PKCS #8 document, or says no; with it the public half.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Option<(Self, OaepPublicKey)> {
        let key = PrivateDecryptingKey::from_pkcs8(der).ok()?;
        let public = OaepPublicKey::new(key.public_key())?;
        Some((Self(OaepPrivateDecryptingKey::new(key).ok()?), public))
    }

    /// Decrypts what [`OaepPublicKey::encrypt`] made, in constant time. Why it fails is nobody's business.
    pub(crate) fn decrypt(&self, label: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plaintext = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let decrypted: Result<_, Unspecified> =
            self.0.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut plaintext, Some(label));
        let len = decrypted.ok()?.len();
        plaintext.truncate(len);
        Some(plaintext)
    }
}

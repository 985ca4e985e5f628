//! HKDF-Expand by RustCrypto, for the backends that have none of their own.

use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::Failed;

pub(super) fn expand(prk: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Failed> {
    // The crate refuses keys shorter than the hash, which RFC 5869 asks for but C2SP's 32-byte keys are. HMAC pads keys
    // with zeros up to its block of 128 bytes (RFC 2104), so padding to 64 changes nothing.
    let mut padded = Zeroizing::new([0; 64]);
    padded.get_mut(..prk.len()).ok_or(Failed)?.copy_from_slice(prk);
    let hkdf = Hkdf::<Sha512>::from_prk(padded.as_slice()).map_err(|_| Failed)?;
    hkdf.expand_multi_info(info, okm).map_err(|_| Failed)
}

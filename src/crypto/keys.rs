//! Secrets: no `Clone`, no `Debug` of their content, wiped on drop, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::error::{Error, ErrorKind, Result};

/// The 32-byte key that all parts of one object share. Fresh for every upload; stored only wrapped.
///
/// It lies on the heap so that moving it leaves no copy behind, and is wiped when dropped.
pub struct DataKey(Box<[u8; 32]>);

impl DataKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A fresh key from the operating system's random generator.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the operating system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut key = Self(Box::new([0; 32]));
        getrandom::fill(key.0.as_mut_slice()).map_err(Error::no_randomness)?;
        Ok(key)
    }

    /// Takes the key out of `bytes` and wipes them.
    ///
    /// # Errors
    /// [`ErrorKind::Authentication`] unless there are exactly 32; `bytes` are wiped all the same.
    pub fn take(bytes: &mut [u8]) -> Result<Self> {
        let mut key = Self(Box::new([0; 32]));
        let fits = bytes.len() == Self::LEN;
        if fits {
            key.0.copy_from_slice(bytes);
        }
        bytes.zeroize();
        fits.then_some(key).ok_or_else(|| Error::new(ErrorKind::Authentication, "a data key is exactly 32 bytes"))
    }

    /// A second copy of the key, wiped as the first is.
    ///
    /// For the cache of unwrapped keys alone, which hands out one and keeps one. It has no `Clone`, so that elsewhere a copy is never made
    /// by the way.
    pub(crate) fn duplicate(&self) -> Self {
        // Not `Box::new(*self.0)`, which may come by the stack.
        let mut copy = Self(Box::new([0; 32]));
        copy.0.copy_from_slice(self.0.as_slice());
        copy
    }

    /// The key's bytes, for whoever wraps it or hands it over on purpose. Handle them as what they are.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for DataKey {}

impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_ref()).into()
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_a_key_wipes_where_it_came_from_whether_it_fits_or_not() {
        let mut bytes = [7; 32];
        assert_eq!(DataKey::take(&mut bytes).unwrap().expose(), &[7; 32]);
        assert_eq!(bytes, [0; 32]);
        for len in [0, 31, 33] {
            let mut bytes = vec![7; len];
            assert_eq!(DataKey::take(&mut bytes).unwrap_err().kind(), ErrorKind::Authentication);
            assert_eq!(bytes, vec![0; len]);
        }
    }

    #[test]
    fn shows_no_key_and_draws_another_each_time() {
        let key = DataKey::take(&mut [0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "DataKey(..)");
        assert_ne!(DataKey::random().unwrap(), DataKey::random().unwrap());
    }
}

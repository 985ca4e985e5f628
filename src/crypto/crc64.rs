//! CRC-64/XZ, which OSS calls crc64ecma.

use crc_fast::{CrcAlgorithm::Crc64Xz, Digest};

use super::STRIPE;

/// A CRC-64/XZ in the making: polynomial 0x42F0E1EBA9EA3693, reflected, begun with and XORed by all ones.
///
/// It finds accidents. It does not authenticate, and whoever chooses the bytes can make any two collide.
///
/// Source: [the catalogue of parametrised CRC algorithms](https://reveng.sourceforge.io/crc-catalogue/all.htm#crc.cat.crc-64-xz),
/// and the check value in OSS's documentation of `x-oss-hash-crc64ecma`.
///
/// ```
/// use sealift::crypto::Crc64;
///
/// let mut crc = Crc64::new();
/// crc.update(b"1234");
/// crc.update(b"56789");
/// assert_eq!(crc.value(), 0x995d_c9bb_df19_39fa);
/// ```
#[derive(Clone, Debug)]
pub struct Crc64(Digest);

impl Crc64 {
    /// The checksum of no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self(Digest::new(Crc64Xz))
    }

    /// Takes `bytes` in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// The checksum of two runs of bytes in a row, of which the first has the checksum `a`, the second `b` and
    /// `len_b` bytes.
    #[must_use]
    pub fn combine(a: u64, b: u64, len_b: u64) -> u64 {
        // crc-fast's combine takes as long as a third of a MiB's sealing; this, as zlib does it, a microsecond or two; and of a stripe,
        // of which there are many, a twentieth of that.
        let zeros = if len_b == STRIPE as u64 { const { zeros(STRIPE as u64) } } else { zeros(len_b) };
        multiply(zeros, a) ^ b
    }
}

/// The polynomial without its highest term, reflected: the highest bit stands for x^0.
const POLYNOMIAL: u64 = 0x42f0_e1eb_a9ea_3693_u64.reverse_bits();

/// The product of two polynomials over GF(2), modulo the CRC's.
const fn multiply(a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    let mut bit = 64;
    while bit > 0 {
        bit -= 1;
        product ^= b * (a >> bit & 1);
        b = (b >> 1) ^ (POLYNOMIAL * (b & 1)); // times x
    }
    product
}

/// What a CRC is multiplied with when `len` zero bytes follow: x^(8 len), by squaring.
const fn zeros(mut len: u64) -> u64 {
    let mut product = 1 << 63; // x^0
    let mut square = 1 << (63 - 8); // x^8
    while len > 0 {
        if len & 1 == 1 {
            product = multiply(square, product);
        }
        square = multiply(square, square);
        len >>= 1;
    }
    product
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of `bytes`.
#[must_use]
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Xz, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One bit at a time, as the definition has it.
    fn reference(bytes: &[u8]) -> u64 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u64::from(*byte), |crc: u64, _| {
                (crc >> 1) ^ (0x42f0_e1eb_a9ea_3693_u64.reverse_bits() * (crc & 1))
            })
        })
    }

    #[test]
    fn has_the_catalogues_check_value() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(b""), 0);
        assert_eq!(Crc64::new().value(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition_however_it_is_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut crc = Crc64::new();
            crc.update(a);
            crc.update(b);
            prop_assert_eq!(crc.value(), reference(&bytes));
            prop_assert_eq!(crc64(&bytes), reference(&bytes));
            prop_assert_eq!(Crc64::combine(crc64(a), crc64(b), b.len() as u64), reference(&bytes));
        }

        #[test]
        fn combines_lengths_of_any_size_as_another_implementation_does(a: u64, b: u64, len: u64) {
            let len = if b % 4 == 0 { STRIPE as u64 } else { len >> (a % 64) };
            prop_assert_eq!(Crc64::combine(a, b, len), crc_fast::checksum_combine(Crc64Xz, a, b, len));
        }
    }
}

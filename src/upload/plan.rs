//! How an object is cut into parts.

use serde::{Deserialize, Serialize};

use crate::crypto::{HEADER, TAG, plain_len, sealed_len};
use crate::error::{Error, ErrorKind, Result};
use crate::format::MAX_PART_PLAIN;
use crate::store::Limits;
use crate::types::PartNumber;

const MIB: u64 = 1 << 20;
/// Parts of one size before the next is twice as large, where the length of the object is not known.
const DOUBLE_AFTER: u32 = 16;
/// After so many doublings even parts of one byte are larger than any store takes.
const MOST_DOUBLINGS: u32 = 33;

/// How an object is cut into parts: how many plaintext bytes each has, by its number.
///
/// If the object's length is known, all parts but the last are equal. If it is not, the first 16 parts have the part
/// size, the next 16 twice as much, and so on up to the largest allowed: a part is never more than about a sixteenth of
/// what went before it. From 16 MiB, and up to the 5 GiB that S3 and OSS take, 48.19 TiB fit into 9,999 parts. Where
/// parts must be equal they do not grow.
///
/// One part number is left free for the trailer. An object that is not sealed has none; its parts are cut alike, and stored as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct PartPlan {
    /// Bytes of the first part.
    first: u64,
    /// Bytes of the largest.
    largest: u64,
    /// The most parts.
    most: u32,
    /// Length of the object, if it is known.
    total: Option<u64>,
    /// Whether all upload parts but the last must be equal.
    equal: bool,
    /// Whether parts are stored as they are, and no trailer follows them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsealed: bool,
}

impl PartPlan {
    /// Plaintext bytes of a part, or of the first parts, unless something else is asked for or needed: 16 MiB.
    pub const DEFAULT_PART: u64 = 16 * MIB;

    /// A plan for an object of `len` bytes: parts of `part_size`, by default 16 MiB, made larger, to a whole MiB, if
    /// the object had too many of them otherwise. `uniform` asks for equal parts where the store does not.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if the object, or a part of that size, is too long for the store;
    /// [`ErrorKind::InvalidInput`] if a part of that size is too short for it.
    pub fn known(len: u64, part_size: Option<u64>, uniform: bool, limits: &Limits) -> Result<Self> {
        let most = most_parts(limits)?;
        let max = max_plain(limits)?;
        let asked = first_part(part_size, max, limits)?;
        let needed = len.div_ceil(u64::from(most));
        if needed > max {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{len} bytes are too many for this store: {} fit into its {most} parts", u64::from(most) * max),
            ));
        }
        let size = if needed > asked { needed.next_multiple_of(MIB).min(max) } else { asked };
        let equal = uniform || limits.equal_parts;
        Ok(Self { first: size, largest: size, most, total: Some(len), equal, unsealed: false })
    }

    /// A plan for an object of unknown length: parts of `part_size`, by default 16 MiB, that grow up to `largest`
    /// bytes, or to what the store allows.
    ///
    /// # Errors
    /// As for [`known`](Self::known); [`ErrorKind::LimitExceeded`] also if `part_size` is more than `largest`.
    pub fn unknown(part_size: Option<u64>, uniform: bool, limits: &Limits, largest: u64) -> Result<Self> {
        let most = most_parts(limits)?;
        let largest = largest.min(max_plain(limits)?);
        let first = first_part(part_size, largest, limits)?;
        let equal = uniform || limits.equal_parts;
        Ok(Self { first, largest: if equal { first } else { largest }, most, total: None, equal, unsealed: false })
    }

    /// The same plan for an object that is stored as it is, not sealed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if its parts are then too short for the store.
    pub fn unsealed(self, limits: &Limits) -> Result<Self> {
        if self.first < limits.min_part && self.parts().is_none_or(|parts| parts > 1) {
            return Err(too_small(self.first, limits.min_part));
        }
        Ok(Self { unsealed: true, ..self })
    }

    /// Whether parts are stored as they are.
    #[must_use]
    pub fn is_unsealed(&self) -> bool {
        self.unsealed
    }

    /// How many bytes the store gets of a part of `len` bytes.
    #[must_use]
    pub fn stored_len(&self, len: u64) -> u64 {
        if self.unsealed { len } else { sealed(len) }
    }

    /// The most plaintext bytes that part `part` can have; exactly how many it has, if the object's length is known.
    /// Zero for a part that the plan does not have.
    #[must_use]
    pub fn max_len(&self, part: PartNumber) -> u64 {
        let index = part.get() - 1;
        if index >= self.most {
            return 0;
        }
        let size = self.size(index / DOUBLE_AFTER);
        match self.total {
            Some(total) => total.saturating_sub(self.offset(part)).min(size),
            None => size,
        }
    }

    /// Where part `part` begins in the plaintext.
    #[must_use]
    pub fn offset(&self, part: PartNumber) -> u64 {
        self.sum_before(part.get() - 1, |len| len)
    }

    /// Where part `part` begins in the body.
    #[must_use]
    pub fn sealed_offset(&self, part: PartNumber) -> u64 {
        self.sum_before(part.get() - 1, |len| self.stored_len(len))
    }

    /// How many parts there are, if the object's length is known. An empty object has none.
    #[must_use]
    pub fn parts(&self) -> Option<u32> {
        // Every plan has room for its total, so this is at most `most`.
        self.total.map(|total| u32::try_from(total.div_ceil(self.first)).unwrap_or(u32::MAX))
    }

    /// The object's length, if it is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The most plaintext bytes that an object cut like this can have.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.sum_before(self.most, |len| len)
    }

    /// Whether a source that did not end with this part is too long.
    pub(super) fn is_full_after(&self, part: PartNumber) -> bool {
        part.get() >= self.most
    }

    /// The stored length that all upload parts but the last must have, if they must be equal.
    pub(super) fn common_sealed_len(&self) -> Option<u64> {
        self.equal.then(|| self.stored_len(self.first))
    }

    /// Whether a last part of `len` bytes is too short to be followed by another upload part, as the trailer is.
    pub(super) fn is_held_back(&self, len: u64, limits: &Limits) -> bool {
        if self.unsealed {
            return false;
        }
        match self.common_sealed_len() {
            Some(common) => sealed(len) != common,
            None => sealed(len) < limits.min_part,
        }
    }

    /// The most plaintext bytes that a last part can have which is held back.
    pub(crate) fn longest_held_back(&self, limits: &Limits) -> u64 {
        match self.parts().map(PartNumber::try_from) {
            _ if self.unsealed => 0,
            Some(Ok(last)) if self.is_held_back(self.max_len(last), limits) => self.max_len(last),
            Some(_) => 0,
            None if self.equal => self.first - 1,
            // What seals to fewer bytes than the minimum has still fewer.
            None => self.largest.min(limits.min_part.saturating_sub(1)),
        }
    }

    /// The longest part.
    pub(crate) fn longest(&self) -> u64 {
        self.total.map_or(self.largest, |total| self.largest.min(total))
    }

    /// Checks a plan that was made earlier against what the store allows now.
    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        let middle = match self.parts() {
            Some(0) => false,
            // One part may be short, unless the tail is cut at the common length.
            Some(1) => self.equal,
            _ => true,
        };
        let too_short = middle && self.stored_len(self.first) < limits.min_part;
        if self.most > most_parts(limits)?
            || self.longest() > max_plain(limits)?
            || too_short
            || limits.equal_parts && !self.equal
        {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "the store does not allow parts as this upload was planned with: abort it and upload anew",
            ));
        }
        Ok(())
    }

    fn size(&self, doublings: u32) -> u64 {
        self.first.saturating_mul(1 << doublings.min(MOST_DOUBLINGS)).min(self.largest)
    }

    fn sum_before(&self, mut parts: u32, measure: impl Fn(u64) -> u64) -> u64 {
        let mut sum = 0;
        for doublings in 0..=MOST_DOUBLINGS {
            let n = if doublings == MOST_DOUBLINGS { parts } else { parts.min(DOUBLE_AFTER) };
            // At most 10,000 parts of 5 GiB.
            sum += u64::from(n) * measure(self.size(doublings));
            parts -= n;
        }
        sum
    }
}

/// A plan as it was stored, before it is known to be one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    first: u64,
    largest: u64,
    most: u32,
    total: Option<u64>,
    equal: bool,
    #[serde(default)]
    unsealed: bool,
}

impl TryFrom<Unchecked> for PartPlan {
    type Error = Error;

    fn try_from(plan: Unchecked) -> Result<Self> {
        let Unchecked { first, largest, most, total, equal, unsealed } = plan;
        let plan = Self { first, largest, most, total, equal, unsealed };
        let in_order = (1..=largest).contains(&first) && largest <= MAX_PART_PLAIN;
        let grows = first != largest;
        if !in_order
            || !(1..PartNumber::MAX.get()).contains(&most)
            || grows && (equal || total.is_some())
            || total.is_some_and(|total| total > plan.capacity())
        {
            return Err(Error::new(ErrorKind::Malformed, "this is not a plan of an object's parts"));
        }
        Ok(plan)
    }
}

/// The most sealed parts: one number is left for the trailer.
fn most_parts(limits: &Limits) -> Result<u32> {
    match limits.max_parts.get() - 1 {
        0 => {
            Err(Error::new(ErrorKind::LimitExceeded, "a store that takes one part an object has no room for a trailer"))
        }
        most => Ok(most),
    }
}

/// The most plaintext bytes that fit into a part of the store, sealed.
fn max_plain(limits: &Limits) -> Result<u64> {
    let sealed = limits.max_part;
    // Where no message is that long, the next shorter ones end with a chunk that is one byte short of full.
    let plain = (0..=TAG as u64).find_map(|less| plain_len(sealed.checked_sub(less)?));
    match plain {
        Some(plain @ 1..) => Ok(plain.min(MAX_PART_PLAIN)),
        _ => Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("a part of at most {sealed} bytes has no room for a sealed one: {} are needed", HEADER + TAG + 1),
        )),
    }
}

fn first_part(asked: Option<u64>, max: u64, limits: &Limits) -> Result<u64> {
    let min = limits.min_part;
    let Some(asked) = asked else {
        let default = PartPlan::DEFAULT_PART.max(min.saturating_add(MIB - 1) / MIB * MIB).min(max);
        return if sealed(default) < min { Err(too_little_room(min, max)) } else { Ok(default) };
    };
    if asked > max {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("parts of {asked} bytes are too large: at most {max} fit into memory and into a part of the store"),
        ));
    }
    if asked == 0 || sealed(asked) < min {
        return Err(too_small(asked, min));
    }
    Ok(asked)
}

fn too_small(asked: u64, min: u64) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("parts of {asked} bytes are too small for this store, which takes at least {}", min.max(1)),
    )
}

fn too_little_room(min: u64, max: u64) -> Error {
    Error::new(
        ErrorKind::LimitExceeded,
        format!("this store takes parts of at least {min} bytes, and at most {max} fit into memory and the store"),
    )
}

/// The sealed length of a part, which has at most [`MAX_PART_PLAIN`] bytes.
pub(super) fn sealed(len: u64) -> u64 {
    sealed_len(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIB: u64 = 1 << 40;

    fn s3() -> Limits {
        Limits {
            min_part: 5 * MIB,
            max_part: 5 << 30,
            max_parts: PartNumber::MAX,
            max_metadata: 2048,
            equal_parts: false,
        }
    }

    fn part(n: u32) -> PartNumber {
        n.try_into().unwrap()
    }

    fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn known_lengths_have_16_mib_parts_until_those_are_too_many() {
        let plan = |len| PartPlan::known(len, None, false, &s3()).unwrap();
        let most = 9_999 * PartPlan::DEFAULT_PART;
        assert_eq!((plan(0).parts(), plan(0).max_len(part(1))), (Some(0), 0));
        assert_eq!((plan(1).parts(), plan(1).max_len(part(1))), (Some(1), 1));
        assert_eq!((plan(most).parts(), plan(most).max_len(part(9_999))), (Some(9_999), PartPlan::DEFAULT_PART));
        let longer = plan(most + 1);
        assert_eq!((longer.parts(), longer.max_len(part(1))), (Some(9_411), 17 * MIB));
        assert_eq!(longer.max_len(part(9_411)), most + 1 - 9_410 * 17 * MIB);
        assert_eq!(longer.max_len(part(9_412)), 0);

        let longest = 9_999 * MAX_PART_PLAIN;
        assert_eq!((plan(longest).parts(), plan(longest).max_len(part(9_999))), (Some(9_999), MAX_PART_PLAIN));
        assert_eq!(sealed(plan(longest).max_len(part(1))), 5 << 30);
        assert_eq!(kind(PartPlan::known(longest + 1, None, false, &s3())), ErrorKind::LimitExceeded);
        assert_eq!(kind(PartPlan::known(u64::MAX, None, false, &s3())), ErrorKind::LimitExceeded);
    }

    #[test]
    fn unknown_lengths_have_parts_that_double_every_16() {
        let plan = PartPlan::unknown(None, false, &s3(), u64::MAX).unwrap();
        for (n, mib) in [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (129, 4_096), (144, 4_096)] {
            assert_eq!(plan.max_len(part(n)), mib * MIB, "part {n}");
        }
        assert_eq!(plan.max_len(part(145)), MAX_PART_PLAIN);
        assert_eq!(plan.max_len(part(9_999)), MAX_PART_PLAIN);
        assert_eq!(plan.max_len(part(10_000)), 0, "the trailer's");
        assert!(plan.capacity() > 48 * TIB + TIB / 100 * 19 && plan.capacity() < 48 * TIB + TIB / 100 * 20);
        assert_eq!((plan.parts(), plan.total()), (None, None));

        let capped = PartPlan::unknown(None, false, &s3(), 64 * MIB).unwrap();
        assert_eq!(capped.max_len(part(33)), 64 * MIB);
        assert_eq!(capped.max_len(part(9_999)), 64 * MIB);
        let small = PartPlan::unknown(None, false, &s3(), 6 * MIB).unwrap();
        assert_eq!(small.max_len(part(1)), 6 * MIB, "the default gives way to the memory there is");
    }

    #[test]
    fn equal_parts_do_not_grow() {
        let equal = Limits { equal_parts: true, ..s3() };
        for plan in [
            PartPlan::unknown(None, true, &s3(), u64::MAX).unwrap(),
            PartPlan::unknown(None, false, &equal, u64::MAX).unwrap(),
        ] {
            assert_eq!(plan.max_len(part(9_999)), PartPlan::DEFAULT_PART);
            assert_eq!(plan.capacity(), 9_999 * PartPlan::DEFAULT_PART);
        }
    }

    #[test]
    fn part_sizes_that_no_store_takes_are_refused() {
        for make in [(|size, limits| PartPlan::known(1, size, false, limits)) as fn(_, &_) -> _, |size, limits| {
            PartPlan::unknown(size, false, limits, u64::MAX)
        }] {
            // The shortest part is a little shorter than the minimum, sealed it is not.
            let shortest = (0..).find(|len| sealed(5 * MIB - len) < 5 * MIB).map(|len| 5 * MIB - len + 1).unwrap();
            assert!(make(Some(shortest), &s3()).is_ok());
            assert_eq!(kind(make(Some(shortest - 1), &s3())), ErrorKind::InvalidInput);
            assert!(make(Some(MAX_PART_PLAIN), &s3()).is_ok());
            assert_eq!(kind(make(Some(MAX_PART_PLAIN + 1), &s3())), ErrorKind::LimitExceeded);
            assert_eq!(kind(make(Some(0), &Limits { min_part: 0, ..s3() })), ErrorKind::InvalidInput);
            assert!(make(Some(1), &Limits { min_part: 0, ..s3() }).is_ok());
            for none in [
                Limits { max_part: 72, min_part: 0, ..s3() },
                Limits { max_parts: PartNumber::MIN, ..s3() },
                Limits { max_part: 5 * MIB - 1, ..s3() },
            ] {
                assert_eq!(kind(make(None, &none)), ErrorKind::LimitExceeded, "{none:?}");
            }
        }
        assert_eq!(kind(PartPlan::unknown(Some(9 * MIB), false, &s3(), 8 * MIB)), ErrorKind::LimitExceeded);
    }

    #[test]
    fn a_stored_plan_is_checked() {
        let good = PartPlan::unknown(None, false, &s3(), 64 * MIB).unwrap();
        let json = serde_json::to_value(&good).unwrap();
        assert_eq!(serde_json::from_value::<PartPlan>(json.clone()).unwrap(), good);
        let altered = [
            ("first", 0.into()),
            ("first", (65 * MIB).into()),
            ("largest", (MAX_PART_PLAIN + 1).into()),
            ("most", 0.into()),
            ("most", 10_000.into()),
            ("total", 1.into()),
            ("equal", true.into()),
            ("other", 1.into()),
        ];
        for (name, value) in altered {
            let mut json = json.clone();
            json[name] = value;
            assert!(serde_json::from_value::<PartPlan>(json).is_err(), "{name}");
        }
        let mut json = serde_json::to_value(PartPlan::known(1, None, false, &s3()).unwrap()).unwrap();
        json["total"] = (9_999 * PartPlan::DEFAULT_PART + 1).into();
        assert!(serde_json::from_value::<PartPlan>(json).is_err());
    }

    #[test]
    fn a_plan_is_checked_against_what_the_store_allows_now() {
        let plan = PartPlan::known(100 * MIB, None, false, &s3()).unwrap();
        assert!(plan.check(&s3()).is_ok());
        for limits in [
            Limits { min_part: 17 * MIB, ..s3() },
            Limits { max_part: 16 * MIB, ..s3() },
            Limits { max_parts: part(9_999), ..s3() },
            Limits { equal_parts: true, ..s3() },
        ] {
            assert_eq!(kind(plan.check(&limits)), ErrorKind::LimitExceeded, "{limits:?}");
        }
        let one_part = PartPlan::known(1, None, false, &s3()).unwrap();
        assert!(one_part.check(&Limits { min_part: 17 * MIB, ..s3() }).is_ok());
        let equal = PartPlan::known(1, None, true, &s3()).unwrap();
        assert_eq!(kind(equal.check(&Limits { min_part: 17 * MIB, ..s3() })), ErrorKind::LimitExceeded);
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (prop_oneof![Just(0), 0..10 * MIB], 73..(5_u64 << 30), 2_u32..=10_000, any::<bool>()).prop_map(
            |(min_part, max_part, most, equal_parts)| Limits {
                min_part: min_part.min(max_part),
                max_part,
                max_parts: most.try_into().unwrap(),
                max_metadata: 2048,
                equal_parts,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn parts_follow_each_other_and_fit(
            len in prop_oneof![0..100 * MIB, any::<u64>().prop_map(|n| n % (49 * TIB))],
            known in any::<bool>(),
            asked in prop::option::of(1..64 * MIB),
            uniform in any::<bool>(),
            largest in MIB..(5 << 30),
            unsealed in any::<bool>(),
            limits in limits(),
        ) {
            let plan = if known {
                PartPlan::known(len, asked, uniform, &limits)
            } else {
                PartPlan::unknown(asked, uniform, &limits, largest)
            };
            let plan = plan.and_then(|plan| if unsealed { plan.unsealed(&limits) } else { Ok(plan) });
            let Ok(plan) = plan else { return Ok(()) };
            let sealed = |len| if unsealed { len } else { sealed(len) };
            prop_assert!(plan.check(&limits).is_ok());
            let most = limits.max_parts.get() - 1;
            let (mut offset, mut sealed_offset) = (0, 0);
            for n in 1..=plan.parts().unwrap_or(most) {
                let (number, max) = (part(n), plan.max_len(part(n)));
                prop_assert_eq!((plan.offset(number), plan.sealed_offset(number)), (offset, sealed_offset));
                prop_assert!(max > 0 && sealed(max) <= limits.max_part && max <= MAX_PART_PLAIN);
                prop_assert!(known || max <= largest);
                prop_assert!(sealed(max) >= limits.min_part || plan.parts() == Some(n), "only the last is short");
                prop_assert!(!(uniform || limits.equal_parts) || plan.parts() == Some(n) || max == plan.max_len(part(1)));
                offset += max;
                sealed_offset += sealed(max);
            }
            match plan.parts() {
                Some(parts) => {
                    prop_assert!(parts <= most && offset == len && plan.capacity() >= len);
                    prop_assert!(parts == 0 || plan.max_len(part(parts)) > 0);
                    prop_assert_eq!(plan.max_len(part(parts + 1)), 0);
                }
                None => prop_assert_eq!(offset, plan.capacity()),
            }
            prop_assert_eq!(serde_json::from_str::<PartPlan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        }

        #[test]
        fn the_longest_part_that_fits_is_found(max_part in 73..(5_u64 << 30)) {
            let plain = max_plain(&Limits { max_part, ..s3() }).unwrap();
            prop_assert!(sealed(plain) <= max_part && sealed(plain + 1) > max_part);
        }
    }
}

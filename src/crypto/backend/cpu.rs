//! What the CPU has for AES-256-GCM, and which backend is fastest with it.

use std::fmt;

use super::Backend;

/// What the CPU, and the operating system on it, have for AES-256-GCM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuFeatures {
    /// Instructions for single AES blocks and carry-less products: AES-NI and PCLMULQDQ, or those of ARMv8.
    pub aes: bool,
    /// The same for 2 or 4 blocks at once: VAES and VPCLMULQDQ.
    pub vaes: bool,
    /// Vectors of 256 bits: AVX2.
    pub avx2: bool,
    /// Vectors of 512 bits: AVX-512 with F, BW, DQ and VL.
    pub avx512: bool,
}

/// A backend, and the reason to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// What to take.
    pub backend: Backend,
    /// Why, in a few words.
    pub why: &'static str,
}

impl CpuFeatures {
    /// Those of this machine.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            Self {
                aes: has!("aes") && has!("pclmulqdq"),
                vaes: has!("vaes") && has!("vpclmulqdq"),
                avx2: has!("avx2"),
                avx512,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            Self { aes: has!("aes") && has!("pmull"), ..Self::default() }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Self::default()
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { aes, vaes, avx2, avx512 } = *self;
        let named = [(aes, "AES"), (vaes, "VAES"), (avx2, "AVX2"), (avx512, "AVX-512")];
        let names: Vec<_> = named.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl Backend {
    /// The backend of this build that is fastest on this machine. It is what [`Default`] gives.
    #[must_use]
    pub fn fastest() -> Self {
        Self::fastest_on(CpuFeatures::detect()).backend
    }

    /// The backend of this build that is fastest on a CPU with `cpu`, and why.
    ///
    /// aws-lc-rs uses vectors of 512 bits where the CPU has both VAES and AVX-512, and else single AES blocks, at less than half the
    /// speed; ring is content with VAES and AVX2. So ring is chosen where it is in the build and the CPU has VAES, AVX2 and no AVX-512
    /// (AMD Zen 3, Intel from Alder Lake on), and otherwise the [first](Self::available).
    #[must_use]
    pub fn fastest_on(cpu: CpuFeatures) -> Choice {
        let first = Self::ALL[0];
        #[cfg(all(feature = "aws-lc-rs", feature = "ring"))]
        if cpu.vaes && cpu.avx2 && !cpu.avx512 {
            return Choice {
                backend: Self::Ring,
                why: "the CPU has VAES and AVX2 but no AVX-512, which ring makes the most of",
            };
        }
        let why = match first {
            _ if Self::ALL.len() == 1 => "the only one in this build",
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc if cpu.vaes && cpu.avx512 => "the CPU has VAES and AVX-512, which aws-lc-rs makes the most of",
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc if cpu.vaes && cpu.avx2 => {
                "the first in this build; on this CPU, which has VAES and AVX2 but no AVX-512, ring would be faster"
            }
            _ if cpu.vaes => "the first in this build",
            _ if cpu.aes => "the first in this build; the CPU has no VAES",
            _ => "the first in this build; the CPU has no AES instructions",
        };
        Choice { backend: first, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEN_4: CpuFeatures = CpuFeatures { aes: true, vaes: true, avx2: true, avx512: true };
    const ALDER_LAKE: CpuFeatures = CpuFeatures { avx512: false, ..ZEN_4 };
    /// Skylake-X: AVX-512 is of no use without VAES.
    const SKYLAKE_X: CpuFeatures = CpuFeatures { vaes: false, ..ZEN_4 };
    const HASWELL: CpuFeatures = CpuFeatures { vaes: false, ..ALDER_LAKE };
    const NONE: CpuFeatures = CpuFeatures { aes: false, vaes: false, avx2: false, avx512: false };

    #[test]
    #[cfg(all(feature = "aws-lc-rs", feature = "ring"))]
    fn ring_is_chosen_where_it_is_faster_and_only_there() {
        for (cpu, backend) in [
            (ZEN_4, Backend::AwsLc),
            (ALDER_LAKE, Backend::Ring),
            (SKYLAKE_X, Backend::AwsLc),
            (HASWELL, Backend::AwsLc),
            (NONE, Backend::AwsLc),
        ] {
            assert_eq!(Backend::fastest_on(cpu).backend, backend, "{cpu}");
        }
    }

    #[test]
    fn the_choice_is_in_the_build_and_is_the_default() {
        for cpu in [ZEN_4, ALDER_LAKE, SKYLAKE_X, HASWELL, NONE] {
            assert!(Backend::available().contains(&Backend::fastest_on(cpu).backend));
        }
        assert_eq!(Backend::default(), Backend::fastest_on(CpuFeatures::detect()).backend);
    }

    #[cfg(not(feature = "aws-lc-rs"))]
    #[test]
    fn without_aws_lc_rs_the_first_of_the_others_is_chosen_and_aws_lc_rs_is_no_reason() {
        for cpu in [ZEN_4, ALDER_LAKE, SKYLAKE_X, HASWELL, NONE] {
            let choice = Backend::fastest_on(cpu);
            assert_eq!(choice.backend, Backend::available()[0], "{cpu}");
            assert!(!choice.why.contains("aws-lc-rs"), "{cpu}: {}", choice.why);
            assert_eq!(choice.why == "the only one in this build", Backend::available().len() == 1, "{cpu}");
        }
    }

    #[test]
    fn features_are_listed() {
        assert_eq!(ALDER_LAKE.to_string(), "AES, VAES, AVX2");
        assert_eq!(NONE.to_string(), "none");
    }
}

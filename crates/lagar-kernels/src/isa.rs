//! Instruction sets: their names, and which of them this processor runs.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::fmt;
use std::sync::OnceLock;

use crate::KernelError;

/// An instruction set that kernels are compiled for, from the plainest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on any machine. It defines the bits that the others reproduce.
    Portable,
    /// AArch64 with its 128-bit vectors.
    Neon,
    /// AArch64 with the int8 dot product (`sdot`).
    NeonDotprod,
    /// The same with the int8 matrix product (`smmla`).
    NeonI8mm,
    /// x86-64 with AVX2, FMA, F16C, POPCNT and BMI2.
    Avx2,
    /// The same with AVX-VNNI (`vpdpbusd` on 256 bits).
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ and VL (and all of AVX2's).
    Avx512Bw,
    /// The same with AVX-512 VNNI.
    Avx512BwVnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL, VBMI and VNNI (and AVX2, FMA, F16C, POPCNT, BMI2).
    Avx512,
    /// The same with AMX's tiles of bytes (AMX-TILE and AMX-INT8), on Linux.
    Amx,
}

impl Isa {
    /// All instruction sets, in ascending order.
    pub const ALL: [Self; 10] = [
        Self::Portable,
        Self::Neon,
        Self::NeonDotprod,
        Self::NeonI8mm,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Bw,
        Self::Avx512BwVnni,
        Self::Avx512,
        Self::Amx,
    ];

    /// The fastest instruction set of this processor.
    pub fn best() -> Self {
        *Self::ALL
            .iter()
            .rev()
            .find(|isa| isa.is_available())
            .expect("the portable path runs everywhere")
    }

    /// Every instruction set that this processor runs, in ascending order.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    /// Whether this processor runs it. The processor is asked once per process.
    #[inline]
    pub fn is_available(self) -> bool {
        static AVAILABLE: OnceLock<u16> = OnceLock::new();
        let set = AVAILABLE.get_or_init(|| {
            Self::ALL
                .iter()
                .filter(|isa| isa.detect())
                .fold(0, |set, &isa| set | 1 << isa as u16)
        });
        set >> self as u16 & 1 == 1
    }

    #[cfg(target_arch = "x86_64")]
    fn detect(self) -> bool {
        macro_rules! all {
            ($($feature:tt),*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
        }
        let avx2 = all!("avx2", "fma", "f16c", "popcnt", "bmi2");
        let avx512 = avx2 && all!("avx512f", "avx512bw", "avx512dq", "avx512vl");
        match self {
            Self::Portable => true,
            Self::Neon | Self::NeonDotprod | Self::NeonI8mm => false,
            Self::Avx2 => avx2,
            Self::AvxVnni => avx2 && all!("avxvnni"),
            Self::Avx512Bw => avx512,
            Self::Avx512BwVnni => avx512 && all!("avx512vnni"),
            Self::Avx512 => avx512 && all!("avx512vbmi", "avx512vnni"),
            Self::Amx => Self::Avx512.detect() && amx::is_available() && crate::matmul::amx_works(),
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn detect(self) -> bool {
        macro_rules! all {
            ($($feature:tt),*) => { $(std::arch::is_aarch64_feature_detected!($feature))&&* };
        }
        match self {
            Self::Portable => true,
            Self::Neon => all!("neon"),
            Self::NeonDotprod => all!("neon", "dotprod"),
            Self::NeonI8mm => all!("neon", "dotprod", "i8mm"),
            Self::Avx2
            | Self::AvxVnni
            | Self::Avx512Bw
            | Self::Avx512BwVnni
            | Self::Avx512
            | Self::Amx => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn detect(self) -> bool {
        self == Self::Portable
    }

    /// The name that [`Isa::parse`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Bw => "avx512-bw",
            Self::Avx512BwVnni => "avx512-bw-vnni",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Reads a name as [`Isa::name`] writes it.
    ///
    /// # Errors
    /// An unknown name, or an instruction set that this processor lacks.
    pub fn parse(name: &str) -> Result<Self, KernelError> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| KernelError::UnknownIsa { name: name.into() })?;
        if isa.is_available() {
            Ok(isa)
        } else {
            Err(KernelError::UnavailableIsa { isa })
        }
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_isa_is_parsed_from_its_name_and_the_others_say_why_not() {
        for isa in Isa::ALL {
            match Isa::parse(isa.name()) {
                Ok(parsed) => assert!(parsed == isa && isa.is_available()),
                Err(error) => {
                    assert!(!isa.is_available());
                    assert!(error.to_string().contains(isa.name()));
                }
            }
        }
        let unknown = Isa::parse("avx3").unwrap_err().to_string();
        assert!(
            unknown.contains("avx3") && unknown.contains("portable"),
            "{unknown}"
        );
    }

    #[test]
    fn the_best_isa_is_the_last_available_one() {
        assert_eq!(Isa::available().last(), Some(&Isa::best()));
        assert_eq!(Isa::available()[0], Isa::Portable);
    }
}

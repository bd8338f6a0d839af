//! `--tiers`, `--primary` and `--size`: which qualities a file holds, and how long it may be.

use std::str::FromStr;

use clap::ValueEnum;
use lagar_press::StageBits;

/// Most stages of a file.
const STAGES: usize = 3;

/// What `--tiers` asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tiers {
    /// Bits per weight that each stage adds: depths or averages.
    pub(crate) bits: Vec<StageBits>,
    /// Whether the exact section follows.
    pub(crate) exact: bool,
}

impl FromStr for Tiers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "exact" {
            return Ok(Self {
                bits: Vec::new(),
                exact: true,
            });
        }
        let (stages, exact) = match text.split_once('+') {
            None => (text, false),
            Some((stages, "exact")) => (stages, true),
            Some((_, other)) => {
                return Err(format!("only `exact` can follow the `+`, not `{other}`"));
            }
        };
        let bits = stages
            .split(',')
            .map(|stage| match stage.parse() {
                Ok(bits @ (StageBits::Depth(_) | StageBits::Average(_))) => Ok(bits),
                _ if stage == "exact" => {
                    Err("the exact section is added with `+`, as in `2,2+exact`".to_owned())
                }
                _ => Err(format!(
                    "`{stage}` is not a number of bits from 1 to 8; give each stage's bits, as in `2,2`, `2,1,1+exact` or, on average, `1.8,1.6`"
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if bits.len() > STAGES {
            return Err(format!(
                "{} stages; a file holds at most {STAGES} (tiers R, RG and RGB), and `+exact`",
                bits.len()
            ));
        }
        Ok(Self { bits, exact })
    }
}

/// What `--size` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Size {
    Bytes(u64),
    /// Of the checkpoint's files.
    Share(f64),
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor = match unit.trim() {
            "%" => 0.01,
            "" | "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1048576.0,
            "GiB" => 1073741824.0,
            _ => f64::NAN,
        };
        let value = number.parse().unwrap_or(f64::NAN) * factor;
        if !(value > 0.0 && value < 1e18) {
            return Err(format!(
                "`{text}` is no size; give it as 3GB, 700MB, 2.5GiB or, of the checkpoint's size, 40%"
            ));
        }
        Ok(match unit.trim() {
            "%" => Self::Share(value),
            _ => Self::Bytes(value as u64),
        })
    }
}

/// The tiers below `full`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum StageTier {
    #[value(name = "R")]
    R,
    #[value(name = "RG")]
    Rg,
    #[value(name = "RGB")]
    Rgb,
}

impl StageTier {
    /// Position of the tier's stage.
    pub(crate) fn position(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_the_exact_section_are_read() {
        for (text, bits, exact) in [
            ("2,2+exact", &[2, 2][..], true),
            ("2,1,1+exact", &[2, 1, 1], true),
            ("4+exact", &[4], true),
            ("1,1,1", &[1, 1, 1], false),
            ("8", &[8], false),
            ("exact", &[], true),
        ] {
            let tiers: Tiers = text.parse().unwrap();
            let bits: Vec<StageBits> = bits.iter().copied().map(StageBits::Depth).collect();
            assert_eq!((tiers.bits, tiers.exact), (bits, exact), "{text}");
        }
        let tiers: Tiers = "1.8,2,1.6+exact".parse().unwrap();
        let [first, second, third] = tiers.bits[..] else {
            panic!("three stages");
        };
        assert_eq!(first, StageBits::Average(1.8));
        assert_eq!(second, StageBits::Depth(2));
        assert_eq!(third, StageBits::Average(1.6));
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in [
            ("3GB", Size::Bytes(3_000_000_000)),
            ("1.5MiB", Size::Bytes(1_572_864)),
            ("700 MB", Size::Bytes(700_000_000)),
            ("1200000", Size::Bytes(1_200_000)),
            ("40%", Size::Share(0.4)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
        for text in ["", "GB", "3 apples", "-1MB", "0", "1e9", "3.5.1GB", "%"] {
            assert!(
                text.parse::<Size>().unwrap_err().contains("no size"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_makes_no_file_is_explained() {
        for (text, words) in [
            ("", "`` is not a number of bits"),
            ("0", "`0` is not a number of bits from 1 to 8"),
            ("2,9", "`9`"),
            ("2,,2", "``"),
            ("2,x", "`x`"),
            ("9.5", "`9.5`"),
            ("2.5bpw", "`2.5bpw`"),
            ("-2", "`-2`"),
            ("2, 2", "` 2`"),
            ("2,2,exact", "added with `+`"),
            ("2+full", "only `exact` can follow"),
            ("2+exact+exact", "`exact+exact`"),
            ("+exact", "``"),
            ("1,1,1,1", "at most 3"),
        ] {
            let error = text.parse::<Tiers>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

//! `--tiers` and `--primary`: which qualities a file holds.

use std::str::FromStr;

use clap::ValueEnum;

/// Most stages of a file.
const STAGES: usize = 3;

/// What `--tiers` asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tiers {
    /// Bits per weight that each stage adds.
    pub(crate) bits: Vec<u8>,
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
            .map(|stage| match stage.parse::<u8>() {
                Ok(bits @ 1..=8) => Ok(bits),
                _ if stage == "exact" => {
                    Err("the exact section is added with `+`, as in `2,2+exact`".to_owned())
                }
                _ => Err(format!(
                    "`{stage}` is not a number of bits from 1 to 8; give each stage's bits, as in `2,2` or `2,1,1+exact`"
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
            assert_eq!((&tiers.bits[..], tiers.exact), (bits, exact), "{text}");
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
            ("2.5", "`2.5`"),
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

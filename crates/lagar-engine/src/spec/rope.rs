//! Rotary position embedding: the frequencies that a configuration asks for.
//!
//! Rotary embedding is Su et al., *RoFormer*, arXiv 2104.09864. The ways of stretching it beyond
//! the trained context follow `transformers`' `modeling_rope_utils`, which is what checkpoints
//! are trained and published against; YaRN is Peng et al., arXiv 2309.00071.

use std::f64::consts::PI;

use super::config::Config;
use crate::EngineError;

/// How positions rotate the heads of queries and keys.
///
/// Coordinates `i` and `i + r/2` of a head (`r` rotated coordinates, so `r/2` frequencies) turn
/// by `position * frequencies[i]`; cosines and sines are multiplied by `magnitude`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians per position; half as many as there are rotated coordinates.
    pub frequencies: Vec<f32>,
    /// Factor on cosines and sines; 1 but for YaRN.
    pub magnitude: f32,
}

impl Rope {
    /// Cosines and sines of `n` positions from `first`, each n × `frequencies.len()`.
    ///
    /// The angle is an f32 product, as in `transformers`; its cosine is computed in f64 and
    /// rounded once.
    pub fn angles(
        &self,
        positions: impl IntoIterator<Item = usize>,
        cos: &mut Vec<f32>,
        sin: &mut Vec<f32>,
    ) {
        cos.clear();
        sin.clear();
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = f64::from(position as f32 * frequency).sin_cos();
                cos.push(c as f32 * self.magnitude);
                sin.push(s as f32 * self.magnitude);
            }
        }
    }

    /// Reads the rotary settings of a configuration: `rope_theta` and `rope_scaling`, or, since
    /// `transformers` 5, both inside `rope_parameters`.
    pub(crate) fn from_config(
        config: &Config<'_>,
        head_dim: usize,
        context: usize,
    ) -> Result<Self, EngineError> {
        const SUPPORTED: &str =
            "supported are rope types default, linear, dynamic, llama3 and yarn over whole heads";
        let parameters = config.object("rope_parameters")?;
        let scaling = match parameters {
            Some(_) => parameters,
            None => config.object("rope_scaling")?,
        };

        let mut theta = config.positive("rope_theta")?;
        let mut share = config.positive("partial_rotary_factor")?;
        let mut kind = "default";
        if let Some(scaling) = &scaling {
            theta = scaling.positive("rope_theta")?.or(theta);
            share = scaling.positive("partial_rotary_factor")?.or(share);
            kind = match scaling.text("rope_type")? {
                Some(kind) => kind,
                None => scaling.text("type")?.unwrap_or("default"),
            };
        }
        if let Some(share) = share.filter(|share| *share != 1.0) {
            return Err(config.unsupported(format!("partial_rotary_factor {share}"), SUPPORTED));
        }
        let plain = plain_frequencies(head_dim, theta.unwrap_or(10_000.0));

        let (frequencies, magnitude) = match (kind, &scaling) {
            // Up to the trained length, which is as far as a context goes here, the dynamic
            // rescaling of the base is by exactly 1.
            ("default" | "dynamic", _) | (_, None) => (plain, 1.0),
            ("linear", Some(scaling)) => (linear(scaling, plain)?, 1.0),
            ("llama3", Some(scaling)) => (llama3(scaling, plain)?, 1.0),
            ("yarn", Some(scaling)) => yarn(scaling, plain, theta.unwrap_or(10_000.0), context)?,
            (other, Some(_)) => {
                return Err(config.unsupported(format!("rope type {other}"), SUPPORTED));
            }
        };
        if let Some(bad) = frequencies.iter().find(|f| !(f.is_finite() && **f >= 0.0)) {
            return Err(config.error(
                match config.value("rope_parameters") {
                    Some(_) => "rope_parameters",
                    None => "rope_scaling",
                },
                format!("gives a rotary frequency of {bad}; check its factors"),
            ));
        }
        Ok(Self {
            frequencies: frequencies.into_iter().map(|f| f as f32).collect(),
            magnitude: magnitude as f32,
        })
    }
}

/// `theta^(-2i/d)` for each of the `d/2` pairs of coordinates.
fn plain_frequencies(head_dim: usize, theta: f64) -> Vec<f64> {
    (0..head_dim / 2)
        .map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64))
        .collect()
}

/// Position interpolation: every frequency divided by the factor.
fn linear(scaling: &Config<'_>, plain: Vec<f64>) -> Result<Vec<f64>, EngineError> {
    let factor = scaling.required_positive("factor")?;
    Ok(plain.into_iter().map(|f| f / factor).collect())
}

/// Llama 3.1: long wavelengths are interpolated, short ones kept, and those between are mixed.
fn llama3(scaling: &Config<'_>, plain: Vec<f64>) -> Result<Vec<f64>, EngineError> {
    let factor = scaling.required_positive("factor")?;
    let low = scaling.required_positive("low_freq_factor")?;
    let high = scaling.required_positive("high_freq_factor")?;
    let trained = scaling.required_positive("original_max_position_embeddings")?;
    if high <= low {
        return Err(scaling.error(
            "high_freq_factor",
            format!("must be above low_freq_factor {low}, not {high}"),
        ));
    }
    Ok(plain
        .into_iter()
        .map(|f| {
            let wavelength = 2.0 * PI / f;
            if wavelength < trained / high {
                f
            } else if wavelength > trained / low {
                f / factor
            } else {
                let kept = (trained / wavelength - low) / (high - low);
                (1.0 - kept) * f / factor + kept * f
            }
        })
        .collect())
}

/// YaRN: a ramp over the pairs between kept and interpolated frequencies, and a magnitude that
/// sharpens the attention.
fn yarn(
    scaling: &Config<'_>,
    plain: Vec<f64>,
    theta: f64,
    context: usize,
) -> Result<(Vec<f64>, f64), EngineError> {
    let original = scaling.positive("original_max_position_embeddings")?;
    let trained = original.unwrap_or(context as f64);
    let factor = match (scaling.positive("factor")?, original) {
        (Some(factor), _) => factor,
        (None, Some(original)) => context as f64 / original,
        (None, None) => return Err(scaling.error("factor", "is missing")),
    };
    let beta_fast = scaling.positive("beta_fast")?.unwrap_or(32.0);
    let beta_slow = scaling.positive("beta_slow")?.unwrap_or(1.0);
    let truncate = scaling.flag("truncate", true)?;

    let magnitude_of = |scale: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * scale * factor.ln() + 1.0
        }
    };
    let magnitude = match (
        scaling.positive("attention_factor")?,
        scaling.positive("mscale")?,
        scaling.positive("mscale_all_dim")?,
    ) {
        (Some(given), _, _) => given,
        (None, Some(one), Some(all)) => magnitude_of(one) / magnitude_of(all),
        (None, _, _) => magnitude_of(1.0),
    };

    let dim = (2 * plain.len()) as f64;
    // The pair that turns `rotations` times over the trained context.
    let pair = |rotations: f64| dim * (trained / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let (mut first, mut last) = (pair(beta_fast), pair(beta_slow));
    if truncate {
        (first, last) = (first.floor(), last.ceil());
    }
    first = first.max(0.0);
    last = last.min(dim - 1.0);
    if first == last {
        last += 0.001;
    }
    let frequencies = plain
        .into_iter()
        .enumerate()
        .map(|(i, f)| {
            let interpolated = ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
            f / factor * interpolated + f * (1.0 - interpolated)
        })
        .collect();
    Ok((frequencies, magnitude))
}

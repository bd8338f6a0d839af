//! Losses of one position, in f64 from f32 logits.

/// What is measured at one scored position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    /// −log q(target), nats.
    pub(crate) nll: f64,
    /// The token of the largest logit; the first of equals.
    pub(crate) best: u32,
}

/// `log Σ exp(logits)`.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = f64::from(max);
    max + logits
        .iter()
        .map(|&l| (f64::from(l) - max).exp())
        .sum::<f64>()
        .ln()
}

/// The loss of `target` under `logits`.
pub(crate) fn loss(logits: &[f32], target: u32) -> Loss {
    let mut best = 0;
    for (i, &l) in logits.iter().enumerate() {
        if l > logits[best] {
            best = i;
        }
    }
    Loss {
        nll: log_sum_exp(logits) - f64::from(logits[target as usize]),
        best: best as u32,
    }
}

/// `Σ p log(p/q)` with p from the original's logits and q from the pressed model's, nats.
pub(crate) fn divergence(original: &[f32], pressed: &[f32]) -> f64 {
    let (p_norm, q_norm) = (log_sum_exp(original), log_sum_exp(pressed));
    original
        .iter()
        .zip(pressed)
        .map(|(&p, &q)| {
            let log_p = f64::from(p) - p_norm;
            log_p.exp() * (log_p - (f64::from(q) - q_norm))
        })
        .sum::<f64>()
        .max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_prediction_costs_the_logarithm_of_the_vocabulary() {
        let l = loss(&[2.5; 8], 3);
        assert!((l.nll - 8f64.ln()).abs() < 1e-12);
        assert_eq!(l.best, 0);
    }

    #[test]
    fn divergence_is_zero_only_between_equals() {
        let p = [0.0f32, 1.0, -2.0, 0.5];
        let shifted = p.map(|x| x + 3.0);
        assert!(divergence(&p, &shifted) < 1e-12);
        // Two outcomes with p = (2/3, 1/3) and q = (1/2, 1/2).
        let expected = 2.0 / 3.0 * (4f64 / 3.0).ln() + 1.0 / 3.0 * (2f64 / 3.0).ln();
        let got = divergence(&[2f32.ln(), 0.0], &[0.0, 0.0]);
        assert!((got - expected).abs() < 1e-7, "{got} {expected}");
    }
}

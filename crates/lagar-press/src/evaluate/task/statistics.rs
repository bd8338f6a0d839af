//! Means over the questions of a task, and how sure they are.

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard error of the mean, from the deviation within the sample: `√(Σ(x−μ)²/(n−1)) / √n`.
/// One value alone has none.
pub(super) fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    Some((squares / (n - 1.0)).sqrt() / n.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_answers_the_error_is_that_of_a_share(right in 0usize..50, wrong in 0usize..50) {
            prop_assume!(right + wrong > 1);
            let values = [vec![1.0; right], vec![0.0; wrong]].concat();
            let n = values.len() as f64;
            let p = right as f64 / n;
            let expected = (p * (1.0 - p) / (n - 1.0)).sqrt();
            prop_assert!((mean(&values) - p).abs() < 1e-12);
            prop_assert!((standard_error(&values).unwrap() - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn one_value_has_no_error() {
        assert_eq!(standard_error(&[1.0]), None);
        assert_eq!(standard_error(&[1.0, 3.0]), Some(1.0));
    }
}

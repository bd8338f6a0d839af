//! Codebooks without a trellis: Lloyd–Max for a Gaussian.

/// The magnitudes of a sample in ascending order, with the sums up to each.
pub(crate) struct Magnitudes {
    sorted: Vec<f64>,
    sums: Vec<f64>,
}

impl Magnitudes {
    pub(crate) fn new(values: &[f32]) -> Self {
        let mut sorted: Vec<f64> = values.iter().map(|&x| f64::from(x.abs())).collect();
        sorted.sort_by(f64::total_cmp);
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        for value in &sorted {
            sum += value;
            sums.push(sum);
        }
        Self { sorted, sums }
    }

    /// The mean from rank `first` to before rank `end`, if there is any.
    fn mean(&self, first: usize, end: usize) -> Option<f64> {
        (first < end).then(|| (self.sums[end] - self.sums[first]) / (end - first) as f64)
    }

    /// The means of `n` equally likely parts of the symmetric distribution, ascending; `n` is even.
    pub(crate) fn quantiles(&self, n: usize) -> Vec<f64> {
        let half = n / 2;
        let rank = |i: usize| self.sorted.len() * i / half;
        let upper = (0..half).filter_map(|i| self.mean(rank(i), rank(i + 1)));
        symmetric(&upper.collect::<Vec<_>>())
    }

    /// The `2^depth` levels of least squared error, ascending and symmetric.
    pub(crate) fn lloyd_max(&self, depth: u8) -> Vec<f64> {
        let mut upper = self.quantiles(1 << depth).split_off(1 << (depth - 1));
        for _ in 0..20_000 {
            let before = upper.clone();
            let mut first = 0;
            for i in 0..upper.len() {
                let end = match before.get(i + 1) {
                    Some(next) => {
                        let border = 0.5 * (before[i] + next);
                        self.sorted.partition_point(|&x| x < border)
                    }
                    None => self.sorted.len(),
                };
                upper[i] = self.mean(first, end).unwrap_or(before[i]);
                first = end;
            }
            let moved = upper.iter().zip(&before).map(|(a, b)| (a - b).abs());
            if moved.fold(0.0, f64::max) < 1e-9 {
                break;
            }
        }
        symmetric(&upper)
    }
}

/// The negated levels in front of the levels.
fn symmetric(upper: &[f64]) -> Vec<f64> {
    upper
        .iter()
        .rev()
        .map(|x| -x)
        .chain(upper.iter().copied())
        .collect()
}

/// Levels at `sigma` units per standard deviation, rounded, none beyond ±127.
pub(crate) fn round(levels: &[f64], sigma: f64) -> Vec<i8> {
    let round = |x: &f64| (x * sigma).round().clamp(-127.0, 127.0) as i8;
    levels.iter().map(round).collect()
}

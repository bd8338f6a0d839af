//! How much an error in one row of a linear matters next to one in another.
//!
//! The Hessian of a linear's input weighs the columns of its error; what becomes of its outputs weighs the
//! rows. The trellis runs through the 256 rows of a tile, so the search can pay for one row's error with
//! another's.

/// Tokens that each row of an embedding counts as seen beside those in the text, as a share of the mean:
/// a text says little about rare tokens.
const UNSEEN: f64 = 0.1;

/// Least importance, relative to the largest: costs of all rows are added in f32.
const LEAST: f64 = 1e-4;

/// Importance of the rows of a token embedding, relative to the largest. A token's row is looked up as
/// often as the token occurs and, as an output, predicted about as often. The root of that does best.
pub(crate) fn of_tokens(vocabulary: usize, tokens: impl Iterator<Item = u32>) -> Vec<f32> {
    let mut counts = vec![0f64; vocabulary];
    for token in tokens {
        if let Some(count) = counts.get_mut(token as usize) {
            *count += 1.0;
        }
    }
    let mean = counts.iter().sum::<f64>() / vocabulary.max(1) as f64;
    let weigh = |count: f64| (count + UNSEEN * mean).sqrt();
    let largest = counts.iter().copied().fold(0.0, f64::max);
    let relative = |&count: &f64| (weigh(count) / weigh(largest)).max(LEAST) as f32;
    counts.iter().map(relative).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_count_by_the_root_of_how_often_they_occur() {
        let text = [0u32; 900].into_iter().chain([1; 100]).chain([3]);
        let importance = of_tokens(5, text);
        assert_eq!(importance[0], 1.0);
        let expected = ((100.0f64 + 20.02) / (900.0 + 20.02)).sqrt() as f32;
        assert!((importance[1] - expected).abs() < 1e-6);
        assert!(importance[3] > importance[2] && importance[2] > 0.0);
        assert_eq!(importance[2], importance[4]);
    }

    #[test]
    fn no_row_vanishes() {
        let mut vocabulary = of_tokens(1 << 20, [7u32; 100_000].into_iter());
        vocabulary.sort_by(f32::total_cmp);
        assert!(vocabulary[0] >= LEAST as f32 && vocabulary[vocabulary.len() - 1] == 1.0);
    }
}

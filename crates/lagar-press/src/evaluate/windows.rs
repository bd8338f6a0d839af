//! Cutting a text into windows, as losses are measured and as calibration reads it.

/// Windows of a text: runs of tokens that do not overlap, each starting with the tokenizer's BOS
/// where it adds one.
#[derive(Debug, Clone)]
pub struct Windows {
    tokens: Vec<u32>,
    bos: Option<u32>,
    /// Tokens of text in a full window.
    stride: usize,
}

impl Windows {
    /// Cuts `tokens` (without special tokens) into windows of at most `context` positions, the
    /// BOS counted; a last window with fewer than two tokens of text is dropped.
    pub fn new(mut tokens: Vec<u32>, bos: Option<u32>, context: usize) -> Self {
        let stride = context.saturating_sub(usize::from(bos.is_some())).max(1);
        let last = tokens.len() % stride;
        if last < 2 && stride >= 2 {
            tokens.truncate(tokens.len() - last);
        }
        Self {
            tokens,
            bos,
            stride,
        }
    }

    /// The same text in windows of at most `context` positions, and none longer than these.
    pub(crate) fn recut(&self, context: usize) -> Self {
        let longest = self.stride + usize::from(self.bos.is_some());
        Self::new(self.tokens.clone(), self.bos, context.min(longest))
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.tokens.len().div_ceil(self.stride)
    }

    /// True if the text had not even two tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of text in all windows.
    pub fn text_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Positions of the longest window.
    pub fn longest(&self) -> usize {
        self.tokens.len().min(self.stride) + usize::from(self.bos.is_some())
    }

    /// Every window in order, BOS included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Vec<u32>> {
        self.tokens
            .chunks(self.stride)
            .map(|text| self.bos.into_iter().chain(text.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokens: u32, bos: Option<u32>, context: usize) -> Vec<Vec<u32>> {
        Windows::new((10..10 + tokens).collect(), bos, context)
            .iter()
            .collect()
    }

    #[test]
    fn the_bos_counts_within_the_context() {
        assert_eq!(cut(5, Some(1), 4), [vec![1, 10, 11, 12], vec![1, 13, 14]]);
        assert_eq!(cut(5, None, 4), [vec![10, 11, 12, 13]]);
    }

    #[test]
    fn a_last_window_with_fewer_than_two_tokens_of_text_is_dropped() {
        assert_eq!(cut(4, Some(1), 4), [vec![1, 10, 11, 12]]);
        assert_eq!(cut(1, Some(1), 4), Vec::<Vec<u32>>::new());
        assert!(Windows::new(vec![], Some(1), 8).is_empty());
    }
}

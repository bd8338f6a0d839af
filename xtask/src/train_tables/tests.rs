use super::*;

/// A small part of the training, of every kind.
const SHORT: Effort = Effort {
    starts: 4,
    noisy: 100,
    sizes: [1 << 12, 1 << 13, 1 << 13],
};

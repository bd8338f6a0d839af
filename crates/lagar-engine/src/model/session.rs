//! A sequence of tokens and what the model remembers of it.

use lagar_kernels::KvCache;

/// Tokens that are taken through all blocks at once, at most; longer prompts go in pieces. With more, intermediate values leave
/// the caches; with fewer, weights that are not pressed are read too often (`bench/record/NOTES.md`).
pub(super) const CHUNK: usize = 256;

/// The same where weights are read from the disk: each read serves all of a piece's tokens, as long
/// as their intermediate values take no more memory than the weights read ahead.
pub(super) const STREAMED_CHUNK: usize = 4096;

/// A sequence under way: the keys and values of its positions in every block, and buffers.
#[derive(Debug)]
pub struct Session {
    pub(super) caches: Vec<KvCache>,
    pub(super) context: usize,
    /// See [`Session::set_chunk`]; `None` for what suits the model.
    pub(super) chunk: Option<usize>,
    /// n × hidden: the residual stream of the running call.
    pub(super) hidden: Vec<f32>,
    /// One vector of logits.
    pub(super) logits: Vec<f32>,
}

impl Session {
    pub(super) fn new(caches: Vec<KvCache>, context: usize) -> Self {
        Self {
            caches,
            context,
            chunk: None,
            hidden: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Number of tokens so far.
    pub fn len(&self) -> usize {
        self.caches.first().map_or(0, KvCache::len)
    }

    /// Whether there are no tokens yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most tokens that fit.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Memory of keys and values so far, in bytes.
    pub fn cache_bytes(&self) -> usize {
        self.caches.iter().map(KvCache::bytes).sum()
    }

    /// Goes back to the first `len` tokens. Does nothing if there are no more than that.
    pub fn truncate(&mut self, len: usize) {
        for cache in &mut self.caches {
            cache.truncate(len);
        }
    }

    /// Sets how many tokens are taken through all blocks at once, which is otherwise up to the model,
    /// see [`Model::chunk`](super::Model::chunk). Changes memory and speed, not
    /// results.
    ///
    /// # Panics
    /// If `chunk` is 0.
    pub fn set_chunk(&mut self, chunk: usize) {
        assert!(chunk > 0, "a chunk has at least one token");
        self.chunk = Some(chunk);
    }
}

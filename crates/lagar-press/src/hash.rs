//! BLAKE3 of long runs of bytes on all cores.
//!
//! BLAKE3 hashes a binary tree over chunks of 1024 bytes. Every complete subtree of [`SUBTREE`]
//! bytes is hashed by itself, on any thread; [`Tree`] then puts them together in order. See the
//! BLAKE3 paper, section 5.1.2, and `blake3::hazmat`.

use std::sync::Mutex;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use blake3::{Hash, Hasher};
use lagar_kernels::Cpu;

use crate::{PressError, Progress};

/// Bytes that are hashed by themselves: a power of two.
pub(crate) const SUBTREE: usize = 1 << 20;

/// The hash of one subtree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    /// Of one of several.
    Inner(ChainingValue),
    /// Of all there is.
    Root(Hash),
}

/// The subtree of a run of `total` bytes that starts at `offset`, a multiple of [`SUBTREE`], and is
/// of that length unless it is the last.
pub(crate) fn subtree(bytes: &[u8], offset: u64, total: u64) -> Node {
    debug_assert!(offset.is_multiple_of(SUBTREE as u64));
    debug_assert!(bytes.len() == SUBTREE || offset + bytes.len() as u64 == total);
    if bytes.len() as u64 == total {
        return Node::Root(blake3::hash(bytes));
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset).update(bytes);
    Node::Inner(hasher.finalize_non_root())
}

/// Puts subtrees together, given from left to right.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Hashes of complete subtrees, of descending sizes but for the last.
    stack: Vec<ChainingValue>,
    root: Option<Hash>,
    count: u64,
}

impl Tree {
    pub(crate) fn push(&mut self, node: Node) {
        match node {
            Node::Root(hash) => self.root = Some(hash),
            Node::Inner(value) => {
                // Merging waits for the next one: the last merge is another operation.
                while self.stack.len() > self.count.count_ones() as usize {
                    self.merge();
                }
                self.stack.push(value);
                self.count += 1;
            }
        }
    }

    fn merge(&mut self) {
        let (right, left) = (self.stack.pop(), self.stack.pop());
        let (Some(left), Some(right)) = (left, right) else {
            unreachable!("more than one is on the stack");
        };
        self.stack
            .push(merge_subtrees_non_root(&left, &right, Mode::Hash));
    }

    /// The hash of all of them.
    pub(crate) fn finish(mut self) -> Hash {
        if let Some(hash) = self.root {
            return hash;
        }
        while self.stack.len() > 2 {
            self.merge();
        }
        match self.stack[..] {
            [left, right] => merge_subtrees_root(&left, &right, Mode::Hash),
            _ => blake3::hash(&[]),
        }
    }
}

/// A run of bytes to be hashed. Those that lie near one another are hashed one after the other, so
/// that each byte is read from the disk once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) bytes: &'a [u8],
}

/// BLAKE3 of each span. Progress counts bytes.
pub(crate) fn hash_spans(
    cpu: &Cpu,
    spans: &[Span<'_>],
    progress: &dyn Progress,
) -> Result<Vec<Hash>, PressError> {
    let mut tasks: Vec<(usize, usize)> = Vec::new();
    for (number, span) in spans.iter().enumerate() {
        let starts = (0..span.bytes.len().max(1)).step_by(SUBTREE);
        tasks.extend(starts.map(|start| (number, start)));
    }
    tasks.sort_by_key(|&(number, start)| spans[number].bytes[start..].as_ptr() as usize);
    let nodes: Vec<Mutex<Option<Node>>> = tasks.iter().map(|_| Mutex::new(None)).collect();
    cpu.pool().run(tasks.len(), &|task| {
        if progress.cancelled() {
            return;
        }
        let (number, start) = tasks[task];
        let bytes = spans[number].bytes;
        let piece = &bytes[start..bytes.len().min(start + SUBTREE)];
        let node = subtree(piece, start as u64, bytes.len() as u64);
        *nodes[task].lock().expect("no holder panics") = Some(node);
        progress.advance(piece.len() as u64);
    });
    let mut found: Vec<((usize, usize), Node)> = Vec::new();
    for (task, node) in tasks.into_iter().zip(nodes) {
        let node = node.into_inner().expect("no holder panics");
        found.push((task, node.ok_or(PressError::Interrupted)?));
    }
    found.sort_by_key(|(task, _)| *task);
    let mut trees: Vec<Tree> = spans.iter().map(|_| Tree::default()).collect();
    for ((number, _), node) in found {
        trees[number].push(node);
    }
    Ok(trees.into_iter().map(Tree::finish).collect())
}

#[cfg(test)]
mod tests {
    use lagar_kernels::Isa;

    use super::*;
    use crate::Silent;

    #[test]
    fn spans_of_any_length_hash_as_they_do_in_one_piece() {
        let bytes: Vec<u8> = (0..11 * SUBTREE + 2077)
            .map(|i| (i ^ (i >> 7) ^ (i >> 15)) as u8)
            .collect();
        let mut lengths = vec![0, 1, 1023, 1024, 1025, bytes.len()];
        for subtrees in 1..=11 {
            lengths.extend([-1, 0, 1, 1024].map(|d| (subtrees * SUBTREE).saturating_add_signed(d)));
        }
        let spans: Vec<Span<'_>> = lengths
            .iter()
            .map(|&len| Span {
                bytes: &bytes[..len],
            })
            .collect();
        for threads in [1, 3] {
            let cpu = Cpu::new(Isa::best(), threads);
            let hashes = hash_spans(&cpu, &spans, &Silent).unwrap();
            for (len, hash) in lengths.iter().zip(hashes) {
                assert_eq!(hash, blake3::hash(&bytes[..*len]), "{len}");
            }
        }
    }
}

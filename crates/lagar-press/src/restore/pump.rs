//! From pieces to hashed and written bytes, on all cores and in bounded memory.
//!
//! Two windows take turns: while the pieces of one are made, what is in the other is hashed and
//! written. All of that is tasks of one job, mixed, so that no core waits for the disk while there
//! is something to decode.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use blake3::{Hash, Hasher};
use lagar_format::os;

use super::pieces::{Maker, Piece, lock};
use crate::hash::{Node, SUBTREE, Tree, subtree};
use crate::{PressError, Progress};

/// Bytes that a window takes, and up to one piece more.
const WINDOW: usize = 24 << 20;

/// Where bytes go besides being hashed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    /// Where the first byte goes.
    pub(super) offset: u64,
}

/// Hashes of the tensors that pass by.
#[derive(Debug, Default)]
pub(super) struct TensorHashes {
    /// Hashes under way, with the bytes that are still to come.
    running: Mutex<BTreeMap<usize, (Hasher, u64)>>,
    finished: Mutex<BTreeMap<usize, Hash>>,
}

impl TensorHashes {
    /// Adds a run of bytes of a tensor.
    fn update(&self, maker: &Maker<'_>, tensor: usize, bytes: &[u8]) {
        let running = || lock(&self.running);
        let begun = running().remove(&tensor);
        let (mut hasher, left) = begun.unwrap_or_else(|| {
            let whole = maker.container.index().tensors[tensor].bytes();
            (Hasher::new(), whole)
        });
        hasher.update(bytes);
        match left - bytes.len() as u64 {
            0 => {
                lock(&self.finished).insert(tensor, hasher.finalize());
            }
            left => {
                running().insert(tensor, (hasher, left));
            }
        }
    }

    /// The hashes of the tensors that passed by as a whole.
    pub(super) fn finish(self) -> BTreeMap<usize, Hash> {
        self.finished
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of some pieces, one after the other, behind what the window before left over.
#[derive(Debug, Default)]
struct Window {
    /// Room for what is left over (less than [`SUBTREE`]), then the pieces' bytes. Only grows.
    buffer: Vec<u8>,
    /// Where what is left over begins.
    start: usize,
    /// Where the pieces' bytes end.
    end: usize,
    pieces: Vec<Piece>,
}

impl Window {
    /// Takes pieces, to be made, until there are enough.
    fn take(
        &mut self,
        mut next: impl FnMut() -> Result<Option<Piece>, PressError>,
    ) -> Result<usize, PressError> {
        self.pieces.clear();
        let mut fresh = 0;
        while fresh < WINDOW {
            let Some(piece) = next()? else { break };
            fresh += piece.bytes;
            self.pieces.push(piece);
        }
        (self.start, self.end) = (SUBTREE, SUBTREE + fresh);
        if self.buffer.len() < self.end {
            self.buffer.resize(self.end, 0);
        }
        Ok(fresh)
    }

    /// Puts what is left over of the window before in front of the pieces' bytes.
    fn lead(&mut self, bytes: &[u8]) {
        self.start = SUBTREE - bytes.len();
        self.buffer[self.start..SUBTREE].copy_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The runs of bytes that belong to one tensor.
    fn runs(&self) -> Vec<(usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        let mut at = SUBTREE;
        for piece in &self.pieces {
            let bytes = at..at + piece.bytes;
            at = bytes.end;
            match (piece.tensor, runs.last_mut()) {
                (Some(tensor), Some((same, run))) if *same == tensor && run.end == bytes.start => {
                    run.end = bytes.end;
                }
                (Some(tensor), _) => runs.push((tensor, bytes)),
                (None, _) => {}
            }
        }
        runs
    }
}

/// Makes `total` bytes from pieces, hashes them and writes them to `target` if there is one.
/// `next` gives more pieces until there are none.
pub(super) fn pump(
    maker: &Maker<'_>,
    total: u64,
    mut next: impl FnMut() -> Result<Option<VecDeque<Piece>>, PressError>,
    target: Option<Target<'_>>,
    tensors: Option<&TensorHashes>,
    progress: &dyn Progress,
) -> Result<Hash, PressError> {
    let mut waiting = VecDeque::new();
    let mut next = || loop {
        if let Some(piece) = waiting.pop_front() {
            return Ok(Some(piece));
        }
        match next()? {
            Some(more) => waiting = more,
            None => return Ok(None),
        }
    };
    let mut job = Job {
        maker,
        target,
        tensors,
        offset: 0,
        total,
        failed: Mutex::new(None),
    };
    let mut tree = Tree::default();
    let (mut filling, mut full) = (Window::default(), Window::default());
    full.take(|| Ok(None))?;
    loop {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        let fresh = filling.take(&mut next)?;
        let held = full.bytes().len();
        let ready = match fresh {
            0 => held,
            _ => held / SUBTREE * SUBTREE,
        };
        let nodes = job.run(&full, ready, &mut filling)?;
        nodes.into_iter().flatten().for_each(|node| tree.push(node));
        job.offset += ready as u64;
        progress.advance(fresh as u64);
        if fresh == 0 {
            return Ok(tree.finish());
        }
        filling.lead(&full.bytes()[ready..]);
        std::mem::swap(&mut filling, &mut full);
    }
}

/// What is done with two windows at a time.
struct Job<'a> {
    maker: &'a Maker<'a>,
    target: Option<Target<'a>>,
    tensors: Option<&'a TensorHashes>,
    /// Where the bytes to be hashed start.
    offset: u64,
    total: u64,
    failed: Mutex<Option<PressError>>,
}

impl Job<'_> {
    /// Hashes and writes the first `ready` bytes of `full`, and makes the pieces of `filling`.
    fn run(
        &self,
        full: &Window,
        ready: usize,
        filling: &mut Window,
    ) -> Result<Vec<Option<Node>>, PressError> {
        let subtrees: Vec<&[u8]> = full.bytes()[..ready].chunks(SUBTREE).collect();
        let nodes: Vec<Mutex<Option<Node>>> = subtrees.iter().map(|_| Mutex::new(None)).collect();
        let runs = match self.tensors {
            Some(_) => full.runs(),
            None => Vec::new(),
        };
        let end = filling.end;
        let Window { buffer, pieces, .. } = filling;
        let mut rest = &mut buffer[SUBTREE..];
        let mut outs = Vec::new();
        for piece in &*pieces {
            let (out, after) = rest.split_at_mut(piece.bytes);
            outs.push(Mutex::new(out));
            rest = after;
        }
        let checks = self.maker.due(end - SUBTREE);
        let (long, mixed) = (runs.len() + checks.len(), subtrees.len() + outs.len());
        self.maker.cpu.pool().run(long + mixed, &|task| {
            // The long ones first, then writing and making evenly mixed.
            if let Some((tensor, range)) = runs.get(task) {
                if let Some(tensors) = self.tensors {
                    tensors.update(self.maker, *tensor, &full.buffer[range.clone()]);
                }
            } else if let Some(unit) = checks.get(task - runs.len()) {
                let checked = self.maker.container.check_unit(*unit);
                self.keep(checked.map_err(Into::into));
            } else {
                let task = task - long;
                let before = task * subtrees.len() / mixed;
                if (task + 1) * subtrees.len() / mixed > before {
                    *lock(&nodes[before]) = self.flush(subtrees[before], before);
                } else {
                    let number = task - before;
                    self.keep(self.maker.make(&pieces[number], &mut lock(&outs[number])));
                }
            }
        });
        if let Some(error) = lock(&self.failed).take() {
            return Err(error);
        }
        let node = |node: Mutex<_>| node.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(nodes.into_iter().map(node).collect())
    }

    /// Writes one subtree and hashes it.
    fn flush(&self, bytes: &[u8], number: usize) -> Option<Node> {
        let at = self.offset + (number * SUBTREE) as u64;
        if let Some(target) = self.target {
            let written = os::write_at(target.file, bytes, target.offset + at);
            self.keep(written.map_err(|source| PressError::Io {
                path: target.path.to_owned(),
                source,
            }));
        }
        Some(subtree(bytes, at, self.total))
    }

    /// Keeps the first error.
    fn keep(&self, result: Result<(), PressError>) {
        if let Err(error) = result {
            lock(&self.failed).get_or_insert(error);
        }
    }
}

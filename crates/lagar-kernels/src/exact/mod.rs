//! The exact coder of [`lagar_codec::exact`], fast.

mod decode;
mod fit;

use std::sync::Mutex;

use lagar_codec::CodecError;
use lagar_codec::exact::{ChunkEncoder, ExactModel, ExactShape};

use crate::simd::{Kernel, Simd};
use crate::{Cpu, Pool};

/// Where the encoder gets a tensor from, chunk by chunk.
pub trait ExactSource {
    /// Whether the tiers below give a prediction of the tensor.
    fn predicted(&self) -> bool;

    /// Writes a chunk's original bytes (rows × cols elements) and, if there is one, its prediction
    /// (rows × cols) over what the vectors held. Any thread asks for any chunk, also several times, and
    /// must get the same each time.
    fn chunk(&self, chunk: usize, original: &mut Vec<u8>, predicted: &mut Vec<f32>);
}

/// Encodes one chunk. There is nothing to do by hand, but a compiler that knows the instruction set shifts in
/// fewer instructions.
struct Encode<'a> {
    encoder: &'a ChunkEncoder<'a>,
    chunk: usize,
    original: &'a [u8],
    predicted: &'a [f32],
}

impl Kernel for Encode<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<u8> {
        self.encoder
            .encode(self.chunk, self.original, self.predicted)
    }
}

/// Calls `work` with number, original bytes and prediction of each of some chunks, on all threads, and
/// returns what it returned, in order.
fn for_chunks<T: Send>(
    pool: &Pool,
    source: &(dyn ExactSource + Sync),
    chunks: &[usize],
    work: impl Fn(usize, &[u8], &[f32]) -> T + Sync,
) -> Vec<T> {
    let results: Vec<Mutex<Option<T>>> = chunks.iter().map(|_| Mutex::new(None)).collect();
    pool.run(chunks.len(), &|i| {
        let (mut original, mut predicted) = (Vec::new(), Vec::new());
        source.chunk(chunks[i], &mut original, &mut predicted);
        let result = work(chunks[i], &original, &predicted);
        *results[i].lock().expect("no task panicked with it") = Some(result);
    });
    let result = |slot: Mutex<Option<T>>| {
        slot.into_inner()
            .expect("no task panicked with it")
            .expect("every task has run")
    };
    results.into_iter().map(result).collect()
}

impl Cpu {
    /// Codes a whole tensor with all threads: its model, and the code of each chunk. The bytes depend
    /// on the source only.
    pub fn exact_encode(
        &self,
        shape: &ExactShape,
        source: &(dyn ExactSource + Sync),
    ) -> (ExactModel, Vec<Vec<u8>>) {
        let model = fit::fit(self, shape, source);
        let encoder = ChunkEncoder::new(&model);
        let all: Vec<usize> = (0..shape.chunks()).collect();
        let codes = for_chunks(self.pool(), source, &all, |chunk, original, predicted| {
            self.isa().dispatch(Encode {
                encoder: &encoder,
                chunk,
                original,
                predicted,
            })
        });
        // Where no chunk needs the model, it need not be stored.
        if codes.iter().all(|code| matches!(code[0], 0 | 1)) {
            return (ExactModel::raw(*shape, source.predicted()), codes);
        }
        (model, codes)
    }

    /// Decodes one chunk on the calling thread. `predicted` has the chunk's rows × cols values, or none
    /// if the model has no prediction; `out` receives the original bytes, rows × cols elements.
    ///
    /// # Errors
    ///
    /// A code that the encoder did not write. (Not every damage is found: the tensor's hash is for that.)
    ///
    /// # Panics
    ///
    /// If there is no such chunk, or `predicted` or `out` has another length.
    pub fn exact_decode(
        &self,
        model: &ExactModel,
        chunk: usize,
        code: &[u8],
        predicted: &[f32],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        decode::decode(self.isa(), model, chunk, code, predicted, out)
    }
}

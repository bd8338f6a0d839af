//! The original of one tensor, chunk by chunk.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use lagar_codec::exact::{ExactModel, ExactShape, ExactType};
use lagar_format::{Body, Dtype, ExactBody, PartId, Region, TensorRecord, coded_matrix};
use lagar_kernels::{Cpu, PredictScratch};

use super::Prediction;
use crate::EngineError;
use crate::stored::{PartBytes, PartRange, Take, Tier};

/// A coded tensor. Its chunks are bands of whole rows, each of which can be decoded alone.
#[derive(Debug)]
pub struct ExactTensor {
    file: String,
    name: String,
    model: ExactModel,
    /// The codes of the chunks that were taken.
    codes: Region,
    /// Where each chunk begins in all codes, and where the last one ends.
    offsets: Vec<usize>,
    /// The chunks that were taken: all, except by a model that reads a matrix piece by piece.
    taken: Range<usize>,
    /// Of the rows of the chunks that were taken.
    prediction: Option<Prediction>,
}

/// What the index and the lengths say of a coded tensor.
struct Coded {
    shape: ExactShape,
    /// The parts of model, lengths and codes.
    parts: [PartId; 3],
    offsets: Vec<usize>,
    taken: Range<usize>,
}

/// Buffers of [`ExactTensor::decode_chunk`], kept from call to call. One thread uses one.
#[derive(Debug, Default)]
pub struct ExactScratch {
    predict: PredictScratch,
    predicted: Vec<f32>,
}

impl ExactTensor {
    /// Opens a coded tensor at tier `full`.
    pub(crate) fn open<P: PartBytes>(
        tier: &Tier<'_, P>,
        record: &TensorRecord,
        take: &Take,
    ) -> Result<Self, EngineError> {
        let (stored, name) = (tier.stored, &record.name);
        let Coded {
            shape,
            parts: [model, _, codes],
            offsets,
            taken,
        } = Coded::new(tier, record, take)?;
        let prediction = match (&record.body, tier.below()) {
            (Body::Linear { .. }, Some(below)) => Some(Prediction::open(&below, record, take)?),
            _ => None,
        };
        let model = tier.parts.part(model)?;
        let model = ExactModel::from_bytes(shape, prediction.is_some(), &model);
        let codes = tier
            .parts
            .range(codes, offsets[taken.start]..offsets[taken.end])?;
        Ok(Self {
            file: stored.name().into(),
            name: name.clone(),
            model: model.map_err(stored.code_fault(name))?,
            codes,
            offsets,
            taken,
            prediction,
        })
    }

    /// Rows of a chunk that is not the last.
    pub(crate) fn rows_per_chunk<P: PartBytes>(
        tier: &Tier<'_, P>,
        record: &TensorRecord,
    ) -> Result<usize, EngineError> {
        let coded = Coded::new(tier, record, &Take::All)?;
        Ok(coded.shape.chunk_rows(0).len())
    }

    /// The bytes of the exact section that opening takes: model, lengths, codes.
    pub(crate) fn ranges<P: PartBytes>(
        tier: &Tier<'_, P>,
        record: &TensorRecord,
        take: &Take,
    ) -> Result<[PartRange; 3], EngineError> {
        let Coded {
            parts: [model, lengths, codes],
            offsets,
            taken,
            ..
        } = Coded::new(tier, record, take)?;
        Ok([
            (model, 0..tier.part_len(model)),
            (lengths, 0..tier.part_len(lengths)),
            (codes, offsets[taken.start]..offsets[taken.end]),
        ])
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor as a matrix, and how it is cut into chunks.
    pub fn shape(&self) -> &ExactShape {
        self.model.shape()
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.shape().chunks()
    }

    /// The rows of a chunk.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn chunk_rows(&self, chunk: usize) -> Range<usize> {
        self.shape().chunk_rows(chunk)
    }

    /// Length of the original in bytes.
    pub fn bytes(&self) -> usize {
        let shape = self.shape();
        let last = shape.chunk_rows(self.taken.end - 1);
        let rows = last.end - shape.chunk_rows(self.taken.start).start;
        rows * shape.cols() * shape.element_bytes()
    }

    /// What the tiers below predict; `None` where they have nothing of the tensor.
    pub fn prediction(&self) -> Option<&Prediction> {
        self.prediction.as_ref()
    }

    /// The bytes of a chunk in the part of the codes.
    pub(crate) fn code_range(&self, chunk: usize) -> Range<usize> {
        self.offsets[chunk]..self.offsets[chunk + 1]
    }

    /// Decodes a chunk on the calling thread; `out` receives its rows as they are in the
    /// checkpoint.
    ///
    /// # Errors
    /// Codes that are damaged. Not every damage shows: the hash of the tensor is for that.
    ///
    /// # Panics
    /// If there is no such chunk, or `out` has not the length of its rows.
    pub fn decode_chunk(
        &self,
        cpu: &Cpu,
        chunk: usize,
        scratch: &mut ExactScratch,
        out: &mut [u8],
    ) -> Result<(), EngineError> {
        let ExactScratch { predict, predicted } = scratch;
        predicted.clear();
        if let Some(prediction) = &self.prediction {
            predicted.resize(self.shape().chunk_weights(chunk), 0.0);
            let first = self.chunk_rows(self.taken.start).start;
            let Range { start, end } = self.chunk_rows(chunk);
            prediction.predict(cpu, start - first..end - first, predict, predicted);
        }
        let before = self.offsets[self.taken.start];
        let Range { start, end } = self.code_range(chunk);
        let code = &self.codes[start - before..end - before];
        let decoded = cpu.exact_decode(&self.model, chunk, code, predicted, out);
        decoded.map_err(|source| EngineError::Code {
            file: self.file.clone(),
            tensor: self.name.clone(),
            source,
        })
    }

    /// Decodes everything, on all threads.
    ///
    /// # Errors
    /// As [`ExactTensor::decode_chunk`].
    pub fn decode_all(&self, cpu: &Cpu) -> Result<Vec<u8>, EngineError> {
        let mut out = vec![0; self.bytes()];
        self.decode_into(cpu, &mut out)?;
        Ok(out)
    }

    /// Decodes everything into `out`, on all threads.
    ///
    /// # Errors
    /// As [`ExactTensor::decode_chunk`].
    ///
    /// # Panics
    /// If `out` has not the length of the original.
    pub fn decode_into(&self, cpu: &Cpu, out: &mut [u8]) -> Result<(), EngineError> {
        assert_eq!(out.len(), self.bytes(), "the bytes of {}", self.name);
        let scratches = Mutex::new(Vec::new());
        let failed = Mutex::new(None);
        let whole = self.shape().chunk_bytes(0);
        cpu.pool().chunks(out, whole, |i, out| {
            let chunk = self.taken.start + i;
            let free = || scratches.lock().unwrap_or_else(PoisonError::into_inner);
            let mut scratch: ExactScratch = free().pop().unwrap_or_default();
            if let Err(error) = self.decode_chunk(cpu, chunk, &mut scratch, out) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
            free().push(scratch);
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }
}

impl Coded {
    fn new<P: PartBytes>(
        tier: &Tier<'_, P>,
        record: &TensorRecord,
        take: &Take,
    ) -> Result<Self, EngineError> {
        let (stored, name) = (tier.stored, &record.name);
        let exact = record.exact.as_ref().map(|exact| &exact.body);
        let (
            Some(&ExactBody::Coded {
                model,
                lengths,
                codes,
            }),
            Some(ty),
            Some((rows, cols)),
        ) = (exact, exact_type(record.dtype), coded_matrix(&record.shape))
        else {
            return Err(stored.fault(name, "is not coded"));
        };
        let shape = ExactShape::new(rows as usize, cols as usize, ty);
        let shape = shape.map_err(stored.code_fault(name))?;
        let parts = [model, lengths, codes];
        // From the mapped file, also where the codes are read from the disk: they say what to read.
        let lengths = stored.part(lengths)?;
        let lengths = lengths.as_chunks().0.iter();
        let offsets = offsets(lengths.map(|bytes| u32::from_le_bytes(*bytes)));
        let (found, chunks) = (offsets.len() - 1, shape.chunks());
        if found != chunks {
            let problem = format!("has {found} chunk lengths for {chunks} chunks");
            return Err(stored.fault(name, problem));
        }
        let (end, held) = (offsets[chunks], tier.part_len(codes));
        if end > held as u64 {
            let problem = format!("has chunks of {end} bytes in all, but {held} bytes of codes");
            return Err(stored.fault(name, problem));
        }
        let (rows, per_chunk) = (take.rows(shape.rows()), shape.chunk_rows(0).len());
        assert!(
            rows.start.is_multiple_of(per_chunk) && !rows.is_empty(),
            "whole chunks are taken"
        );
        Ok(Self {
            shape,
            parts,
            offsets: offsets.into_iter().map(|offset| offset as usize).collect(),
            taken: rows.start / per_chunk..rows.end.div_ceil(per_chunk),
        })
    }
}

/// Where chunks of these lengths begin, and the end of the last. A sum of 2^32 numbers of 32 bits
/// fits 64.
fn offsets(lengths: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut offsets = vec![0];
    let mut end = 0;
    for length in lengths {
        end += u64::from(length);
        offsets.push(end);
    }
    offsets
}

/// The coder's name of an element type; `None` for those that it does not code.
pub fn exact_type(dtype: Dtype) -> Option<ExactType> {
    match dtype {
        Dtype::BF16 => Some(ExactType::Bf16),
        Dtype::F16 => Some(ExactType::F16),
        Dtype::F32 => Some(ExactType::F32),
        Dtype::F8E4M3 => Some(ExactType::F8E4M3),
        Dtype::F8E5M2 => Some(ExactType::F8E5M2),
        _ => None,
    }
}

//! One tensor of a checkpoint.

use half::{bf16, f16};
use lagar_format::{Dtype, Region};

use super::is_computable;
use crate::EngineError;

/// A tensor in a mapped file.
#[derive(Debug, Clone)]
pub struct TensorView {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) region: Region,
}

impl TensorView {
    /// The file that it lies in, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its shape, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its bytes, little-endian, row-major, of any alignment.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.region.len() / self.dtype.bytes() as usize
    }

    /// Writes `out.len()` elements from the `first` on as f32.
    ///
    /// # Panics
    /// If they go beyond the tensor, or the type is not F32, F16 or BF16 (which an opened
    /// [`Checkpoint`](super::Checkpoint) rules out for the tensors of its model).
    pub fn read_f32(&self, first: usize, out: &mut [f32]) {
        read_f32(self.dtype, &self.region, first, out);
    }

    /// All elements as f32.
    ///
    /// # Panics
    /// As [`TensorView::read_f32`].
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.elements()];
        self.read_f32(0, &mut out);
        out
    }

    /// Checks shape and type.
    pub(crate) fn check(&self, expected: &[usize]) -> Result<(), EngineError> {
        if self.shape != expected {
            let problem = format!(
                "has shape {:?}, but config.json asks for {expected:?}",
                self.shape
            );
            return Err(EngineError::tensor(&self.file, &self.name, problem));
        }
        if !is_computable(self.dtype) {
            let problem = format!("has type {}; supported are F32, F16 and BF16", self.dtype);
            return Err(EngineError::tensor(&self.file, &self.name, problem));
        }
        Ok(())
    }
}

/// Converts little-endian elements from the `first` on to f32.
pub(crate) fn read_f32(dtype: Dtype, bytes: &[u8], first: usize, out: &mut [f32]) {
    let size = dtype.bytes() as usize;
    let bytes = &bytes[first * size..(first + out.len()) * size];
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        Dtype::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        other => panic!("{other} was refused on opening"),
    }
}

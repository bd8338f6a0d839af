//! Coding one tensor.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lagar_codec::exact::ExactShape;
use lagar_engine::exact::{Prediction, exact_type};
use lagar_format::{Dtype, Region, coded_matrix};
use lagar_kernels::{Cpu, ExactSource, PredictScratch};

use super::unit::{Held, Unit, UnitWriter};
use crate::PressError;

/// Fewer elements are not worth the coder's tables.
const FEWEST: u64 = 1024;

/// The shape of a tensor that is worth coding.
pub(super) fn codable(dtype: Dtype, shape: &[u64]) -> Option<ExactShape> {
    let ty = exact_type(dtype)?;
    let (rows, cols) = coded_matrix(shape)?;
    if rows.checked_mul(cols)? < FEWEST {
        return None;
    }
    ExactShape::new(rows.try_into().ok()?, cols.try_into().ok()?, ty).ok()
}

/// A tensor in the mapped checkpoint, with its prediction.
struct Source<'a> {
    shape: ExactShape,
    bytes: &'a Region,
    cpu: &'a Cpu,
    prediction: Option<&'a Prediction>,
    /// One for each thread that works.
    scratches: Mutex<Vec<PredictScratch>>,
}

impl ExactSource for Source<'_> {
    fn predicted(&self) -> bool {
        self.prediction.is_some()
    }

    fn chunk(&self, chunk: usize, original: &mut Vec<u8>, predicted: &mut Vec<f32>) {
        let row = self.shape.cols() * self.shape.element_bytes();
        let rows = self.shape.chunk_rows(chunk);
        original.clear();
        original.extend_from_slice(&self.bytes[rows.start * row..rows.end * row]);
        predicted.clear();
        if let Some(prediction) = self.prediction {
            let free = || {
                self.scratches
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
            };
            let mut scratch = free().pop().unwrap_or_default();
            predicted.resize(self.shape.chunk_weights(chunk), 0.0);
            prediction.predict(self.cpu, rows, &mut scratch, predicted);
            free().push(scratch);
        }
    }
}

/// Codes a tensor into a unit, which says so where that would not be shorter.
pub(super) fn coded_unit(
    cpu: &Cpu,
    shape: ExactShape,
    bytes: &Region,
    prediction: Option<&Prediction>,
    path: &Path,
) -> Result<Unit, PressError> {
    let source = Source {
        shape,
        bytes,
        cpu,
        prediction,
        scratches: Mutex::default(),
    };
    let (model, codes) = cpu.exact_encode(&shape, &source);
    let model = model.to_bytes();
    let lengths: Vec<u8> = codes
        .iter()
        .flat_map(|code| (code.len() as u32).to_le_bytes())
        .collect();
    let coded = codes.iter().map(Vec::len).sum::<usize>() + model.len() + lengths.len();
    let mut writer = UnitWriter::create(path)?;
    if coded >= bytes.len() {
        return writer.finish(Held::AsItIs);
    }
    let held = Held::Coded {
        model: writer.span([&model[..]])?,
        lengths: writer.span([&lengths[..]])?,
        codes: writer.span(codes.iter().map(|code| &code[..]))?,
    };
    writer.finish(held)
}

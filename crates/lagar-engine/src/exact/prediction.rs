//! A pressed linear as a matrix.

use std::ops::Range;

use lagar_format::{Body, TensorRecord};
use lagar_kernels::{Cpu, PredictScratch};

use crate::EngineError;
use crate::stored::{PartBytes, Pressed, Take, Tier};

/// The matrix that the stages of a pressed linear amount to, in the space of its input: f32 values
/// with the same bits on every machine, so that originals can be coded against it.
#[derive(Debug)]
pub struct Prediction {
    pressed: Pressed,
}

impl Prediction {
    pub(super) fn open<P: PartBytes>(
        tier: &Tier<'_, P>,
        record: &TensorRecord,
        take: &Take,
    ) -> Result<Self, EngineError> {
        let Body::Linear { transform, stages } = &record.body else {
            return Err(tier.stored.fault(&record.name, "is not stored as a linear"));
        };
        Ok(Self {
            pressed: tier.pressed(record, *transform, stages, take)?,
        })
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.pressed.stages[0].layout.rows()
    }

    /// Columns of the matrix.
    pub fn cols(&self) -> usize {
        self.pressed.transform.width()
    }

    /// Writes rows, the first of which is a multiple of 16; `out` is rows × cols. Works on the
    /// calling thread.
    ///
    /// # Panics
    /// If there are no such rows, or `out` has another length.
    pub fn predict(
        &self,
        cpu: &Cpu,
        rows: Range<usize>,
        scratch: &mut PredictScratch,
        out: &mut [f32],
    ) {
        self.pressed.predict(cpu, rows, scratch, out);
    }

    pub(crate) fn pressed(&self) -> &Pressed {
        &self.pressed
    }
}

//! Checksums, checked beside the work that reads the same bytes.

use std::sync::{Mutex, PoisonError};

use lagar_format::{
    Body, CheckUnit, Container, ExactBody, FormatError, PartId, Stage, TensorRecord,
};
use lagar_kernels::Cpu;

use crate::PressError;

/// All units of a file, taken in its order in step with other work: what is checked now is what is
/// decoded now, so that it is read from the disk once.
#[derive(Debug)]
pub(super) struct Checks {
    units: Vec<CheckUnit>,
    /// How many were taken.
    taken: usize,
    /// Steps of the other work that are done, of all.
    done: u64,
    total: u64,
}

impl Checks {
    /// Checks for all complete tiers, beside other work of `total` steps.
    pub(super) fn new(container: &Container, total: u64) -> Result<Self, FormatError> {
        Ok(Self {
            units: container.check_units(container.tiers_complete() - 1)?,
            taken: 0,
            done: 0,
            total,
        })
    }

    /// The units that are due after so many more steps.
    pub(super) fn due(&mut self, steps: u64) -> Vec<CheckUnit> {
        self.done += steps;
        let share =
            u128::from(self.done) * self.units.len() as u128 / u128::from(self.total.max(1));
        let end = (share as usize).clamp(self.taken, self.units.len());
        let due = self.units[self.taken..end].to_vec();
        self.taken = end;
        due
    }

    /// All that are left.
    pub(super) fn rest(&mut self) -> Vec<CheckUnit> {
        let rest = self.units.split_off(self.taken);
        self.taken = self.units.len();
        rest
    }
}

/// Checks units on all cores; the first damage in the order of the file is the error.
pub(super) fn check_all(
    cpu: &Cpu,
    container: &Container,
    units: &[CheckUnit],
) -> Result<(), PressError> {
    let found = Mutex::new(None);
    cpu.pool().run(units.len(), &|i| {
        if let Err(error) = container.check_unit(units[i]) {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|(first, _)| i < *first) {
                *found = Some((i, error));
            }
        }
    });
    match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some((_, error)) => Err(error.into()),
    }
}

/// The units of all parts that a tensor's original bytes come from.
pub(super) fn units_of(container: &Container, number: usize) -> Result<Vec<CheckUnit>, PressError> {
    let index = container.index();
    let mut record = &index.tensors[number];
    if let Some(ExactBody::Same(other)) = record.exact.as_ref().map(|exact| &exact.body) {
        record = &index.tensors[*other];
    }
    let mut parts = parts_of(record);
    if let Body::Linear { transform, .. } = record.body {
        let transform = &index.transforms[transform];
        parts.extend([transform.permutation, transform.signs]);
    }
    let mut units = Vec::new();
    for part in parts {
        let bytes = index.parts[part].bytes;
        units.extend(container.check_units_of(part, 0..bytes)?);
    }
    Ok(units)
}

/// The parts that a tensor's record refers to.
pub(super) fn parts_of(record: &TensorRecord) -> Vec<PartId> {
    let mut found = Vec::new();
    match &record.body {
        Body::Raw { parts, .. } => found.extend(parts),
        Body::Linear { stages, .. } => {
            for stage in stages {
                if let Stage::Window(stage) = stage {
                    found.extend([stage.codes, stage.scales]);
                    found.extend(&stage.row_scales);
                }
            }
        }
        Body::Exact => {}
    }
    match record.exact.as_ref().map(|exact| &exact.body) {
        Some(ExactBody::Stored(blob)) => found.push(blob.part),
        Some(&ExactBody::Coded {
            model,
            lengths,
            codes,
        }) => found.extend([model, lengths, codes]),
        _ => {}
    }
    found
}

//! An embedding in tiers that do not stay in memory: a pass needs a few of its rows only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use lagar_codec::{ROW_UNIT, TILE_ROWS};
use lagar_format::{Dtype, PartId};
use lagar_kernels::Cpu;

use super::super::from_container::Opened;
use super::super::linear::{Linear, RowScratch, Weight};
use super::super::weights::embedding_spec;
use crate::EngineError;
use crate::checkpoint::read_f32;
use crate::exact::{ExactScratch, ExactTensor};
use crate::spec::LinearSpec;
use crate::stored::{Form, PartBytes, Pressed, Stored, Take, Tier, Unchecked};

/// Rows of a matrix in a mapped file. The chunks that a row lies in are checked when it is first
/// asked for.
#[derive(Debug)]
pub(in super::super) struct OnDemand {
    opened: Arc<Opened>,
    rows: Rows,
    /// Of each window stage: codes, scales, row scales; of each low-rank stage: those of both factors; of
    /// each sparse stage: gaps, values. Behind them, of a coded matrix: model, lengths, codes. Of a raw
    /// matrix: its only part.
    parts: Vec<PartId>,
}

#[derive(Debug)]
enum Rows {
    /// Elements or stages.
    Linear(Linear),
    Coded(Dtype, Box<ExactTensor>),
}

impl OnDemand {
    /// The embedding of a tier.
    pub(in super::super) fn new(opened: &Arc<Opened>, tier: usize) -> Result<Self, EngineError> {
        let LinearSpec {
            weight: name,
            outputs,
            inputs,
            ..
        } = embedding_spec(&opened.spec);
        let stored = &opened.stored;
        let unchecked = Unchecked(stored);
        let tier = Tier::new(stored, tier, &unchecked);
        let record = tier.record(&name, &[outputs, inputs])?;
        let ranges = tier.ranges_of(record, &Take::Unread)?;
        let parts: Vec<PartId> = ranges.into_iter().map(|(part, _)| part).collect();
        let linear = |weight| {
            Rows::Linear(Linear {
                outputs,
                inputs,
                weight,
                bias: None,
            })
        };
        let rows = match tier.form(record)? {
            Form::Linear(transform, stages) => {
                let pressed = tier.pressed(record, transform, stages, &Take::Unread)?;
                check_shared(stored, &pressed, &parts)?;
                linear(Weight::Pressed(pressed))
            }
            Form::Raw(dtype, part) => {
                tier.computable(&name, dtype)?;
                let region = unchecked.part(part)?;
                linear(Weight::Dense { dtype, region })
            }
            Form::Blob(dtype, blob) => {
                tier.computable(&name, dtype)?;
                // Where it is compressed, this holds it in memory: single rows cannot be had.
                let region = stored.container().unpack(blob, &stored.part(blob.part)?)?;
                linear(Weight::Dense { dtype, region })
            }
            Form::Coded(dtype, of) => {
                tier.computable(&name, dtype)?;
                if of.shape != record.shape {
                    let problem = "is stored as a tensor of another shape, of which no single rows can \
                                   be had; keep tier full in memory";
                    return Err(stored.fault(&name, problem));
                }
                // The tables are used as a whole; the lengths were checked when they were read.
                if let [.., model, _, _] = parts[..] {
                    stored.part(model)?;
                }
                let tensor = ExactTensor::open(&tier, of, &Take::Unread)?;
                if let Some(prediction) = tensor.prediction() {
                    check_shared(stored, prediction.pressed(), &parts)?;
                }
                Rows::Coded(dtype, tensor.into())
            }
        };
        Ok(Self {
            opened: Arc::clone(opened),
            rows,
            parts,
        })
    }

    pub(super) fn is_pressed(&self) -> bool {
        matches!(&self.rows, Rows::Linear(linear) if matches!(linear.weight, Weight::Pressed(_)))
    }

    /// Writes the rows of tokens; `out` is tokens × hidden.
    pub(super) fn rows(
        &self,
        cpu: &Cpu,
        tokens: &[u32],
        scratch: &mut RowScratch,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        match &self.rows {
            Rows::Linear(linear) => {
                match &linear.weight {
                    Weight::Dense { dtype, .. } => {
                        let width = linear.inputs * dtype.bytes() as usize;
                        for &token in tokens {
                            let start = token as usize * width;
                            self.check(self.parts[0], start..start + width)?;
                        }
                    }
                    Weight::Pressed(pressed) => {
                        let rows = tokens.iter().map(|token| *token as usize);
                        self.check_stages(pressed, rows.map(|row| row / TILE_ROWS).collect())?;
                    }
                }
                linear.rows(cpu, tokens, scratch, out);
                Ok(())
            }
            Rows::Coded(dtype, tensor) => self.decode(cpu, *dtype, tensor, tokens, out),
        }
    }

    /// Decodes every chunk that holds a row of a token, once, and copies the rows.
    fn decode(
        &self,
        cpu: &Cpu,
        dtype: Dtype,
        tensor: &ExactTensor,
        tokens: &[u32],
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let shape = tensor.shape();
        let (cols, per_chunk) = (shape.cols(), tensor.chunk_rows(0).len());
        let mut chunks: BTreeMap<usize, Vec<(usize, &mut [f32])>> = BTreeMap::new();
        for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(cols)) {
            let row = token as usize;
            let wanted = chunks.entry(row / per_chunk).or_default();
            wanted.push((row % per_chunk, out));
        }
        let codes = *self.parts.last().expect("the part of the codes");
        for &chunk in chunks.keys() {
            self.check(codes, tensor.code_range(chunk))?;
            if let Some(prediction) = tensor.prediction() {
                let rows = tensor.chunk_rows(chunk);
                let tile_rows = rows.start / TILE_ROWS..rows.end.div_ceil(TILE_ROWS);
                self.check_stages(prediction.pressed(), tile_rows.collect())?;
            }
        }
        let failed = Mutex::new(None);
        let chunks: Vec<_> = chunks.into_iter().map(Mutex::new).collect();
        cpu.pool().run(chunks.len(), &|task| {
            let mut chunk = chunks[task].lock().unwrap_or_else(PoisonError::into_inner);
            let (chunk, wanted) = &mut *chunk;
            let mut bytes = vec![0; shape.chunk_bytes(*chunk)];
            let mut scratch = ExactScratch::default();
            match tensor.decode_chunk(cpu, *chunk, &mut scratch, &mut bytes) {
                Ok(()) => {
                    for (row, out) in wanted {
                        read_f32(dtype, &bytes, *row * cols, out);
                    }
                }
                Err(error) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), Err)
    }

    /// Checks what the stages have of these tile rows.
    fn check_stages(
        &self,
        pressed: &Pressed,
        tile_rows: BTreeSet<usize>,
    ) -> Result<(), EngineError> {
        let fault = self.opened.stored.code_fault(self.opened.spec.embedding());
        let rows_of = |tile_row: usize, rows: usize| {
            let first = tile_row * TILE_ROWS;
            first..rows.min(first + TILE_ROWS)
        };
        let (windows, rest) = self.parts.split_at(3 * pressed.stages.len());
        let (factors, sparse) = rest.split_at(6 * pressed.low_rank.len());
        let windows = pressed.stages.iter().zip(windows.chunks(3));
        let factors = { pressed.low_rank.iter() }.zip(factors.chunks(6));
        for (stage, parts) in windows.chain(factors.map(|(l, parts)| (&l.u, &parts[3..]))) {
            for &tile_row in &tile_rows {
                let (_, ranges) = stage.layout.strip(rows_of(tile_row, stage.layout.rows()));
                for (part, range) in parts.iter().zip(ranges) {
                    self.check(*part, range)?;
                }
                let checked = stage.layout.check_tile_row(tile_row, &stage.codes);
                checked.map_err(&fault)?;
            }
        }
        for (stage, parts) in pressed.sparse.iter().zip(sparse.chunks(2)) {
            for &tile_row in &tile_rows {
                let rows = rows_of(tile_row, stage.layout.rows());
                let bands = rows.start / ROW_UNIT..rows.end.div_ceil(ROW_UNIT);
                let (_, ranges) = stage.layout.strip(rows);
                for (part, range) in parts.iter().zip(ranges) {
                    self.check(*part, range)?;
                }
                let checked = stage.layout.check(bands, &stage.gaps, &stage.values);
                checked.map_err(&fault)?;
            }
        }
        Ok(())
    }

    fn check(&self, part: PartId, bytes: Range<usize>) -> Result<(), EngineError> {
        let bytes = bytes.start as u64..bytes.end as u64;
        self.opened.stored.check_range(part, bytes)
    }
}

/// Checks what every row needs of the stages: the factors `v` of low rank. (The counts of sparse stages
/// were checked when they were read.)
fn check_shared(stored: &Stored, pressed: &Pressed, parts: &[PartId]) -> Result<(), EngineError> {
    let factors = parts[3 * pressed.stages.len()..].chunks(6);
    for (_, parts) in pressed.low_rank.iter().zip(factors) {
        for part in &parts[..3] {
            stored.part(*part)?;
        }
    }
    Ok(())
}

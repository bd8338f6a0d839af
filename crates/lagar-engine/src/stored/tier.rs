//! Records of the index at one tier.

use std::ops::Range;

use lagar_codec::{SparseLayout, StageLayout};
use lagar_format::{
    Blob, Body, Coding, Dtype, ExactBody, LowRankStage, PartId, SparseStage, TensorRecord,
    WindowStage,
};

use super::{LowRank, PartBytes, Pressed, Sparse, Stage, Stored};
use crate::EngineError;
use crate::exact::ExactTensor;

/// What a tier has of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// Elements of this type in a part.
    Raw(Dtype, PartId),
    /// Stages behind a transform.
    Linear(usize, &'a [lagar_format::Stage]),
    /// The original elements, of this type, perhaps compressed.
    Blob(Dtype, &'a Blob),
    /// The original elements, of this type, coded: those of this tensor, usually the same one.
    Coded(Dtype, &'a TensorRecord),
}

/// What to take of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// All of it.
    All,
    /// Some rows: whole tile rows of stages and whole chunks of the exact section.
    Rows(Range<usize>),
    /// All of it, without touching the codes: whoever uses them checks them.
    Unread,
}

impl Take {
    /// The rows that are taken of a matrix.
    pub(crate) fn rows(&self, all: usize) -> Range<usize> {
        match self {
            Self::Rows(rows) => rows.clone(),
            Self::All | Self::Unread => 0..all,
        }
    }
}

/// Bytes of a part.
pub(crate) type PartRange = (PartId, Range<usize>);

/// A container at one tier, with bytes from wherever they are.
#[derive(Debug)]
pub(crate) struct Tier<'a, P> {
    pub(crate) stored: &'a Stored,
    pub(crate) tier: usize,
    pub(crate) parts: &'a P,
}

impl<'a, P: PartBytes> Tier<'a, P> {
    pub(crate) fn new(stored: &'a Stored, tier: usize, parts: &'a P) -> Self {
        Self {
            stored,
            tier,
            parts,
        }
    }

    /// The record of a tensor, of the right shape.
    pub(crate) fn record(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<&'a TensorRecord, EngineError> {
        let container = self.stored.container();
        let record = container
            .tensor(name)
            .ok_or_else(|| EngineError::MissingTensor {
                file: self.stored.name().into(),
                tensor: name.into(),
                expected: shape.to_vec(),
            })?;
        let expected = shape.iter().map(|d| *d as u64);
        if !record.shape.iter().copied().eq(expected) {
            let found = &record.shape;
            let problem = format!("has shape {found:?}, but config.json asks for {shape:?}");
            return Err(self.stored.fault(name, problem));
        }
        Ok(record)
    }

    /// The part that this tier uses of those that replace one another.
    pub(crate) fn latest(&self, name: &str, parts: &[PartId]) -> Result<PartId, EngineError> {
        let latest = self.stored.container().index().latest(parts, self.tier);
        latest.ok_or_else(|| self.nothing(name, "has nothing"))
    }

    /// What this tier has of a tensor.
    pub(crate) fn form(&self, record: &'a TensorRecord) -> Result<Form<'a>, EngineError> {
        let index = self.stored.container().index();
        let name = &record.name;
        if index.full_tier() == Some(self.tier) {
            let exact = |record: &'a TensorRecord| record.exact.as_ref().map(|exact| &exact.body);
            let mut of = record;
            if let Some(&ExactBody::Same(other)) = exact(of) {
                of = &index.tensors[other];
            }
            match exact(of) {
                Some(ExactBody::Stored(blob)) => return Ok(Form::Blob(record.dtype, blob)),
                Some(ExactBody::Coded { .. }) => return Ok(Form::Coded(record.dtype, of)),
                Some(ExactBody::Raw) => {}
                _ => return Err(self.nothing(name, "has nothing")),
            }
            return match &of.body {
                Body::Raw { parts, .. } => Ok(Form::Raw(record.dtype, self.latest(name, parts)?)),
                _ => Err(self.nothing(name, "has nothing")),
            };
        }
        match &record.body {
            Body::Raw { dtype, parts } => Ok(Form::Raw(*dtype, self.latest(name, parts)?)),
            Body::Linear { transform, stages } => Ok(Form::Linear(*transform, stages)),
            Body::Exact => Err(self.stored.fault(name, "is in the exact section only")),
        }
    }

    /// This file at the tier below, which is what tier `full` is coded against.
    pub(crate) fn below(&self) -> Option<Self> {
        let tier = self.tier.checked_sub(1)?;
        Some(Self { tier, ..*self })
    }

    /// A pressed matrix: the stages of this tier and those below.
    pub(crate) fn pressed(
        &self,
        record: &TensorRecord,
        transform: usize,
        stages: &[lagar_format::Stage],
        take: &Take,
    ) -> Result<Pressed, EngineError> {
        let name = &record.name;
        let [rows, cols] = self.matrix(record)?;
        let (mut windows, mut low_rank, mut sparse) = (Vec::new(), Vec::new(), Vec::new());
        for stage in self.of_tier(stages) {
            match stage {
                lagar_format::Stage::Window(stage) => {
                    windows.push(self.window(name, rows, cols, stage, take)?);
                }
                lagar_format::Stage::LowRank(stage) => {
                    let rank = stage.rank as usize;
                    let v = self.window(name, rank, cols, &stage.v, &Take::All)?;
                    let u = self.window(name, rows, rank, &stage.u, take)?;
                    low_rank.push(LowRank::new(v, u));
                }
                lagar_format::Stage::Sparse(stage) => {
                    sparse.push(self.sparse(name, rows, cols, stage, take)?);
                }
                _ => return Err(self.unknown_stage(name)),
            }
        }
        if windows.is_empty() {
            return Err(self.nothing(name, "has no stage"));
        }
        Ok(Pressed {
            transform: self.stored.transform(name, transform)?,
            stages: windows,
            low_rank,
            sparse,
        })
    }

    /// The stages of this tier and those below.
    fn of_tier<'s>(
        &self,
        stages: &'s [lagar_format::Stage],
    ) -> impl Iterator<Item = &'s lagar_format::Stage> {
        let tier = self.tier;
        stages.iter().filter(move |stage| stage.tier() <= tier)
    }

    fn unknown_stage(&self, name: &str) -> EngineError {
        let problem = "has a stage of a kind not known here";
        self.stored.fault(name, problem)
    }

    /// Rows and columns of a tensor that has stages.
    fn matrix(&self, record: &TensorRecord) -> Result<[usize; 2], EngineError> {
        match record.shape.as_slice() {
            &[rows, cols] => Ok([rows as usize, cols as usize]),
            _ => {
                let problem = "has stages, but is no matrix";
                Err(self.stored.fault(&record.name, problem))
            }
        }
    }

    fn window(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        stage: &WindowStage,
        take: &Take,
    ) -> Result<Stage, EngineError> {
        let (layout, [codes, scales, row_scales]) =
            self.window_ranges(name, rows, cols, stage, take)?;
        let part = |(id, bytes)| self.parts.range(id, bytes);
        let loaded = Stage {
            table: self.stored.table(name, stage.table)?,
            codes: part(codes)?,
            scales: part(scales)?,
            row_scales: part(row_scales)?,
            layout,
        };
        if let Err(error) = loaded.view() {
            return Err(self.stored.fault(name, error.to_string()));
        }
        let (layout, codes) = (&loaded.layout, &loaded.codes);
        let checked = match take {
            Take::All => layout.check_codes(codes),
            Take::Rows(_) => {
                let mut tile_rows = 0..layout.tile_rows();
                tile_rows.try_for_each(|tile_row| layout.check_tile_row(tile_row, codes))
            }
            Take::Unread => Ok(()),
        };
        checked.map_err(self.stored.code_fault(name))?;
        Ok(loaded)
    }

    /// The layout of what is taken of a stage, and its codes, scales and row scales.
    fn window_ranges(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        stage: &WindowStage,
        take: &Take,
    ) -> Result<(StageLayout, [PartRange; 3]), EngineError> {
        let whole = StageLayout::new(rows, cols, &stage.depths);
        let whole = whole.map_err(self.stored.code_fault(name))?;
        let (layout, [codes, scales, row_scales]) = whole.strip(take.rows(whole.rows()));
        let last = self.latest(name, &stage.row_scales)?;
        let ranges = [
            (stage.codes, codes),
            (stage.scales, scales),
            (last, row_scales),
        ];
        Ok((layout, ranges))
    }

    fn sparse(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        stage: &SparseStage,
        take: &Take,
    ) -> Result<Sparse, EngineError> {
        let (layout, [gaps, values]) = self.sparse_ranges(name, rows, cols, stage, take)?;
        let part = |(id, bytes)| self.parts.range(id, bytes);
        let loaded = Sparse {
            layout,
            gaps: part(gaps)?,
            values: part(values)?,
        };
        if let Err(error) = loaded.view() {
            return Err(self.stored.fault(name, error.to_string()));
        }
        if *take != Take::Unread {
            let bands = 0..loaded.layout.bands();
            let checked = loaded.layout.check(bands, &loaded.gaps, &loaded.values);
            checked.map_err(self.stored.code_fault(name))?;
        }
        Ok(loaded)
    }

    /// The layout of what is taken of a sparse stage, and its gaps and values.
    fn sparse_ranges(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        stage: &SparseStage,
        take: &Take,
    ) -> Result<(SparseLayout, [PartRange; 2]), EngineError> {
        // From the mapped file, also where the entries are read from the disk: they say what to read.
        let counts = self.stored.part(stage.counts)?;
        let whole = SparseLayout::new(rows, cols, stage.gap_bytes, &counts);
        let whole = whole.map_err(self.stored.code_fault(name))?;
        let (counted, held) = (whole.values_len(), self.part_len(stage.values));
        if counted != held {
            let problem = format!(
                "has a sparse stage whose counts make {counted} bytes of values, but {held} are there"
            );
            return Err(self.stored.fault(name, problem));
        }
        let (layout, [gaps, values]) = whole.strip(take.rows(rows));
        Ok((layout, [(stage.gaps, gaps), (stage.values, values)]))
    }

    /// The bytes that this tier's form of a tensor is made of, those of its transform and the counts of
    /// sparse stages left out: those of its stages, then those of the exact section.
    pub(crate) fn ranges_of(
        &self,
        record: &'a TensorRecord,
        take: &Take,
    ) -> Result<Vec<PartRange>, EngineError> {
        match self.form(record)? {
            Form::Raw(dtype, part) => Ok(vec![(part, element_range(record, dtype, take))]),
            Form::Blob(dtype, blob) => Ok(vec![match blob.coding {
                Coding::Raw => (blob.part, element_range(record, dtype, take)),
                // Its pieces know nothing of rows.
                _ => (blob.part, 0..self.part_len(blob.part)),
            }]),
            Form::Linear(_, stages) => self.ranges_of_stages(record, stages, take),
            Form::Coded(_, of) => {
                let mut ranges = match (&of.body, self.below()) {
                    (Body::Linear { stages, .. }, Some(below)) => {
                        below.ranges_of_stages(of, stages, take)?
                    }
                    _ => Vec::new(),
                };
                ranges.extend(ExactTensor::ranges(self, of, take)?);
                Ok(ranges)
            }
        }
    }

    /// Of each window stage codes, scales and row scales; then the same of both factors, `v` and `u`, of
    /// each low-rank stage; then the gaps and values of each sparse stage.
    fn ranges_of_stages(
        &self,
        record: &TensorRecord,
        stages: &[lagar_format::Stage],
        take: &Take,
    ) -> Result<Vec<PartRange>, EngineError> {
        let name = &record.name;
        let [rows, cols] = self.matrix(record)?;
        let (mut ranges, mut factors, mut sparse) = (Vec::new(), Vec::new(), Vec::new());
        for stage in self.of_tier(stages) {
            match stage {
                lagar_format::Stage::Window(stage) => {
                    ranges.extend(self.window_ranges(name, rows, cols, stage, take)?.1);
                }
                lagar_format::Stage::LowRank(LowRankStage { rank, v, u }) => {
                    let rank = *rank as usize;
                    factors.extend(self.window_ranges(name, rank, cols, v, &Take::All)?.1);
                    factors.extend(self.window_ranges(name, rows, rank, u, take)?.1);
                }
                lagar_format::Stage::Sparse(stage) => {
                    sparse.extend(self.sparse_ranges(name, rows, cols, stage, take)?.1);
                }
                _ => return Err(self.unknown_stage(name)),
            }
        }
        ranges.extend(factors);
        ranges.extend(sparse);
        Ok(ranges)
    }

    /// Length of a part.
    pub(crate) fn part_len(&self, part: PartId) -> usize {
        self.stored.container().index().parts[part].bytes as usize
    }

    fn nothing(&self, name: &str, what: &str) -> EngineError {
        let tier = &self.stored.container().index().tiers[self.tier].name;
        self.stored.fault(name, format!("{what} in tier {tier}"))
    }

    /// Refuses element types that cannot be computed with.
    pub(crate) fn computable(&self, name: &str, dtype: Dtype) -> Result<(), EngineError> {
        if crate::checkpoint::is_computable(dtype) {
            return Ok(());
        }
        let problem = format!("has type {dtype}; supported are F32, F16 and BF16");
        Err(self.stored.fault(name, problem))
    }
}

/// Where the elements of what is taken of a tensor are, its last dimension being the columns.
pub(crate) fn element_range(record: &TensorRecord, dtype: Dtype, take: &Take) -> Range<usize> {
    let rows = record.shape.first().map_or(1, |rows| *rows as usize);
    let row = match rows {
        0 => 0,
        rows => record.elements() as usize / rows * dtype.bytes() as usize,
    };
    let Range { start, end } = take.rows(rows);
    start * row..end * row
}

//! Making the exact section: a unit for each tensor and file that is worth one, then all of it
//! behind the tiers below.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use blake3::Hash;
use lagar_codec::exact::ExactShape;
use lagar_engine::exact::Tensors;
use lagar_format::{
    Blob, Body, Coding, Container, Exact, ExactBody, FULL_TIER, FormatError, Index, PartSource,
    Region, Segment, TensorRecord, Writer,
};
use lagar_kernels::Cpu;

use super::blob::{compressible, zlib_unit};
use super::plan::{Piece, Plan, PlannedTensor};
use super::tensor::{codable, coded_unit};
use super::unit::{Held, Unit};
use crate::partial::Partial;
use crate::{PressError, Progress};

/// Bytes up to which a file's own bytes are compressed in memory, without a unit.
const IN_MEMORY: usize = 1 << 16;
/// And so many in all.
const MOST_IN_MEMORY: usize = 1 << 26;

/// What the exact section is put behind.
pub(crate) enum Below {
    /// A file of the tiers below, opened by its name.
    Tiers(Box<Container>),
    /// Nothing; the file is described so.
    Nothing(Box<Index>),
}

/// Makes the section and writes the whole file to `output`. Returns the number of units that were
/// taken over.
pub(crate) fn write(
    cpu: &Cpu,
    plan: &Plan,
    below: Below,
    partial: &Partial,
    output: &Path,
    progress: &dyn Progress,
) -> Result<usize, PressError> {
    let (writer, base) = match below {
        Below::Tiers(container) => {
            let writer = Writer::extending(&container)?;
            (writer, Some(Tensors::new(Arc::new(*container))))
        }
        Below::Nothing(index) => (Writer::new(*index), None),
    };
    let first_of_files = base.is_none();
    let bytes = plan.folder.files.iter().map(|file| file.bytes.len() as u64);
    progress.phase("Coding the exact section", bytes.sum());
    let mut section = Section {
        cpu,
        plan,
        base,
        partial,
        progress,
        writer,
        empty: None,
        in_memory: 0,
        resumed: 0,
    };
    section.writer.begin_tier(FULL_TIER);
    if first_of_files {
        for (file, planned) in plan.folder.files.iter().zip(&plan.files) {
            if planned.pieces == [Piece::Carried] {
                section.writer.file(&file.name, &file.bytes);
            }
        }
    }
    let numbers = section.tensors()?;
    section.files(&numbers)?;
    let Section {
        writer, resumed, ..
    } = section;
    progress.phase("Writing", 1000);
    let mut shown = 0;
    let mut go_on = |done: u64, total: u64| {
        let now = (u128::from(done) * 1000 / u128::from(total.max(1))) as u64;
        progress.advance(now - shown);
        shown = now;
        !progress.cancelled()
    };
    match writer.write_with(output, &mut go_on) {
        Err(FormatError::Interrupted) => Err(PressError::Interrupted),
        written => written.map(|_| resumed).map_err(Into::into),
    }
}

struct Section<'a> {
    cpu: &'a Cpu,
    plan: &'a Plan,
    /// The tiers below.
    base: Option<Tensors>,
    partial: &'a Partial,
    progress: &'a dyn Progress,
    writer: Writer,
    /// A part of no bytes, once there is one.
    empty: Option<usize>,
    /// Bytes that were compressed without a unit.
    in_memory: usize,
    resumed: usize,
}

impl Section<'_> {
    /// Gives every tensor its record; returns the records' numbers in the plan's order.
    fn tensors(&mut self) -> Result<Vec<usize>, PressError> {
        let below: HashMap<String, usize> = self
            .writer
            .index()
            .tensors
            .iter()
            .enumerate()
            .map(|(number, tensor)| (tensor.name.clone(), number))
            .collect();
        let mut numbers = Vec::new();
        for tensor in &self.plan.tensors {
            let number = match below.get(&tensor.name) {
                Some(&number) => {
                    let record = &self.writer.index().tensors[number];
                    if record.shape != tensor.shape || record.dtype != tensor.dtype {
                        return Err(self.changed(tensor));
                    }
                    number
                }
                None => {
                    self.writer.tensor(TensorRecord {
                        name: tensor.name.clone(),
                        shape: tensor.shape.clone(),
                        dtype: tensor.dtype,
                        body: Body::Exact,
                        exact: None,
                    });
                    self.writer.index().tensors.len() - 1
                }
            };
            numbers.push(number);
        }
        // Of tensors with the same bytes the one that is pressed is coded, with its prediction.
        let mut first: HashMap<Hash, usize> = HashMap::new();
        for pressed in [true, false] {
            for (tensor, &number) in self.plan.tensors.iter().zip(&numbers) {
                let body = &self.writer.index().tensors[number].body;
                if (*body != Body::Exact) == pressed {
                    first.entry(tensor.hash).or_insert(number);
                }
            }
        }
        for (position, tensor) in self.plan.tensors.iter().enumerate() {
            if self.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            let number = numbers[position];
            let body = match first[&tensor.hash] {
                same if same != number => ExactBody::Same(same),
                _ => self.tensor(position, tensor, number)?,
            };
            if !matches!(body, ExactBody::Stored(_)) {
                self.progress.advance(tensor.range.len() as u64);
            }
            self.writer.index_mut().tensors[number].exact = Some(Exact {
                blake3: tensor.hash.to_hex().to_string(),
                body,
            });
        }
        match self
            .writer
            .index()
            .tensors
            .iter()
            .find(|t| t.exact.is_none())
        {
            None => Ok(numbers),
            Some(missing) => Err(PressError::Changed {
                what: format!("tensor {}", missing.name),
            }),
        }
    }

    fn changed(&self, tensor: &PlannedTensor) -> PressError {
        let file = &self.plan.folder.files[tensor.file];
        PressError::Changed {
            what: format!("tensor {} in {}", tensor.name, file.path.display()),
        }
    }

    /// Where a tensor's original bytes will be.
    fn tensor(
        &mut self,
        position: usize,
        tensor: &PlannedTensor,
        number: usize,
    ) -> Result<ExactBody, PressError> {
        let bytes = self.plan.bytes(tensor);
        if self.is_raw_below(number, &bytes)? {
            return Ok(ExactBody::Raw);
        }
        let path = self.partial.unit(&format!("exact-{position:06}"));
        if let Some(shape) = codable(tensor.dtype, &tensor.shape) {
            let unit = match self.take_over(&path)? {
                Some(unit) => unit,
                None => self.coded(number, shape, &bytes, &path)?,
            };
            if let Held::Coded {
                model,
                lengths,
                codes,
            } = unit.held
            {
                return Ok(ExactBody::Coded {
                    model: self.writer.part(unit.part(model)),
                    lengths: self.writer.part(unit.part(lengths)),
                    codes: self.writer.part(unit.part(codes)),
                });
            }
        }
        let path = self.partial.unit(&format!("exact-{position:06}-zlib"));
        self.blob(tensor.file, tensor.range.start, &bytes, &path)
            .map(ExactBody::Stored)
    }

    /// Whether a model of the tier `full` uses these very bytes.
    fn is_raw_below(&self, number: usize, bytes: &[u8]) -> Result<bool, PressError> {
        let (Some(base), index) = (&self.base, self.writer.index()) else {
            return Ok(false);
        };
        let record = &index.tensors[number];
        let Body::Raw { dtype, parts } = &record.body else {
            return Ok(false);
        };
        let last = index.latest(parts, index.tiers.len());
        match last {
            Some(part) if *dtype == record.dtype => Ok(base.container().part(part)?[..] == *bytes),
            _ => Ok(false),
        }
    }

    /// Codes a tensor against what the tiers below predict of it.
    fn coded(
        &self,
        number: usize,
        shape: ExactShape,
        bytes: &Region,
        path: &Path,
    ) -> Result<Unit, PressError> {
        let prediction = match &self.base {
            Some(base) if number < base.container().index().tensors.len() => {
                base.prediction(number, base.container().index().tiers.len() - 1)?
            }
            _ => None,
        };
        coded_unit(self.cpu, shape, bytes, prediction.as_ref(), path)
    }

    fn take_over(&mut self, path: &Path) -> Result<Option<Unit>, PressError> {
        let unit = Unit::read(path)?;
        self.resumed += usize::from(unit.is_some());
        Ok(unit)
    }

    /// Gives every file its segments.
    fn files(&mut self, numbers: &[usize]) -> Result<(), PressError> {
        let mut sources = self.plan.sources();
        let carried: Vec<String> = self
            .writer
            .index()
            .files
            .iter()
            .map(|file| file.name.clone())
            .collect();
        for (number, source) in sources.iter_mut().enumerate() {
            let file = &self.plan.folder.files[number];
            for (at, piece) in self.plan.files[number].pieces.iter().enumerate() {
                let segment = match piece {
                    Piece::Carried if carried.contains(&file.name) => {
                        self.check_carried(number)?;
                        self.progress.advance(file.bytes.len() as u64);
                        Segment::Stored(file.name.clone())
                    }
                    Piece::Tensor(position) => Segment::Tensor(numbers[*position]),
                    Piece::Carried if file.bytes.is_empty() => continue,
                    Piece::Bytes(range) if range.is_empty() => continue,
                    Piece::Carried | Piece::Bytes(_) => {
                        let range = match piece {
                            Piece::Bytes(range) => range.clone(),
                            _ => 0..file.bytes.len(),
                        };
                        let unit = format!("exact-file-{number:04}-{at:06}");
                        let path = self.partial.unit(&unit);
                        let bytes = &file.bytes[range.clone()];
                        Segment::Bytes(self.blob(number, range.start, bytes, &path)?)
                    }
                };
                source.segments.push(segment);
            }
        }
        self.writer.index_mut().source = sources;
        Ok(())
    }

    /// The tiers below must have been made from the same small files.
    fn check_carried(&self, number: usize) -> Result<(), PressError> {
        let file = &self.plan.folder.files[number];
        match &self.base {
            Some(base) if base.container().file(&file.name)?[..] != file.bytes[..] => {
                Err(PressError::Changed {
                    what: file.path.display().to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a file from `offset` on, as a part of the section.
    fn blob(
        &mut self,
        file: usize,
        offset: usize,
        bytes: &[u8],
        unit: &Path,
    ) -> Result<Blob, PressError> {
        let length = bytes.len() as u64;
        let raw = |part| Blob {
            part,
            bytes: length,
            coding: Coding::Raw,
            lengths: Vec::new(),
        };
        let zlib = |part, lengths| Blob {
            part,
            bytes: length,
            coding: Coding::Zlib,
            lengths,
        };
        if bytes.is_empty() {
            let empty = match self.empty {
                Some(part) => part,
                None => self.writer.part(Vec::new()),
            };
            self.empty = Some(empty);
            return Ok(raw(empty));
        }
        if compressible(bytes) {
            if bytes.len() <= IN_MEMORY && self.in_memory < MOST_IN_MEMORY {
                self.in_memory += bytes.len();
                self.progress.advance(length);
                let stream = lagar_format::compress(bytes);
                let stored = stream.len() as u64;
                return Ok(zlib(self.writer.part(stream), vec![stored]));
            }
            let unit = match self.take_over(unit)? {
                Some(unit) => {
                    self.progress.advance(length);
                    unit
                }
                None => zlib_unit(self.cpu, bytes, unit, self.progress)?,
            };
            if let Held::Zlib { streams, lengths } = &unit.held {
                return Ok(zlib(self.writer.part(unit.part(*streams)), lengths.clone()));
            }
        }
        self.progress.advance(length);
        let part = self.writer.part(PartSource::File {
            path: self.plan.folder.files[file].path.clone(),
            offset: offset as u64,
            bytes: length,
        });
        Ok(raw(part))
    }
}

//! What a container stores, seen at one of its tiers.
//!
//! [`Stored`] is an open container with what everything shares that reads from it. [`Tier`] turns
//! the index's records into stages and elements; where the bytes come from is up to a
//! [`PartBytes`]: the mapped file, or a buffer that was read from the disk.

mod spare;
mod stage;
mod tier;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lagar_codec::{CodecError, Split, Table, Transform};
use lagar_format::{Container, FormatError, Levels, PartId, Region, TableRecord, TransformRecord};

use crate::EngineError;
pub(crate) use spare::Spare;
pub(crate) use stage::{LowRank, Pressed, Sparse, Stage};
pub(crate) use tier::{Form, PartRange, Take, Tier, element_range};

/// Where the bytes of parts come from.
pub(crate) trait PartBytes {
    /// Some bytes of a part.
    fn range(&self, id: PartId, bytes: Range<usize>) -> Result<Region, EngineError>;

    /// All bytes of a part.
    fn part(&self, id: PartId) -> Result<Region, EngineError>;
}

/// An open container, and what is known and shared of it.
#[derive(Debug)]
pub(crate) struct Stored {
    container: Arc<Container>,
    name: String,
    tables: Mutex<BTreeMap<usize, Arc<Table>>>,
    transforms: Mutex<BTreeMap<usize, Arc<Transform>>>,
    checked: Mutex<Checked>,
}

/// Whose checksums were found right.
#[derive(Debug, Default)]
struct Checked {
    /// All tiers before this one.
    tiers: usize,
    /// Chunks of later tiers.
    chunks: BTreeSet<(PartId, usize)>,
}

impl Stored {
    pub(crate) fn new(container: Arc<Container>) -> Self {
        Self {
            name: shown(&container),
            container,
            tables: Mutex::default(),
            transforms: Mutex::default(),
            checked: Mutex::default(),
        }
    }

    pub(crate) fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// What to call the file in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fault(&self, tensor: &str, problem: impl Into<String>) -> EngineError {
        EngineError::tensor(&self.name, tensor, problem)
    }

    pub(crate) fn code_fault(&self, tensor: &str) -> impl Fn(CodecError) -> EngineError {
        let (file, tensor) = (self.name.clone(), tensor.to_owned());
        move |source| EngineError::Code {
            file: file.clone(),
            tensor: tensor.clone(),
            source,
        }
    }

    /// Checks what was not checked before of a tier and those below it.
    pub(crate) fn check_tier(&self, tier: usize) -> Result<(), EngineError> {
        let parts = &self.container.index().parts;
        let before = lock(&self.checked).tiers;
        for unit in self.container.check_units(tier)? {
            if parts[unit.part()].tier >= before {
                self.container.check_unit(unit)?;
            }
        }
        self.trust(tier);
        Ok(())
    }

    /// Takes a tier and those below it as checked.
    pub(crate) fn trust(&self, tier: usize) {
        let mut checked = lock(&self.checked);
        checked.tiers = checked.tiers.max(tier + 1);
        let parts = &self.container.index().parts;
        checked.chunks.retain(|(part, _)| parts[*part].tier > tier);
    }

    /// Checks the chunks of a part that hold a range of it, unless they were checked before.
    pub(crate) fn check_range(&self, part: PartId, bytes: Range<u64>) -> Result<(), EngineError> {
        let tier = self.container.index().parts.get(part).map(|part| part.tier);
        for unit in self.container.check_units_of(part, bytes)? {
            let chunk = (part, unit.chunk());
            let known = |checked: &Checked| {
                tier.is_some_and(|tier| tier < checked.tiers) || checked.chunks.contains(&chunk)
            };
            if !known(&lock(&self.checked)) {
                self.container.check_unit(unit)?;
                lock(&self.checked).chunks.insert(chunk);
            }
        }
        Ok(())
    }

    /// A table; `tensor` is what it is for.
    fn table(&self, tensor: &str, id: usize) -> Result<Arc<Table>, EngineError> {
        if let Some(table) = lock(&self.tables).get(&id) {
            return Ok(Arc::clone(table));
        }
        let record = &self.container.index().tables[id];
        let table = Arc::new(table(record).map_err(self.code_fault(tensor))?);
        lock(&self.tables).insert(id, Arc::clone(&table));
        Ok(table)
    }

    /// A transform, always from the mapped file; `tensor` is what it is for.
    fn transform(&self, tensor: &str, id: usize) -> Result<Arc<Transform>, EngineError> {
        if let Some(transform) = lock(&self.transforms).get(&id) {
            return Ok(Arc::clone(transform));
        }
        let record = &self.container.index().transforms[id];
        let TransformRecord {
            permutation, signs, ..
        } = *record;
        let (permutation, signs) = (self.part(permutation)?, self.part(signs)?);
        let transform = transform(record.width as usize, &permutation, &signs);
        let transform = Arc::new(transform.map_err(self.code_fault(tensor))?);
        // Another thread may have been first: linears that share one share the object.
        let mut known = lock(&self.transforms);
        Ok(Arc::clone(known.entry(id).or_insert(transform)))
    }
}

/// The mapped file. What was not checked yet is checked first.
impl PartBytes for Stored {
    fn range(&self, id: PartId, bytes: Range<usize>) -> Result<Region, EngineError> {
        let region = slice(id, &self.container.part(id)?, bytes.clone())?;
        self.check_range(id, bytes.start as u64..bytes.end as u64)?;
        Ok(region)
    }

    fn part(&self, id: PartId) -> Result<Region, EngineError> {
        let region = self.container.part(id)?;
        self.check_range(id, 0..region.len() as u64)?;
        Ok(region)
    }
}

/// The mapped file as it is, for those who check what they use of it.
pub(crate) struct Unchecked<'a>(pub(crate) &'a Stored);

impl PartBytes for Unchecked<'_> {
    fn range(&self, id: PartId, bytes: Range<usize>) -> Result<Region, EngineError> {
        slice(id, &self.0.container.part(id)?, bytes)
    }

    fn part(&self, id: PartId) -> Result<Region, EngineError> {
        Ok(self.0.container.part(id)?)
    }
}

/// Some bytes of a part, which need not be there.
fn slice(id: PartId, part: &Region, bytes: Range<usize>) -> Result<Region, EngineError> {
    let needed = bytes.end as u64;
    let len = part.len() as u64;
    let short = FormatError::PartTooShort {
        part: id,
        len,
        needed,
    };
    part.slice(bytes).ok_or(EngineError::Container(short))
}

/// Locks data that no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn shown(container: &Container) -> String {
    match container.path() {
        Some(path) => path.display().to_string(),
        None => "the .lagar file".into(),
    }
}

fn table(record: &TableRecord) -> Result<Table, CodecError> {
    match &record.levels {
        Levels::Free(levels) => Table::from_levels(record.depth, record.window, levels.clone()),
        Levels::Split {
            a,
            b,
            a_sign_bit,
            b_sign_bit,
        } => Table::from_split(
            record.depth,
            Split {
                a: *a,
                b: *b,
                a_sign_bit: *a_sign_bit,
                b_sign_bit: *b_sign_bit,
            },
        ),
    }
}

/// Reads a transform: a permutation of u16 (u32 above a width of 65536), and one bit per sign.
fn transform(width: usize, permutation: &[u8], signs: &[u8]) -> Result<Transform, CodecError> {
    let permutation = if width <= 1 << 16 {
        let entries = permutation.as_chunks().0.iter();
        entries.map(|e| u16::from_le_bytes(*e).into()).collect()
    } else {
        let entries = permutation.as_chunks().0.iter();
        entries.map(|e| u32::from_le_bytes(*e)).collect()
    };
    let bits = signs
        .iter()
        .flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
    Transform::new(width, permutation, bits.take(width).collect())
}

//! Checking a file without writing anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lagar_engine::exact::Tensors;
use lagar_format::{Container, ExactBody, FormatError, Limits, PartId, Segment};
use lagar_kernels::Cpu;

use super::against::{Difference, differences};
use super::checks::parts_of;
use super::pieces::Maker;
use super::pump::{TensorHashes, pump};
use crate::{PressError, Progress};

/// What [`verify`] found out about a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierState {
    /// Its name.
    pub name: String,
    /// Whether the file holds it to its end.
    pub complete: bool,
    /// Whether it is complete and neither it nor a tier below it is damaged: it can be used.
    pub intact: bool,
}

/// Something in a file that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The tier that is damaged, and with it those above.
    pub tier: String,
    /// The tensor, where the damage is in one.
    pub tensor: Option<String>,
    /// The chunks of a tensor's exact codes that lie in the damaged bytes, the first and the last.
    pub chunks: Option<(usize, usize)>,
    /// What is wrong, in words.
    pub message: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verification {
    /// The tiers, from the first on.
    pub tiers: Vec<TierState>,
    /// Whether the exact section is there to its end, so that the checkpoint was decoded.
    pub exact: bool,
    /// Files of the checkpoint that were decoded, and their bytes.
    pub files: usize,
    /// See `files`.
    pub bytes: u64,
    /// Tensors whose hashes were compared.
    pub tensors: usize,
    /// All damage.
    pub damage: Vec<Damage>,
    /// What differs from a checkpoint folder; `None` where none was given.
    pub differences: Option<Vec<Difference>>,
}

impl Verification {
    /// Whether nothing is damaged and nothing differs.
    pub fn is_good(&self) -> bool {
        self.damage.is_empty() && self.differences.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Checks every checksum of the complete tiers, decodes the exact section where the file has it to
/// its end and compares the hash of every file and tensor; with `against`, compares with a
/// checkpoint folder too. Writes nothing.
///
/// # Errors
/// A file whose header or index cannot be used, [`PressError::Interrupted`], and errors of reading
/// `against`. Damage and differences are no errors: they are in the answer.
pub fn verify(
    cpu: &Cpu,
    file: &Path,
    against: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Verification, PressError> {
    let container = Arc::new(Container::open(file, &Limits::default())?);
    let mut damage = checksums(cpu, &container, progress)?;
    let index = container.index();
    let complete = container.tiers_complete();
    if let (bytes @ 1.., Some(tier)) = (container.partial_bytes(), index.tiers.get(complete)) {
        let name = &tier.name;
        damage.push(Damage {
            tier: name.clone(),
            tensor: None,
            chunks: None,
            message: format!(
                "the file ends within tier {name:?}, {bytes} bytes behind the end of the tier below"
            ),
        });
    }
    let exact = index.full_tier().is_some_and(|full| full < complete);
    let (mut files, mut bytes, mut tensors) = (0, 0, 0);
    if exact {
        let decoded = decode(cpu, &Tensors::new(Arc::clone(&container)), progress)?;
        damage.extend(decoded.damage);
        tensors = decoded.tensors;
        files = index.source.len();
        bytes = index.source.iter().map(|file| file.bytes).sum();
    }
    let differences = match against {
        Some(folder) => Some(differences(cpu, &container, folder, progress)?),
        None => None,
    };
    let damaged = |tier: &str| damage.iter().any(|damage| damage.tier == tier);
    let first = index.tiers.iter().position(|tier| damaged(&tier.name));
    let tiers = index
        .tiers
        .iter()
        .enumerate()
        .map(|(number, tier)| TierState {
            name: tier.name.clone(),
            complete: number < complete,
            intact: number < complete && first.is_none_or(|first| number < first),
        });
    Ok(Verification {
        tiers: tiers.collect(),
        exact,
        files,
        bytes,
        tensors,
        damage,
        differences,
    })
}

/// Decodes a finished file and compares every hash; the first damage is an error.
pub(crate) fn check_exact(
    cpu: &Cpu,
    container: Container,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    let path = container.path().unwrap_or(Path::new("")).to_owned();
    let container = Arc::new(container);
    let found = checksums(cpu, &container, progress)?;
    let decoded = match found.is_empty() {
        true => decode(cpu, &Tensors::new(container), progress)?.damage,
        false => found,
    };
    match decoded.into_iter().next() {
        None => Ok(()),
        Some(damage) => Err(PressError::ReadBack {
            path,
            what: damage.message,
        }),
    }
}

/// Checks the checksums of all that is there.
fn checksums(
    cpu: &Cpu,
    container: &Container,
    progress: &dyn Progress,
) -> Result<Vec<Damage>, PressError> {
    let units = container.check_units(container.tiers_complete() - 1)?;
    progress.phase("Checking", units.iter().map(|unit| unit.bytes()).sum());
    let found = Mutex::new(Vec::new());
    cpu.pool().run(units.len(), &|i| {
        if progress.cancelled() {
            return;
        }
        if let Err(error) = container.check_unit(units[i]) {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push((i, error));
        }
        progress.advance(units[i].bytes());
    });
    if progress.cancelled() {
        return Err(PressError::Interrupted);
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(unit, _)| *unit);
    let broken: BTreeSet<PartId> = found.iter().map(|(unit, _)| units[*unit].part()).collect();
    Ok(found
        .into_iter()
        .map(|(unit, error)| checksum_damage(container, units[unit].part(), &error, &broken))
        .collect())
}

fn checksum_damage(
    container: &Container,
    part: PartId,
    error: &FormatError,
    broken: &BTreeSet<PartId>,
) -> Damage {
    let index = container.index();
    let record = &index.parts[part];
    let tensor = index
        .tensors
        .iter()
        .position(|t| parts_of(t).contains(&part));
    let mut message = error.root().to_string();
    let mut chunks = None;
    if let (Some(tensor), FormatError::PartChecksum { start, end, .. }) = (tensor, error.root()) {
        // Where the part starts in the file.
        let first = container.part_offset(part);
        chunks = chunks_between(container, tensor, part, start - first..end - first, broken);
        if let Some((first, last)) = chunks {
            message.push_str(&format!(
                "; chunks {first} to {last} of the tensor lie there"
            ));
        }
    }
    Damage {
        tier: index.tiers[record.tier].name.clone(),
        tensor: tensor.map(|tensor| index.tensors[tensor].name.clone()),
        chunks,
        message,
    }
}

/// The first and the last chunk of a tensor's codes that lie in a range of their part.
fn chunks_between(
    container: &Container,
    tensor: usize,
    part: PartId,
    range: std::ops::Range<u64>,
    broken: &BTreeSet<PartId>,
) -> Option<(usize, usize)> {
    let record = &container.index().tensors[tensor];
    let ExactBody::Coded { lengths, codes, .. } = record.exact.as_ref()?.body else {
        return None;
    };
    if codes != part || broken.contains(&lengths) {
        return None;
    }
    let (mut end, mut found) = (0u64, None);
    let lengths = container.part(lengths).ok()?;
    for (chunk, length) in lengths.as_chunks().0.iter().enumerate() {
        let start = end;
        end += u64::from(u32::from_le_bytes(*length));
        if start < range.end && end > range.start {
            let (first, _) = found.unwrap_or((chunk, chunk));
            found = Some((first, chunk));
        }
    }
    found
}

/// What decoding everything found.
struct Decoded {
    damage: Vec<Damage>,
    tensors: usize,
}

/// Decodes all files and tensors, and compares their hashes.
fn decode(cpu: &Cpu, tensors: &Tensors, progress: &dyn Progress) -> Result<Decoded, PressError> {
    let container = Arc::clone(tensors.container());
    let index = container.index();
    let maker = Maker::lenient(cpu, tensors);
    progress.phase("Decoding", index.source.iter().map(|file| file.bytes).sum());
    let hashes = TensorHashes::default();
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for file in &index.source {
        let mut segments = file.segments.iter();
        let next = || {
            let Some(segment) = segments.next() else {
                return Ok(None);
            };
            let mut pieces = maker.segment(segment)?;
            if let Segment::Tensor(number) = segment
                && !seen.insert(*number)
            {
                // Hashed where it came first.
                pieces.iter_mut().for_each(|piece| piece.tensor = None);
            }
            Ok(Some(pieces))
        };
        let hash = pump(&maker, file.bytes, next, None, Some(&hashes), progress)?;
        if hash.to_hex().as_str() != file.blake3 {
            files.push(file.name.as_str());
        }
    }
    // Those that no file is made of.
    for (number, tensor) in index.tensors.iter().enumerate() {
        let same = tensor.exact.as_ref().map(|exact| &exact.body);
        if tensor.bytes() == 0 || matches!(same, Some(ExactBody::Same(_))) || !seen.insert(number) {
            continue;
        }
        let mut whole = Some(number);
        let next = || whole.take().map(|number| maker.tensor(number)).transpose();
        pump(&maker, tensor.bytes(), next, None, Some(&hashes), progress)?;
    }
    let hashes = hashes.finish();
    let full = index.tiers[index.full_tier().expect("there is an exact section")]
        .name
        .clone();
    let damage = |tensor: Option<&str>, chunks, message: String| Damage {
        tier: full.clone(),
        tensor: tensor.map(str::to_owned),
        chunks,
        message,
    };
    let mut found = Vec::new();
    let mut explained = BTreeSet::new();
    for fault in maker.faults() {
        let tensor = fault
            .tensor
            .map(|number| index.tensors[number].name.as_str());
        let chunks = fault.chunk.map(|chunk| (chunk, chunk));
        explained.extend(fault.tensor);
        found.push(damage(tensor, chunks, fault.message));
    }
    for (&number, hash) in &hashes {
        let tensor = &index.tensors[number];
        let expected = tensor.exact.as_ref().map(|exact| exact.blake3.as_str());
        if expected != Some(hash.to_hex().as_str()) && !explained.contains(&number) {
            let name = &tensor.name;
            let message = format!("tensor {name:?} does not come back: its BLAKE3 hash differs");
            found.push(damage(Some(name), None, message));
        }
    }
    for name in files {
        let message = format!("the file {name:?} does not come back: its BLAKE3 hash differs");
        found.push(damage(None, None, message));
    }
    Ok(Decoded {
        damage: found,
        tensors: hashes.len(),
    })
}

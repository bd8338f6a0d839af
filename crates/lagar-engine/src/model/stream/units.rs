//! The units in which weights are read: each block, then the head, in pieces where it is large.

use std::ops::Range;
use std::sync::Arc;

use lagar_codec::TILE_ROWS;
use lagar_format::{Coding, PartId, PartReader, ReadParts, ReadPlan, Region};
use lagar_kernels::Cpu;

use super::super::block::BlockWeights;
use super::super::from_container::Opened;
use super::super::linear::{Linear, Weight};
use super::super::source::Source;
use super::super::tier_source::TierSource;
use crate::EngineError;
use crate::exact::ExactTensor;
use crate::spec::{Block, LinearSpec, ModelSpec};
use crate::stored::{Form, PartBytes, Spare, Stored, Take, Tier, Unchecked};

/// Bytes of a piece of the head, as far as neither blocks are larger nor the window is smaller: in
/// one piece, it would be most of a model with many tokens. Much smaller pieces would read many
/// chunks twice, because chunks are read whole for their checksums.
const HEAD_PIECE: u64 = 64 << 20;

/// All units of a model, and how to read them.
#[derive(Debug)]
pub(super) struct Units {
    opened: Arc<Opened>,
    tier: usize,
    resident: usize,
    reader: PartReader,
    /// One for each block, and one for each piece of the head.
    plans: Vec<ReadPlan>,
    /// The rows of each piece of the head; `None` where it is one.
    pieces: Option<Vec<Range<usize>>>,
    buffer_bytes: usize,
    /// Bytes of the largest unit once it is decoded; 0 below tier `full`.
    decoded_bytes: u64,
    /// Whether weights are decoded before they are used: those of tier `full`.
    full: bool,
    /// Memory for decoded weights.
    spare: Spare,
}

/// A unit in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// `None` where they are decoded by whoever uses them.
    pub(super) weights: Option<Unit>,
    read: ReadParts,
}

/// Weights of a unit.
#[derive(Debug)]
pub(super) enum Unit {
    Block(Box<BlockWeights>),
    Head(Linear),
}

/// Parts of resident tiers from the mapped file, others from what was read.
struct Mixed<'a> {
    stored: &'a Stored,
    resident: usize,
    read: &'a ReadParts,
}

impl PartBytes for Mixed<'_> {
    fn range(&self, id: PartId, bytes: Range<usize>) -> Result<Region, EngineError> {
        // What is empty is in no plan.
        if bytes.is_empty() {
            return Ok(Region::from_vec(Vec::new()));
        }
        if self.stored.container().index().parts[id].tier <= self.resident {
            return Unchecked(self.stored).range(id, bytes);
        }
        let read = self.read.range(id, bytes.start as u64..bytes.end as u64);
        Ok(read.expect("the plan has all that the unit is made of"))
    }

    fn part(&self, id: PartId) -> Result<Region, EngineError> {
        let bytes = self.stored.container().index().parts[id].bytes;
        self.range(id, 0..bytes as usize)
    }
}

impl Units {
    pub(super) fn new(
        opened: &Arc<Opened>,
        tier: usize,
        resident: usize,
        window: Option<u64>,
    ) -> Result<Self, EngineError> {
        let (stored, spec) = (&opened.stored, &opened.spec);
        let reader = PartReader::new(Arc::clone(stored.container()))?;
        let mapped = Tier::new(stored, tier, stored);
        let index = stored.container().index();
        let plan = |tensors: &mut dyn Iterator<Item = Wanted<'_>>| {
            let mut wanted = Vec::new();
            for Wanted { name, shape, take } in tensors {
                let ranges = mapped.ranges_of(mapped.record(name, &shape)?, &take)?;
                let read = ranges.into_iter().filter(|(part, bytes)| {
                    index.parts[*part].tier > resident && !bytes.is_empty()
                });
                wanted.extend(read.map(|(part, b)| (part, b.start as u64..b.end as u64)));
            }
            Ok::<_, EngineError>(reader.plan(&wanted)?)
        };
        let full = index.full_tier() == Some(tier);
        let mut plans = Vec::new();
        for block in &spec.blocks {
            plans.push(plan(&mut block_tensors(block))?);
        }
        let largest = plans.iter().map(ReadPlan::bytes).max().unwrap_or(0);
        let head = plan(&mut linear_tensors(&spec.head, Take::All))?;
        let most = largest.max(window.map_or(HEAD_PIECE, |bytes| bytes.min(HEAD_PIECE)));
        let pieces = match head.bytes() > most {
            true => pieces(&mapped, &spec.head, head.bytes().div_ceil(most) as usize)?,
            false => None,
        };
        match &pieces {
            None => plans.push(head),
            Some(pieces) => {
                for rows in pieces {
                    let take = Take::Rows(rows.clone());
                    plans.push(plan(&mut linear_tensors(&spec.head, take))?);
                }
            }
        }
        Ok(Self {
            buffer_bytes: plans
                .iter()
                .map(ReadPlan::buffer_bytes)
                .max()
                .expect("a plan for the head"),
            opened: Arc::clone(opened),
            tier,
            resident,
            reader,
            plans,
            decoded_bytes: match full {
                true => decoded_bytes(&mapped, spec, pieces.as_deref())?,
                false => 0,
            },
            pieces,
            full,
            spare: Spare::default(),
        })
    }

    /// Number of units: of the blocks, then of the head.
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }

    /// The units of the head.
    pub(super) fn head(&self) -> Range<usize> {
        self.opened.spec.blocks.len()..self.len()
    }

    /// Length of a buffer that takes any unit.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Bytes of memory that a decoded unit takes.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Bytes that reading a unit takes from the disk.
    pub(super) fn read_bytes(&self, unit: usize) -> u64 {
        self.plans[unit].bytes()
    }

    /// Whether weights are decoded before they are used.
    pub(super) fn are_decoded(&self) -> bool {
        self.full
    }

    /// Reads a unit and, unless they are to be decoded, makes weights of it; `None` if `go_on` said no.
    pub(super) fn read(
        &self,
        unit: usize,
        mut buffer: Vec<u8>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Loaded>, EngineError> {
        if buffer.len() < self.buffer_bytes {
            buffer = vec![0; self.buffer_bytes];
        }
        let Some(read) = self.reader.read(&self.plans[unit], buffer, go_on)? else {
            return Ok(None);
        };
        let weights = match self.full {
            true => None,
            false => Some(self.weights(unit, &read, None)?),
        };
        Ok(Some(Loaded { weights, read }))
    }

    /// Decodes a unit that was read.
    pub(super) fn decode(
        &self,
        cpu: &Cpu,
        unit: usize,
        loaded: &Loaded,
    ) -> Result<Unit, EngineError> {
        self.weights(unit, &loaded.read, Some((cpu, &self.spare)))
    }

    fn weights(
        &self,
        unit: usize,
        read: &ReadParts,
        decode: Option<(&Cpu, &Spare)>,
    ) -> Result<Unit, EngineError> {
        let stored = &self.opened.stored;
        let mixed = Mixed {
            stored,
            resident: self.resident,
            read,
        };
        let source = TierSource {
            tier: Tier::new(stored, self.tier, &mixed),
            decode,
        };
        let spec = &self.opened.spec;
        if let Some(block) = spec.blocks.get(unit) {
            return Ok(Unit::Block(source.block(block)?.into()));
        }
        let Some(pieces) = &self.pieces else {
            return Ok(Unit::Head(source.linear(&spec.head)?));
        };
        let rows = pieces[unit - spec.blocks.len()].clone();
        let mut piece = source.rows(&spec.head, rows.clone())?;
        if let Some(name) = &spec.head.bias {
            piece.bias = Some(source.vector(name, spec.head.outputs)?[rows].to_vec());
        }
        Ok(Unit::Head(piece))
    }

    /// Takes back the memory of decoded weights.
    pub(super) fn recycle(&self, unit: Unit) {
        let linears = match unit {
            Unit::Block(block) => block.into_linears().into(),
            Unit::Head(head) => vec![head],
        };
        for linear in linears {
            if let Weight::Dense { region, .. } = linear.weight
                && let Some(vector) = region.into_vec()
            {
                self.spare.put(vector);
            }
        }
    }
}

/// A tensor that a unit needs.
struct Wanted<'a> {
    name: &'a str,
    shape: Vec<usize>,
    take: Take,
}

/// The tensors of a block.
fn block_tensors(block: &Block) -> impl Iterator<Item = Wanted<'_>> {
    let norms = block.norms().map(|norm| Wanted {
        name: &norm.weight,
        shape: vec![norm.width],
        take: Take::All,
    });
    let linears = block.linears();
    norms.chain(linears.flat_map(|linear| linear_tensors(linear, Take::All)))
}

/// What is taken of a matrix, and its bias.
fn linear_tensors(linear: &LinearSpec, take: Take) -> impl Iterator<Item = Wanted<'_>> {
    let bias = linear.bias.as_deref().map(|name| Wanted {
        name,
        shape: vec![linear.outputs],
        take: Take::All,
    });
    let matrix = Wanted {
        name: &linear.weight,
        shape: vec![linear.outputs, linear.inputs],
        take,
    };
    [matrix].into_iter().chain(bias)
}

/// Cuts a matrix into about `count` pieces of rows, where its form has such; `None` where not.
fn pieces<P: PartBytes>(
    tier: &Tier<'_, P>,
    spec: &LinearSpec,
    count: usize,
) -> Result<Option<Vec<Range<usize>>>, EngineError> {
    let record = tier.record(&spec.weight, &[spec.outputs, spec.inputs])?;
    let step = match tier.form(record)? {
        Form::Raw(..) => 1,
        Form::Blob(_, blob) if blob.coding == Coding::Raw => 1,
        Form::Linear(..) => TILE_ROWS,
        Form::Coded(_, of) if of.shape == record.shape => {
            let chunk = ExactTensor::rows_per_chunk(tier, of)?;
            // Whole tile rows and whole chunks.
            chunk * TILE_ROWS / greatest_common_divisor(chunk, TILE_ROWS)
        }
        Form::Blob(..) | Form::Coded(..) => return Ok(None),
    };
    let rows = spec.outputs.div_ceil(count).next_multiple_of(step);
    let starts = (0..spec.outputs).step_by(rows);
    let pieces = starts.map(|start| start..spec.outputs.min(start + rows));
    Ok(Some(pieces.collect()))
}

/// Bytes of the largest unit of tier `full`.
fn decoded_bytes<P: PartBytes>(
    tier: &Tier<'_, P>,
    spec: &ModelSpec,
    pieces: Option<&[Range<usize>]>,
) -> Result<u64, EngineError> {
    let bytes = |linear: &LinearSpec, rows: usize| {
        let record = tier.record(&linear.weight, &[linear.outputs, linear.inputs])?;
        Ok::<_, EngineError>((rows * linear.inputs) as u64 * record.dtype.bytes())
    };
    let mut largest = 0;
    for block in &spec.blocks {
        let mut sum = 0;
        for linear in block.linears() {
            sum += bytes(linear, linear.outputs)?;
        }
        largest = largest.max(sum);
    }
    let rows = pieces.map_or(spec.head.outputs, |pieces| pieces[0].len());
    Ok(largest.max(bytes(&spec.head, rows)?))
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

impl Unit {
    pub(super) fn block(&self) -> &BlockWeights {
        match self {
            Self::Block(block) => block,
            Self::Head(_) => unreachable!("the head is asked for by its own numbers"),
        }
    }

    pub(super) fn head(&self) -> &Linear {
        match self {
            Self::Head(head) => head,
            Self::Block(_) => unreachable!("the head has the last numbers"),
        }
    }
}

impl Loaded {
    /// The buffer, if nobody else has the unit.
    pub(super) fn into_buffer(this: Arc<Self>) -> Option<Vec<u8>> {
        let Self { weights, read } = Arc::into_inner(this)?;
        drop(weights);
        read.into_buffer()
    }
}

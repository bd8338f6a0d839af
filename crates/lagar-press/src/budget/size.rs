//! How long a file with some depths will be.

use lagar_codec::{ROW_UNIT, StageLayout, Table, Transform};
use lagar_engine::{Checkpoint, ModelSpec, Role};
use lagar_format::{Exact, ExactBody, Segment, SourceFile, Writer};

use crate::encode::{
    Loss, Span, StoredLinear, StoredSite, StoredTerm, StoredWindow, StoredWindows, Tables, Unit,
    low_rank, outliers::Room, split_depths, table_record,
};
use crate::partial::Key;
use crate::pressing::{permutation_bytes, sign_bytes};
use crate::{PressError, PressOptions, Recipe, assemble};

use super::Depths;

/// What the length of a file depends on beside its depths.
pub(crate) struct Shape<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a PressOptions,
    pub(crate) key: &'a Key,
    pub(crate) sources: &'a [SourceFile],
}

/// Ends of the tiers below `full` in a file of these depths, bytes.
pub(crate) fn tier_ends(request: &Shape<'_>, depths: &Depths) -> Result<Vec<u64>, PressError> {
    let spec = request.spec;
    let unit = Unit {
        path: "planned".into(),
        sites: sites(request, spec, depths)?,
    };
    let mut writer = assemble::base(
        request.checkpoint,
        spec,
        request.options,
        request.key,
        request.sources.to_vec(),
        &[unit],
    )?;
    if request.options.exact {
        add_exact(&mut writer, request.sources);
    }
    let mut ends = writer.tier_ends()?;
    ends.truncate(request.options.tiers.len());
    if request.options.effort > 0 {
        // Tiers after the first get row scales, norms and biases of their own when they are refined.
        let refined = refined_bytes(request)?;
        for (tier, end) in ends.iter_mut().enumerate() {
            *end += refined * (tier * (tier + 1) / 2) as u64;
        }
    }
    Ok(ends)
}

/// What refinement adds to the tier after the first, with what the index says of it and padding, at most.
fn refined_bytes(request: &Shape<'_>) -> Result<u64, PressError> {
    /// Padding to 64 bytes, and an entry of the index.
    const PART: usize = 96;
    let sum = request.spec.tensors().into_iter().map(|tensor| {
        let bytes = match tensor.role {
            Role::Vector => request.checkpoint.tensor(&tensor.name)?.region().len(),
            _ => 2 * tensor.shape[0].next_multiple_of(16),
        };
        Ok((bytes + PART) as u64)
    });
    sum.sum()
}

/// All linears as units would hold them: lengths alone.
fn sites(
    request: &Shape<'_>,
    spec: &ModelSpec,
    depths: &Depths,
) -> Result<Vec<StoredSite>, PressError> {
    let mut sites: Vec<(usize, Vec<String>)> = Vec::new();
    if !spec.is_tied() {
        sites.push((spec.hidden, vec![spec.embedding().to_owned()]));
    }
    sites.extend(
        spec.sites()
            .into_iter()
            .map(|site| (site.width, site.linears)),
    );
    let site = |(width, names): (usize, Vec<String>)| {
        let plain = Transform::new(width, (0..width as u32).collect(), vec![false; width])?;
        let linears = names.into_iter().map(|name| {
            let rows = request.checkpoint.tensor(&name)?.shape()[0];
            linear(request.options.recipe, name, rows, width, depths)
        });
        Ok(StoredSite {
            width,
            permutation: span(permutation_bytes(&plain).len()),
            signs: span(sign_bytes(&plain).len()),
            linears: linears.collect::<Result<_, PressError>>()?,
        })
    };
    sites.into_iter().map(site).collect()
}

fn linear(
    recipe: Recipe,
    name: String,
    rows: usize,
    width: usize,
    depths: &Depths,
) -> Result<StoredLinear, PressError> {
    let groups = StageLayout::groups_of(width);
    let passes = recipe.passes(&vec![0.0; depths.tiers(&name)]);
    let mut tiers: Vec<Vec<StoredTerm>> = Vec::new();
    for (pass, depths) in passes.iter().zip(depths.of_passes(&name, groups, &passes)) {
        let tables = match (recipe, pass.tier) {
            (Recipe::Codebook, 0) => digits(&name, &depths),
            (Recipe::Ternary, 0) => Tables::Ternary,
            _ => Tables::Trellis,
        };
        let term = StoredTerm::Window(window(rows, width, &depths, &tables)?);
        match tiers.get_mut(pass.tier) {
            Some(terms) => terms.push(term),
            None => tiers.push(vec![term]),
        }
    }
    if recipe == Recipe::Ternary {
        let room = Room::of_share(depths.outliers(&name), rows, width);
        tiers[0].push(StoredTerm::Sparse {
            gap_bytes: 1,
            counts: span(2 * rows.next_multiple_of(ROW_UNIT)),
            gaps: span(room.gaps as usize),
            values: span(room.values as usize),
        });
    }
    if let Some(&rank) = depths.ranks.get(&name).filter(|rank| **rank > 0) {
        let [v, u] = low_rank::layouts(rank, rows, width)?.map(|layout| {
            let depths = layout.depths();
            window(layout.rows(), layout.cols(), depths, &Tables::Trellis)
        });
        tiers[0].push(StoredTerm::LowRank { rank, v: v?, u: u? });
    }
    Ok(StoredLinear { name, tiers })
}

fn window(
    rows: usize,
    width: usize,
    depths: &[u8],
    tables: &Tables,
) -> Result<StoredWindow, PressError> {
    let windows = split_depths(depths).map(|depths| {
        let layout = StageLayout::new(rows, width, &depths)?;
        Ok(StoredWindows {
            table: table_record(tables, &depths),
            codes: span(layout.codes_len()),
            scales: span(layout.scales_len()),
            depths,
        })
    });
    Ok(StoredWindow {
        row_scales: span(StageLayout::new(rows, width, depths)?.row_scales_len()),
        windows: windows.collect::<Result<_, PressError>>()?,
        loss: Loss::default(),
    })
}

/// Tables that take as much of the index as any that could be fitted: no two alike, every level of most digits.
fn digits(name: &str, depths: &[u8]) -> Tables {
    let mut random = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
    let table = |depth: u8| {
        let mut levels = vec![0; 1 << depth];
        random.fill(&mut levels);
        let levels = levels.into_iter().map(|l| -100 - (l % 28) as i8);
        Table::from_levels(depth, depth, levels.collect()).expect("as many levels as windows")
    };
    let mut depths: Vec<u8> = depths.iter().map(|&depth| depth.max(1)).collect();
    depths.sort_unstable();
    depths.dedup();
    Tables::Fitted(depths.into_iter().map(table).collect())
}

fn span(bytes: usize) -> Span {
    Span {
        offset: 0,
        bytes: bytes as u64,
    }
}

/// What the index will have to say about the exact section, roughly: hashes, parts and segments.
fn add_exact(writer: &mut Writer, sources: &[SourceFile]) {
    writer.begin_tier("full");
    for at in 0..writer.index().tensors.len() {
        let tensor = &writer.index().tensors[at];
        let bytes = tensor.bytes();
        let body = ExactBody::Coded {
            model: writer.part(vec![0; 64]),
            lengths: writer.part(vec![0; 4]),
            codes: writer.part(lagar_format::PartSource::File {
                path: "planned".into(),
                offset: 0,
                bytes: bytes * 2 / 3,
            }),
        };
        let blake3 = blake3::hash(&at.to_le_bytes()).to_hex().to_string();
        writer.index_mut().tensors[at].exact = Some(Exact { blake3, body });
    }
    let segments = (0..writer.index().tensors.len())
        .map(Segment::Tensor)
        .collect();
    if let Some(source) = writer.index_mut().source.get_mut(sources.len() / 2) {
        source.segments = segments;
    }
}

//! How long a file with some depths will be.

use lagar_codec::{StageLayout, Transform};
use lagar_engine::{Checkpoint, ModelSpec, Role};
use lagar_format::{Exact, ExactBody, Segment, SourceFile, Writer};

use crate::encode::{
    Loss, Span, StoredLinear, StoredSite, StoredStage, StoredWindows, Unit, split_depths,
};
use crate::partial::Key;
use crate::pressing::{permutation_bytes, sign_bytes};
use crate::{PressError, PressOptions, assemble};

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
        sites: sites(request.checkpoint, spec, depths)?,
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
    checkpoint: &Checkpoint,
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
            let rows = checkpoint.tensor(&name)?.shape()[0];
            linear(name, rows, width, depths)
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
    name: String,
    rows: usize,
    width: usize,
    depths: &Depths,
) -> Result<StoredLinear, PressError> {
    let groups = StageLayout::groups_of(width);
    let stage = |depths: Vec<u8>| {
        let layout = StageLayout::new(rows, width, &depths)?;
        let windows = split_depths(&depths).map(|depths| {
            let layout = StageLayout::new(rows, width, &depths)?;
            Ok(StoredWindows {
                codes: span(layout.codes_len()),
                scales: span(layout.scales_len()),
                depths,
            })
        });
        Ok(StoredStage {
            row_scales: span(layout.row_scales_len()),
            windows: windows.collect::<Result<_, PressError>>()?,
            loss: Loss::default(),
        })
    };
    let stages = depths.of(&name, groups).into_iter().map(stage);
    Ok(StoredLinear {
        stages: stages.collect::<Result<_, PressError>>()?,
        name,
    })
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

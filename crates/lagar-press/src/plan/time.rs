//! About how long a press takes, from a little of its work.

use std::collections::BTreeMap;
use std::time::Instant;

use lagar_codec::{GROUP, StageLayout, TILE_ROWS};
use lagar_engine::{Checkpoint, Model, Role, Site};
use lagar_kernels::Cpu;

use crate::budget::{TOKENS as BUDGET_TOKENS, least, most};
use crate::encode::{
    Feedback, Hessians, Job, SiteCode, StageCode, Tables, choose_transform, encode_site,
    transform_hessian,
};
use crate::evaluate::Windows;
use crate::measure::TOKENS as MEASURED_TOKENS;
use crate::progress::Silent;
use crate::stream::Stream;
use crate::{PressError, PressOptions, StageBits, refine};

/// Products of a token and a weight that are timed, at most.
const PRODUCTS: usize = 1 << 34;
/// Tokens of a timed window, at most and at least.
const MOST_TOKENS: usize = 512;
const LEAST_TOKENS: usize = 16;
/// Columns of a timed matrix, at most.
const COLUMNS: usize = 1024;
/// A token that goes back costs so much more than one that goes forward: the way there again, and two products
/// for each weight.
const BACKWARD: f64 = 4.0;
/// Bytes that a thread codes exactly and checks in a second (`bench/record/exact-coder.md`).
const EXACT_RATE: f64 = 0.12e9;

/// Of an exact section without anything below it.
pub(super) fn exact_alone(cpu: &Cpu, checkpoint_bytes: u64) -> f64 {
    checkpoint_bytes as f64 / (EXACT_RATE * cpu.threads() as f64)
}

/// Seconds of a whole press.
pub(super) fn seconds(
    cpu: &Cpu,
    model: &Model,
    checkpoint: &Checkpoint,
    options: &PressOptions,
    windows: &Windows,
) -> Result<f64, PressError> {
    let spec = model.spec();
    let sites = spec.sites();
    let layer: Vec<Site> = (sites.iter().filter(|site| site.layer == Some(0)))
        .cloned()
        .collect();
    let layers = spec.blocks.len() as f64;
    let tokens = windows.text_tokens() as f64;

    let forward = Forward::time(cpu, model, &layer, windows)?;
    let pass = forward.layer * layers * (1.0 + head_share(model));
    let read = forward.observed * layers;

    let mut total = tokens * read;
    let encode = Encode::time(cpu, checkpoint, options, &layer[0], forward.hessian)?;
    let weights: usize = (spec.tensors().iter().filter(|t| t.role != Role::Vector))
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    for bits in &options.tiers {
        total += weights as f64 * encode.weight[&mean_depth(bits)];
    }
    let cubes: f64 = sites.iter().map(|site| (site.width as f64).powi(3)).sum();
    let mut factors = 1.0;
    if options
        .tiers
        .iter()
        .any(|bits| !matches!(bits, StageBits::Depth(_)))
    {
        let tokens = tokens.min(BUDGET_TOKENS as f64);
        total += tokens * (BACKWARD * pass + read);
        factors += 1.0;
    }
    total += factors * cubes * encode.factor;
    let tiers = options.tiers.len() as f64;
    if let Some((learned, held_out)) = refine::tokens(options.effort, options.seed, windows) {
        total += tiers * (learned as f64 * BACKWARD * read + held_out as f64 * pass);
    }
    total += (tiers + 1.0) * tokens.min(MEASURED_TOKENS as f64) * pass;
    if options.exact {
        let bytes: usize = checkpoint
            .files()
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum();
        total += exact_alone(cpu, bytes as u64);
    }
    Ok(total)
}

/// What the output head costs beside all layers.
fn head_share(model: &Model) -> f64 {
    let spec = model.spec();
    let head = (spec.head.inputs * spec.head.outputs) as f64;
    let sites = spec.sites();
    let inner: usize = (spec.tensors().iter())
        .filter(|tensor| {
            let layered = |site: &Site| site.layer.is_some() && site.linears.contains(&tensor.name);
            sites.iter().any(layered)
        })
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    head / inner.max(1) as f64
}

/// Seconds a token that the first layer takes.
struct Forward {
    layer: f64,
    /// With second moments of all inputs.
    observed: f64,
    /// Those of the first site.
    hessian: Vec<f32>,
}

impl Forward {
    fn time(
        cpu: &Cpu,
        model: &Model,
        layer: &[Site],
        windows: &Windows,
    ) -> Result<Self, PressError> {
        let weights: usize = layer.iter().map(|site| site.width * site.width).sum();
        let tokens = (PRODUCTS / weights.max(1)).clamp(LEAST_TOKENS, MOST_TOKENS);
        let mut window = windows.iter().next().unwrap_or_default();
        window.truncate(tokens);
        let run = |sites: &[Site], window: &[u32]| {
            let read = std::iter::once(window.to_vec());
            let mut stream = Stream::new(cpu, model, read, &Silent)?;
            let mut hessians = Hessians::new(cpu, sites);
            let started = Instant::now();
            stream.layer(0, layer, &mut hessians)?;
            let seconds = started.elapsed().as_secs_f64();
            Ok::<_, PressError>((seconds / window.len() as f64, hessians))
        };
        // Weights come into memory first.
        run(&[], &window[..window.len().min(LEAST_TOKENS)])?;
        let (plain, _) = run(&[], &window)?;
        let (observed, mut hessians) = run(layer, &window)?;
        Ok(Self {
            layer: plain,
            observed,
            hessian: hessians.take(layer[0].id),
        })
    }
}

/// Seconds of coding.
struct Encode {
    /// For a weight, by depth.
    weight: BTreeMap<u8, f64>,
    /// For each element of a cube as wide as the input: what a Hessian takes.
    factor: f64,
}

impl Encode {
    fn time(
        cpu: &Cpu,
        checkpoint: &Checkpoint,
        options: &PressOptions,
        site: &Site,
        hessian: Vec<f32>,
    ) -> Result<Self, PressError> {
        let width = site.width.min(COLUMNS);
        let corner = hessian.chunks_exact(site.width).take(width);
        let hessian: Vec<f32> = corner.flat_map(|row| &row[..width]).copied().collect();
        let name = &site.linears[0];
        let tensor = checkpoint.tensor(name)?;
        let rows = tensor.shape()[0].min(TILE_ROWS * cpu.threads());
        let started = Instant::now();
        let transform = choose_transform(&hessian, width, options.seed, 0)?;
        let hessian = transform_hessian(cpu, &transform, hessian);
        let padded = transform.padded_width();
        let feedback = Feedback::new(cpu, hessian, padded, 0.1, name)?;
        let factor = started.elapsed().as_secs_f64() / (width as f64).powi(3);
        let stages = [StageCode {
            feedback: &feedback,
            stretch: |_| 1.0,
        }];
        let code = SiteCode {
            transform: &transform,
            stages: &stages,
        };
        let read = |first: usize, out: &mut [f32]| {
            let mut whole = vec![0f32; site.width];
            for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
                tensor.read_f32(row * site.width, &mut whole);
                out.copy_from_slice(&whole[..width]);
            }
        };
        let mut weight = BTreeMap::new();
        for bits in &options.tiers {
            let depth = mean_depth(bits);
            if weight.contains_key(&depth) {
                continue;
            }
            let depths = vec![depth; padded.div_ceil(GROUP)];
            let job = Job {
                name,
                layouts: vec![StageLayout::new(rows, width, &depths)?],
                tables: &[Tables::Trellis],
                outliers: None,
                low_rank: None,
                row_importance: &[],
                rows: &read,
            };
            let started = Instant::now();
            encode_site(cpu, &code, &[job], &Silent)?;
            let seconds = started.elapsed().as_secs_f64();
            weight.insert(depth, seconds / (rows * width) as f64);
        }
        Ok(Self { weight, factor })
    }
}

/// A depth like those of a stage.
fn mean_depth(bits: &StageBits) -> u8 {
    match bits {
        StageBits::FileBits(bits) => (bits.round() as u8).clamp(1, 8),
        StageBits::FileBytes(_) | StageBits::Divergence(_) => 3,
        bits => u8::midpoint(least(bits), most(bits)).clamp(1, 8),
    }
}

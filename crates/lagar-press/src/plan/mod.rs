//! What a press would make, without pressing.

mod time;

use lagar_engine::{
    Checkpoint, Model, ModelOptions, ModelSpec, TierMemory, memory_of_dense, memory_of_pressed,
};
use lagar_format::SourceFile;
use lagar_kernels::Cpu;

use crate::budget::{Bounds, Depths, Shape, bounds, least, most, target_bytes, tier_ends};
use crate::exact::Folder;
use crate::partial::Key;
use crate::{PressError, PressOptions, Progress, Request, StageBits, calibration};

/// What an exact coder leaves of 16 bits beyond those that do not shrink, and what each bit of the tiers below
/// saves (`bench/record/exact-coder.md`).
const EXACT_SAVES: f64 = 5.5;
const EXACT_SAVES_PER_BIT: f64 = 0.85;

/// What a press would make.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The model's architecture.
    pub architecture: String,
    /// Its parameters, tied tensors once.
    pub parameters: u64,
    /// Calibration tokens that would be read.
    pub calibration_tokens: usize,
    /// All files of the checkpoint.
    pub checkpoint_bytes: u64,
    /// All tiers of the file, `full` included.
    pub tiers: Vec<PlannedTier>,
    /// For each tier with a target, what is possible.
    pub bounds: Vec<Bounds>,
    /// About how long it would take on this machine.
    pub seconds: f64,
}

/// A tier that would be written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PlannedTier {
    /// Its name.
    pub name: &'static str,
    /// Length of the file up to its end.
    pub bytes: u64,
    /// Whether that is a guess: the exact section depends on the weights, and a tier that shall lose so much on measuring.
    pub is_guess: bool,
    /// Memory to run it in.
    pub memory: TierMemory,
}

/// Plans a press and times a little of the work. Reads no more of the checkpoint than that, and writes nothing.
///
/// # Errors
///
/// What [`press`](crate::press()) would refuse before it begins: settings, a checkpoint that cannot be run, too
/// little text, targets that no file can meet.
pub fn plan(cpu: &Cpu, request: &Request<'_>, progress: &dyn Progress) -> Result<Plan, PressError> {
    let options = &request.options;
    options.check()?;
    let checkpoint = match options.exact {
        false => Checkpoint::open(request.checkpoint)?,
        true => Checkpoint::open_with_others(request.checkpoint)?.0,
    };
    let model = Model::from_checkpoint(checkpoint.clone(), &ModelOptions::default())?;
    let spec = model.spec();
    let sources = sources(request, &checkpoint)?;
    let bounds = check_targets(request, &checkpoint, spec)?;
    let ends = ends(options, spec, &checkpoint, &sources, &bounds)?;
    let checkpoint_bytes = sources.iter().map(|file| file.bytes).sum();
    let mut tiers: Vec<PlannedTier> = (options.stage_tiers().iter().zip(&ends))
        .zip(&options.tiers)
        .map(|((name, &bytes), bits)| PlannedTier {
            name,
            bytes,
            is_guess: matches!(bits, StageBits::Divergence(_)),
            memory: memory_of_pressed(spec, name, bytes, &ModelOptions::default()),
        })
        .collect();
    if options.exact {
        let dense = spec.tensors().into_iter().map(|tensor| {
            let tensor = checkpoint.tensor(&tensor.name)?;
            Ok(tensor.region().len() as u64)
        });
        let dense = dense.sum::<Result<u64, PressError>>()?;
        tiers.push(PlannedTier {
            name: "full",
            bytes: full_bytes(spec.parameters(), checkpoint_bytes, ends.last()),
            is_guess: true,
            memory: memory_of_dense(spec, "full", dense, &ModelOptions::default()),
        });
    }
    let (calibration_tokens, seconds) = if options.tiers.is_empty() {
        (0, time::exact_alone(cpu, checkpoint_bytes))
    } else {
        let context = options.context.min(spec.context);
        let windows = calibration::windows(
            model.tokenizer(),
            request.text,
            options.tokens,
            context,
            progress,
        )?;
        let seconds = time::seconds(cpu, &model, &checkpoint, options, &windows)?;
        (windows.text_tokens(), seconds)
    };
    Ok(Plan {
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        calibration_tokens,
        checkpoint_bytes,
        tiers,
        bounds,
        seconds,
    })
}

/// What is possible for each tier with a target; refuses what is not, from shapes alone.
pub(crate) fn check_targets(
    request: &Request<'_>,
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
) -> Result<Vec<Bounds>, PressError> {
    let sources = sources(request, checkpoint)?;
    let key = key(&request.options);
    bounds(&Shape {
        spec,
        checkpoint,
        options: &request.options,
        key: &key,
        sources: &sources,
    })
}

/// The files that an index will name, with hashes as long as theirs.
fn sources(request: &Request<'_>, checkpoint: &Checkpoint) -> Result<Vec<SourceFile>, PressError> {
    let source = |name: &str, bytes: usize| SourceFile {
        name: name.to_owned(),
        bytes: bytes as u64,
        blake3: hash_like(name),
        segments: Vec::new(),
    };
    if !request.options.exact {
        let files = checkpoint.files().iter();
        return Ok(files.map(|(name, b)| source(name, b.len())).collect());
    }
    let folder = Folder::open(request.checkpoint, Some(request.output))?;
    let files = folder.files.iter();
    Ok(files.map(|f| source(&f.name, f.bytes.len())).collect())
}

/// A key as long as that of a press.
fn key(options: &PressOptions) -> Key {
    Key {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        checkpoint: hash_like("checkpoint"),
        text: hash_like("text"),
        cost: String::new(),
    }
}

fn hash_like(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex().to_string()
}

/// Where each tier below `full` would end. A stage with a target ends there, one with an average between its
/// whole depths, and each of the others where its depth says.
fn ends(
    options: &PressOptions,
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    sources: &[SourceFile],
    bounds: &[Bounds],
) -> Result<Vec<u64>, PressError> {
    let key = key(options);
    let shape = Shape {
        spec,
        checkpoint,
        options,
        key: &key,
        sources,
    };
    let at = |depth: fn(&StageBits) -> u8| {
        let depths = options.tiers.iter().map(depth).collect();
        tier_ends(&shape, &Depths::everywhere(depths))
    };
    if options.tiers.is_empty() {
        return Ok(Vec::new());
    }
    let (low, high) = (at(least)?, at(most)?);
    let (mut ends, mut end) = (Vec::new(), 0);
    for (stage, bits) in options.tiers.iter().enumerate() {
        let own = |ends: &[u64]| match stage {
            0 => ends[0],
            stage => ends[stage] - ends[stage - 1],
        };
        let (low, high) = (own(&low), own(&high));
        end = match (bits, target_bytes(bits, spec.parameters())) {
            (_, Some(target)) => {
                let known = bounds.iter().find(|b| b.target == target);
                known.map_or(target, |bounds| target.min(bounds.ceiling))
            }
            // Between none and all bits: nobody knows before it is measured.
            (StageBits::Divergence(_), _) => end + u64::midpoint(low, high),
            (StageBits::Average(bits), _) => {
                end + low + ((high - low) as f64 * bits.fract()) as u64
            }
            _ => end + low,
        };
        ends.push(end);
    }
    Ok(ends)
}

/// About how long the whole file is, given the end of the tiers below `full`.
fn full_bytes(parameters: u64, checkpoint_bytes: u64, below: Option<&u64>) -> u64 {
    let bits_of = |bytes: u64| 8.0 * bytes as f64 / parameters.max(1) as f64;
    let below = below.copied().unwrap_or(0);
    let saved = EXACT_SAVES + EXACT_SAVES_PER_BIT * bits_of(below);
    let exact = (bits_of(checkpoint_bytes) - saved).max(1.0);
    below + (exact * parameters as f64 / 8.0) as u64
}

//! Pressing a checkpoint: the order of the work.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Instant;

use lagar_engine::generate::GenerationConfig;
use lagar_engine::{Checkpoint, Model, ModelOptions};
use lagar_format::{Container, Limits, SourceFile, os};
use lagar_kernels::Cpu;

use crate::budget;
use crate::measure::Measurement;
use crate::partial::{Key, Partial};
use crate::refine::Refinement;
use crate::rounds::{Made, Rounds};
use crate::source::{check_weights, hash_files};
use crate::tensors::PressedTensor;
use crate::{PressError, PressOptions, Progress, Task, calibration, exact, plan};

/// What to press, and into what.
#[derive(Debug)]
pub struct Request<'a> {
    /// A checkpoint folder.
    pub checkpoint: &'a Path,
    /// Calibration text.
    pub text: &'a str,
    /// Text to measure the tiers on where the calibration text has nothing left behind the tokens that are
    /// read.
    pub held_out: Option<&'a str>,
    /// What the model shall predict well where depths are chosen: the right answers to these questions, or all
    /// text.
    pub cost: Option<&'a Task>,
    /// The file to write. Work in progress lies beside it, in `FILE.partial/`.
    pub output: &'a Path,
    /// Settings.
    pub options: PressOptions,
    /// Go on from the units that an earlier, interrupted press of the same kind finished.
    pub resume: bool,
}

/// What came of a press.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PressReport {
    /// Length of the file.
    pub file_bytes: u64,
    /// Parameters of the checkpoint, tied tensors once.
    pub parameters: u64,
    /// Calibration tokens that were read.
    pub calibration_tokens: usize,
    /// Units taken over from an earlier press.
    pub resumed_units: usize,
    /// What refinement made of the tiers below `full`; empty without effort.
    pub refinements: Vec<Refinement>,
    /// What the tiers below `full` lose; none where there are none.
    pub measurement: Option<Measurement>,
    /// What became of each tensor that has stages.
    pub tensors: Vec<PressedTensor>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Presses a checkpoint into one file.
///
/// Memory holds one block's Hessians, one linear's codes and the calibration activations; weights
/// are read from the mapped checkpoint. The file gets its name only when it is complete and has
/// been read back.
///
/// # Errors
///
/// Anything wrong with the checkpoint, the text or the disk; [`PressError::Interrupted`] if the
/// caller's [`Progress`] asks to stop. Finished units stay in `FILE.partial/` for a later
/// [`Request::resume`].
pub fn press(
    cpu: &Cpu,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<PressReport, PressError> {
    let started = Instant::now();
    let options = &request.options;
    options.check()?;
    if options.tiers.is_empty() {
        return exact::press_alone(cpu, request, progress);
    }
    let checkpoint = match options.exact {
        false => Checkpoint::open(request.checkpoint)?,
        true => open_with_others(request.checkpoint, progress)?,
    };
    check_output(request.output, &checkpoint)?;
    let model = Model::from_checkpoint(checkpoint.clone(), &ModelOptions::default())?;
    // Otherwise the first to complain would be whoever runs the file.
    GenerationConfig::of(&model)?;
    let spec = model.spec();
    let context = options.context.min(spec.context);
    plan::check_targets(request, &checkpoint, spec)?;
    let tokenizer = model.tokenizer();
    let windows = calibration::windows(tokenizer, request.text, options.tokens, context, progress)?;

    let examples = request
        .cost
        .map(|task| task.right_answers(&model))
        .transpose()?;

    let kept = match options.exact {
        false => None,
        true => Some(exact::plan(cpu, request, progress)?),
    };
    let sources = match &kept {
        Some(kept) => kept.sources(),
        None => hash_files(cpu, &checkpoint, progress)?,
    };
    check_weights(cpu, &checkpoint, spec, progress)?;

    let key = Key {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        checkpoint: digest_sources(&sources),
        text: digest_windows(windows.iter()),
        cost: examples.as_ref().map_or(String::new(), |examples| {
            digest_windows(
                examples
                    .iter()
                    .map(|e| [&e.context[..], &e.continuation].concat()),
            )
        }),
    };
    let partial = Partial::open(request.output, &key, request.resume)?;
    let budgeting = budget::Request {
        cpu,
        model: &model,
        checkpoint: &checkpoint,
        options,
        key: &key,
        sources: &sources,
        windows: &windows,
        examples: examples.as_deref(),
        partial: &partial,
        progress,
    };
    let rounds = Rounds {
        request,
        budgeting: &budgeting,
        made: RefCell::default(),
        resumed: Cell::default(),
    };
    let Made {
        mut file_bytes,
        refinements,
        measurement,
        tensors,
    } = match rounds.run() {
        // There is nothing to go on from: another target is another press.
        Err(error @ PressError::BelowFloor { .. }) => {
            drop(rounds);
            partial.remove()?;
            return Err(error);
        }
        made => made?,
    };
    let mut resumed_units = rounds.resumed.get();

    let base = partial.base();
    if let Some(kept) = &kept {
        let below = exact::Below::Tiers(Box::new(Container::open(&base, &Limits::default())?));
        let finished = exact::finish(cpu, kept, below, &partial, request, progress)?;
        file_bytes = finished.0;
        resumed_units += finished.1;
    } else {
        // Without an exact section the base is the whole file.
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        os::replace_atomically(&base, request.output)?;
    }
    partial.remove()?;
    Ok(PressReport {
        file_bytes,
        parameters: spec.parameters(),
        calibration_tokens: windows.text_tokens(),
        resumed_units,
        refinements,
        measurement,
        tensors,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Opens a checkpoint that may hold tensors of which the model has no use: the exact section keeps
/// them.
fn open_with_others(path: &Path, progress: &dyn Progress) -> Result<Checkpoint, PressError> {
    let (checkpoint, others) = Checkpoint::open_with_others(path)?;
    if let Some(first) = others.first() {
        progress.note(&format!(
            "{} of the checkpoint's tensors have no place in a {} and are kept in the exact section \
             only, such as {first}",
            others.len(),
            checkpoint.spec().architecture
        ));
    }
    Ok(checkpoint)
}

/// The output may take the place of an older file, but not of one of the checkpoint's own, nor of
/// a device.
fn check_output(output: &Path, checkpoint: &Checkpoint) -> Result<(), PressError> {
    let io = |source| PressError::Io {
        path: output.to_owned(),
        source,
    };
    let kind = match output.metadata() {
        Ok(kind) => kind,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    if !kind.is_file() {
        return Err(io(Error::new(
            ErrorKind::InvalidInput,
            "is there already, and not a plain file that can be replaced",
        )));
    }
    let place = output.canonicalize().map_err(io)?;
    let reads = |name: &str| {
        let own = checkpoint.path().join(name).canonicalize();
        own.is_ok_and(|own| own == place)
    };
    match checkpoint.files().iter().find(|(name, _)| reads(name)) {
        None => Ok(()),
        Some((name, _)) => Err(PressError::OutputIsInput {
            path: output.to_owned(),
            what: name.clone(),
        }),
    }
}

/// Opens the finished file as a user's program would: checks every byte, builds the model.
pub(crate) fn read_back(path: &Path, original: &Model) -> Result<u64, PressError> {
    let model = Model::open(path, None, &ModelOptions::default())?;
    if model.parameters() != original.parameters() {
        return Err(PressError::ReadBack {
            path: path.to_owned(),
            what: format!(
                "{} parameters instead of {}",
                model.parameters(),
                original.parameters()
            ),
        });
    }
    Ok(model.file_bytes())
}

pub(crate) fn digest_sources(sources: &[SourceFile]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in sources {
        hasher
            .update(file.name.as_bytes())
            .update(&[0])
            .update(file.blake3.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn digest_windows(windows: impl Iterator<Item = Vec<u32>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for window in windows {
        hasher.update(&(window.len() as u64).to_le_bytes());
        for token in window {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

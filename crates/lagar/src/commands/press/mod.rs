//! `lagar press`.

mod dry_run;
mod heat;
mod layers;
mod page;
mod report;

use self::page::Page;
use self::report::TensorLine;
use super::demo::{CALIBRATION, EVALUATION};
use super::inspect::Inspection;
use super::task;
use crate::args::{PressArgs, Size, StageTier};
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::machine;
use crate::terminal::{self, Reporter, bytes, duration};
use anyhow::{Context as _, bail};
use lagar_engine::{Checkpoint, EngineError};
use lagar_format::{Container, Limits};
use lagar_press::{
    MeasuredText, Measurement, PressError, PressOptions, PressReport, Recipe, Request, StageBits,
    Task,
};
use serde::Serialize;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The object of `press --json`.
#[derive(Debug, Serialize)]
struct Pressed {
    #[serde(flatten)]
    inspection: Inspection,
    seconds: f64,
    /// Null where the system does not say.
    peak_memory_bytes: Option<u64>,
    calibration_tokens: usize,
    resumed_units: usize,
    /// What refinement made of each tier.
    refined: Vec<RefinedTier>,
    /// What `kl_mean` of the tiers was measured on; null where none was.
    measured: Option<Measured>,
    /// What became of each tensor that has stages.
    tensors: Vec<TensorLine>,
    /// The checkpoint's files.
    sources: Vec<Source>,
    id: String,
    producer: String,
    /// The page about the press; null where none was written.
    report: Option<PathBuf>,
}

/// A file of the checkpoint.
#[derive(Debug, Serialize)]
struct Source {
    name: String,
    bytes: u64,
    blake3: String,
}

#[derive(Debug, Serialize)]
struct RefinedTier {
    tier: String,
    /// On calibration text that was held out, nats.
    kl_before: f64,
    kl_after: f64,
    steps: usize,
}

#[derive(Debug, Serialize)]
struct Measured {
    tokens: usize,
    /// `rest` of the calibration text, `built_in` text, or `calibration` text itself.
    text: &'static str,
    /// Of the original.
    original_perplexity: f64,
}

pub(crate) fn press(context: &Context, args: &PressArgs) -> anyhow::Result<()> {
    let mut options = tiers(args)?;
    check_place(&args.output)?;
    check_texts(&args.output, &args.text)?;
    let text = calibration_text(&args.text)?;
    let cost = cost(args, &options)?;
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    options.tokens = args.tokens.get();
    options.seed = args.seed;
    options.effort = args.effort;
    let request = Request {
        checkpoint: &args.checkpoint,
        text: &text,
        held_out: Some(EVALUATION),
        cost: cost.as_ref(),
        output: &args.output,
        options,
        resume: args.resume,
    };
    if args.dry_run {
        let plan = lagar_press::plan(&context.cpu(), &request, &reporter);
        drop(reporter);
        return match plan {
            Err(PressError::Engine(error)) => {
                hint_at_exact(context, &error);
                Err(PressError::Engine(error).into())
            }
            plan => dry_run::show(context, args, &request.options, &plan?),
        };
    }
    let result = lagar_press::press(&context.cpu(), &request, &reporter);
    drop(reporter);
    let report = match result {
        Err(PressError::Interrupted) => {
            context
                .messages
                .say("what is finished is kept; the same command with --resume goes on from there");
            return Err(PressError::Interrupted.into());
        }
        Err(PressError::Engine(error)) => {
            hint_at_exact(context, &error);
            return Err(PressError::Engine(error).into());
        }
        result => result?,
    };
    match report.resumed_units {
        0 => {}
        1 => context
            .messages
            .say("one finished part of an earlier press was taken over"),
        n => context.messages.say(&format!(
            "{n} finished parts of an earlier press were taken over"
        )),
    }
    let mut pressed = Pressed::new(args, &report)?;
    if !args.no_report {
        pressed.write_page(context, args, &report)?;
    }
    if context.json {
        return terminal::print_json(&pressed);
    }
    let memory = pressed.peak_memory_bytes.map_or(String::new(), |peak| {
        format!(" and {} of memory", bytes(peak))
    });
    let page = pressed.report.as_ref().map_or(String::new(), |page| {
        format!(
            "the report is {}\n",
            terminal::escape(&page.to_string_lossy())
        )
    });
    terminal::print_styled(&format!(
        "{}{}pressed in {}{memory}, with {} tokens of calibration text\n{page}",
        pressed.inspection.render(),
        report
            .measurement
            .as_ref()
            .map_or(String::new(), |m| format!("{}\n", measured_on(m))),
        duration(Duration::from_secs_f64(pressed.seconds)),
        pressed.calibration_tokens
    ))
}

impl Pressed {
    fn new(args: &PressArgs, report: &PressReport) -> anyhow::Result<Self> {
        let container = Container::open(&args.output, &Limits::default())?;
        let index = container.index();
        let mut inspection = Inspection::of(&args.output, false)?;
        if let Some(measurement) = &report.measurement {
            inspection.set_measured(measurement);
        }
        let sources = index.source.iter().map(|file| Source {
            name: file.name.clone(),
            bytes: file.bytes,
            blake3: file.blake3.clone(),
        });
        Ok(Self {
            inspection,
            seconds: report.seconds,
            peak_memory_bytes: machine::peak_memory_bytes(),
            calibration_tokens: report.calibration_tokens,
            resumed_units: report.resumed_units,
            refined: (report.refinements.iter())
                .map(|refined| RefinedTier {
                    tier: refined.tier.clone(),
                    kl_before: refined.kl_before,
                    kl_after: refined.kl_after,
                    steps: refined.steps,
                })
                .collect(),
            measured: report.measurement.as_ref().map(|m| Measured {
                tokens: m.tokens,
                text: match m.text {
                    MeasuredText::Rest => "rest",
                    MeasuredText::HeldOut => "built_in",
                    _ => "calibration",
                },
                original_perplexity: m.original_perplexity,
            }),
            tensors: report.tensors.iter().map(TensorLine::new).collect(),
            sources: sources.collect(),
            id: index.id.clone(),
            producer: index.producer.clone(),
            report: None,
        })
    }

    /// Writes the page about the press beside the file. The file is there all the same where that fails.
    fn write_page(
        &mut self,
        context: &Context,
        args: &PressArgs,
        report: &PressReport,
    ) -> anyhow::Result<()> {
        let place = report::place(&args.output);
        let written = match report::obstacle(&place, &args.output, &args.checkpoint) {
            Some(obstacle) => Err(obstacle),
            None => report::write(&place, &self.page(args, report).render()),
        };
        match written {
            Ok(()) => self.report = Some(place),
            Err(why) => context.messages.say(&format!(
                "the report is not written to {}: {why}",
                place.display()
            )),
        }
        Ok(())
    }

    fn page<'a>(&'a self, args: &'a PressArgs, report: &PressReport) -> Page<'a> {
        let name = |path: &'a Path| path.file_name().and_then(OsStr::to_str).unwrap_or("");
        let inspection = &self.inspection;
        let original = self.measured.as_ref().map(|m| m.original_perplexity);
        let tiers = inspection.tiers.iter().map(|tier| page::Tier {
            name: tier.name.clone(),
            bytes: tier.bytes,
            bits_per_parameter: tier.bits_per_parameter,
            // Tier full is the original.
            kl_mean: tier
                .kl_mean
                .or(original.filter(|_| tier.name == "full").map(|_| 0.0)),
            perplexity: tier.perplexity.or(original.filter(|_| tier.name == "full")),
        });
        let refined = self.refined.iter();
        let sources = self.sources.iter();
        let settings = inspection.settings.iter();
        Page {
            checkpoint: name(&args.checkpoint),
            file: name(&args.output),
            architecture: &inspection.architecture,
            parameters: inspection.parameters,
            checkpoint_bytes: sources.clone().map(|file| file.bytes).sum(),
            tiers: tiers.collect(),
            original_perplexity: original,
            measured_on: report
                .measurement
                .as_ref()
                .map_or(String::new(), measured_on),
            refined: refined
                .map(|r| (r.tier.clone(), r.kl_before, r.kl_after, r.steps))
                .collect(),
            tensors: &self.tensors,
            settings: settings.map(|(k, v)| (k.clone(), v.clone())).collect(),
            sources: sources
                .map(|file| (file.name.clone(), file.bytes, file.blake3.clone()))
                .collect(),
            id: &self.id,
            producer: &self.producer,
            format_version: inspection.format_version.unwrap_or(0),
            seconds: self.seconds,
            calibration_tokens: self.calibration_tokens,
        }
    }
}

/// Models that cannot be run can be kept all the same.
fn hint_at_exact(context: &Context, error: &EngineError) {
    if matches!(
        error,
        EngineError::ExtraTensor { .. }
            | EngineError::UnknownArchitecture { .. }
            | EngineError::Unsupported { .. }
    ) {
        context.messages.say(
            "this model cannot be run from a pressed file; --tiers exact stores any folder with \
             safetensors bit for bit all the same",
        );
    }
}

/// One line about the text that the tiers were measured on.
fn measured_on(measurement: &Measurement) -> String {
    let text = match measurement.text {
        MeasuredText::Rest => "of the calibration text that the press did not read",
        MeasuredText::HeldOut => "of the text that is built in",
        _ => "of the calibration text itself: on other text it is larger",
    };
    format!(
        "KL to the original in nats and perplexity, on {} tokens {text}",
        measurement.tokens
    )
}

/// The options with the stages that the arguments ask for.
fn tiers(args: &PressArgs) -> anyhow::Result<PressOptions> {
    let recipe = args.recipe.unwrap_or_default();
    if recipe == Recipe::Tiers && args.bits.is_some() {
        return Err(exit::fault(
            Fault::Usage,
            "--bits makes one tier, and --recipe tiers several: write their bits as in --tiers 2,2+exact",
        ));
    }
    let default = PressOptions::default().with_recipe(recipe);
    let mut options = match (&args.tiers, args.bits) {
        (Some(_), Some(_)) => {
            return Err(exit::fault(
                Fault::Usage,
                "--bits and --tiers both say how many bits each weight gets: with --tiers, write the bits of \
                 every stage there (--tiers 4+exact); with --bits alone, the file has one tier and no exact section",
            ));
        }
        (Some(tiers), None) => default.with_stages(tiers.bits.clone(), tiers.exact),
        (None, Some(bits)) => default.with_tiers(&[bits], false),
        (None, None) => default,
    };
    let target = target(args)?;
    if target.is_some() && args.tiers.is_none() && recipe != Recipe::Tiers {
        options = options.with_tiers(&[2], false);
    }
    options.primary = args.primary.map(StageTier::position);
    if let Some(primary) = options.primary
        && primary >= options.tiers.len()
    {
        let names = options.stage_tiers();
        return Err(exit::fault(
            Fault::Usage,
            match names {
                [] => "--primary names a tier below full, and --tiers exact makes none".to_owned(),
                _ => format!(
                    "--primary {}: the file will not have this tier, only {}",
                    lagar_press::STAGE_TIERS[primary],
                    names.join(", ")
                ),
            },
        ));
    }
    if let Some(target) = target {
        let primary = options.primary();
        let Some(stage) = options.tiers.get_mut(primary) else {
            return Err(exit::fault(
                Fault::Usage,
                "--bpw, --size and --quality say what a tier below full shall be, and --tiers exact makes none",
            ));
        };
        *stage = target;
    }
    match options.check_recipe() {
        Err(error) => Err(exit::fault(Fault::Usage, format!("--{error}"))),
        Ok(()) => Ok(options),
    }
}

/// The questions of `--cost`; none for all text.
fn cost(args: &PressArgs, options: &PressOptions) -> anyhow::Result<Option<Task>> {
    if args.cost == "kl" {
        return Ok(None);
    }
    if options
        .tiers
        .iter()
        .all(|bits| matches!(bits, StageBits::Depth(_)))
    {
        return Err(exit::fault(
            Fault::Usage,
            "--cost says what depths are chosen for, but here every weight has the same: add --bpw, --size, --quality \
             or an average in --tiers, such as 2.5",
        ));
    }
    task::read("--cost", &args.cost, args.tasks.as_deref(), None).map(Some)
}

/// How long the file may be, or how much it may lose.
fn target(args: &PressArgs) -> anyhow::Result<Option<StageBits>> {
    if let Some(nats) = args.quality {
        if !(nats > 0.0 && nats.is_finite()) {
            let message = format!("--quality {nats}: give a divergence above 0, such as 0.01");
            return Err(exit::fault(Fault::Usage, message));
        }
        return Ok(Some(StageBits::Divergence(nats)));
    }
    if let Some(bits) = args.bpw {
        if !(bits > 0.0 && bits.is_finite()) {
            let message = format!("--bpw {bits}: give a number of bits above 0");
            return Err(exit::fault(Fault::Usage, message));
        }
        return Ok(Some(StageBits::FileBits(bits)));
    }
    Ok(match args.size {
        None => None,
        Some(Size::Bytes(bytes)) => Some(StageBits::FileBytes(bytes)),
        Some(Size::Share(share)) => {
            let checkpoint = Checkpoint::open(&args.checkpoint).blame(Fault::Input)?;
            Some(StageBits::FileBytes(
                (checkpoint_bytes(&checkpoint) as f64 * share) as u64,
            ))
        }
    })
}

/// Bytes of all files of a checkpoint.
fn checkpoint_bytes(checkpoint: &Checkpoint) -> u64 {
    let files = checkpoint.files().iter();
    files.map(|(_, bytes)| bytes.len() as u64).sum()
}

/// Fails early where the output could not get its name in the end.
fn check_place(output: &Path) -> anyhow::Result<()> {
    if output.is_dir() {
        bail!(
            "cannot write {}: there is a folder of this name",
            output.display()
        );
    }
    let parent = match output.parent() {
        None => bail!("cannot write {}: it is no file name", output.display()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    let found = std::fs::metadata(parent).with_context(|| {
        format!(
            "cannot write {}: folder {}",
            output.display(),
            parent.display()
        )
    })?;
    if !found.is_dir() {
        bail!(
            "cannot write {}: {} is no folder",
            output.display(),
            parent.display()
        );
    }
    Ok(())
}

/// The output must not take the place of a calibration text.
fn check_texts(output: &Path, texts: &[PathBuf]) -> anyhow::Result<()> {
    let Ok(place) = output.canonicalize() else {
        return Ok(());
    };
    let same = |text: &&PathBuf| text.canonicalize().is_ok_and(|text| text == place);
    match texts.iter().find(same) {
        None => Ok(()),
        Some(_) => Err(exit::fault(
            Fault::Usage,
            format!(
                "cannot write {}: the calibration text is read from there; choose another output",
                output.display()
            ),
        )),
    }
}

/// The calibration text: all given files, one after the other, or what is built in.
fn calibration_text(paths: &[PathBuf]) -> anyhow::Result<Cow<'static, str>> {
    if paths.is_empty() {
        return Ok(Cow::Borrowed(CALIBRATION));
    }
    let texts = paths
        .iter()
        .map(|path| read_text(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Cow::Owned(texts.join("\n")))
}

/// A text file; anything but UTF-8 is bad input.
pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read {}", path.display()))
        .blame(Fault::Input)?;
    String::from_utf8(bytes)
        .map_err(|e| {
            let place = e.utf8_error().valid_up_to();
            anyhow::anyhow!(
                "{} is not UTF-8 text: byte {place} begins no character",
                path.display()
            )
        })
        .blame(Fault::Input)
}

//! `lagar press`.

use super::demo::CALIBRATION;
use super::inspect::Inspection;
use crate::args::PressArgs;
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::machine;
use crate::terminal::{self, Reporter, bytes, count, duration};
use anyhow::{Context as _, bail};
use lagar_engine::{Checkpoint, Model, ModelOptions};
use lagar_press::{PressError, PressOptions, Request};
use serde::Serialize;
use std::borrow::Cow;
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
}

/// The object of `press --dry-run --json`.
#[derive(Debug, Serialize)]
struct Plan {
    architecture: String,
    parameters: u64,
    bits: u8,
    calibration_tokens: usize,
    checkpoint_bytes: u64,
    /// Codes and scales alone, estimated.
    weight_bytes: u64,
}

pub(crate) fn press(context: &Context, args: &PressArgs) -> anyhow::Result<()> {
    check_place(&args.output)?;
    check_texts(&args.output, &args.text)?;
    let text = calibration_text(&args.text)?;
    if args.dry_run {
        return dry_run(context, args, &text);
    }
    let interrupt = Interrupt::catch(Second::Exits)?;
    let reporter = Reporter::new(context.messages, &interrupt);
    let mut options = PressOptions::default();
    options.bits = args.bits;
    options.tokens = args.tokens.get();
    options.seed = args.seed;
    let request = Request {
        checkpoint: &args.checkpoint,
        text: &text,
        output: &args.output,
        options,
        resume: args.resume,
    };
    let result = lagar_press::press(&context.cpu(), &request, &reporter);
    drop(reporter);
    let report = match result {
        Err(PressError::Interrupted) => {
            context
                .messages
                .say("what is finished is kept; the same command with --resume goes on from there");
            return Err(PressError::Interrupted.into());
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
    let pressed = Pressed {
        inspection: Inspection::of(&args.output, false)?,
        seconds: report.seconds,
        peak_memory_bytes: machine::peak_memory_bytes(),
        calibration_tokens: report.calibration_tokens,
        resumed_units: report.resumed_units,
    };
    if context.json {
        return terminal::print_json(&pressed);
    }
    let memory = pressed.peak_memory_bytes.map_or(String::new(), |peak| {
        format!(" and {} of memory", bytes(peak))
    });
    terminal::print_styled(&format!(
        "{}pressed in {}{memory}, with {} tokens of calibration text\n",
        pressed.inspection.render(),
        duration(Duration::from_secs_f64(pressed.seconds)),
        pressed.calibration_tokens
    ))
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

fn dry_run(context: &Context, args: &PressArgs, text: &str) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.checkpoint).blame(Fault::Input)?;
    let checkpoint_bytes = checkpoint
        .files()
        .iter()
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    let model = Model::from_checkpoint(checkpoint, &ModelOptions::default()).blame(Fault::Input)?;
    let tokens = model.tokenizer().encode_plain(text)?.len();
    let calibration_tokens = tokens.min(args.tokens.get());
    if calibration_tokens < 2 {
        let error = PressError::TextTooShort {
            purpose: "calibration",
            tokens: calibration_tokens,
            needed: 2,
        };
        return Err(error.into());
    }
    let parameters = model.parameters();
    let plan = Plan {
        architecture: model.spec().architecture.clone(),
        parameters,
        bits: args.bits,
        calibration_tokens,
        checkpoint_bytes,
        // One byte of scale for 128 weights, and one 16-bit scale a row.
        weight_bytes: (parameters as f64 * (f64::from(args.bits) + 0.08) / 8.0) as u64,
    };
    if context.json {
        return terminal::print_json(&plan);
    }
    terminal::print(&format!(
        "{}: {} parameters, {} in {}\nwould be pressed at {} bits with {} tokens of calibration text\n\
         into {}, of about {} and the tokenizer; nothing was written\n",
        terminal::escape(&plan.architecture),
        count(plan.parameters),
        bytes(plan.checkpoint_bytes),
        terminal::escape(&args.checkpoint.to_string_lossy()),
        plan.bits,
        plan.calibration_tokens,
        terminal::escape(&args.output.to_string_lossy()),
        bytes(plan.weight_bytes),
    ))
}

//! `lagar demo`: press the built-in model at several depths and in tiers, measure, restore, show.

mod assets;
mod chart;
mod page;
mod report;

pub(crate) use assets::{CALIBRATION, EVALUATION};

use super::completion::Writer;
use super::measured::{Losses, Size};
use super::model;
use super::speaker::Speaker;
use crate::args::DemoArgs;
use crate::context::Context;
use crate::interrupt::{Interrupt, Second};
use crate::terminal::{self, Reporter, duration, escape, heading};
use anyhow::{Context as _, bail};
use lagar_engine::Model;
use lagar_kernels::Cpu;
use lagar_press::{EvaluationOptions, PressOptions, Request, STAGE_TIERS, evaluate, restore};
use report::{ORIGINAL, Report, Row, Tiered};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// Depths that are pressed.
const BITS: [u8; 3] = [2, 3, 4];
/// Stages of the file that also restores the original.
const STAGES: [u8; 2] = [2, 2];
/// Tokens of calibration text: half of it, so that the demo stays under a minute on two cores.
const CALIBRATION_TOKENS: usize = 40_960;
/// Tokens of the evaluation text that are scored, and the window that the model was trained with.
const TOKENS: usize = 12_288;
const CONTEXT: usize = 256;
const PROMPT: &str = "It was a fine morning, and";
/// Length of a paragraph.
const PARAGRAPH: usize = 120;
/// Seed of the paragraphs.
const SEED: u64 = 1;
/// How often a generation is timed; the fastest counts, since nothing makes it faster than it is.
const TIMED: usize = 3;
const PAGE: &str = "lagar-demo.html";
const CHECKPOINT: &str = "novels4m";

pub(crate) fn demo(context: &Context, args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let interrupt = Interrupt::catch(Second::Exits)?;
    let temporary;
    let (folder, page) = match &args.output {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            (folder.as_path(), folder.join(PAGE))
        }
        None => {
            temporary =
                TempDir::with_prefix("lagar-demo-").context("cannot make a temporary folder")?;
            (temporary.path(), PathBuf::from(PAGE))
        }
    };
    let report = Demo {
        context,
        cpu: context.cpu(),
        interrupt: &interrupt,
        folder,
    }
    .run(started, page)?;
    let html = page::render(&report);
    std::fs::write(&report.page, html)
        .with_context(|| format!("cannot write {}", report.page.display()))?;
    if context.json {
        terminal::print_json(&report)
    } else {
        terminal::print_styled(&text(&report))
    }
}

/// What the demo says on stdout.
fn text(report: &Report) -> String {
    let mut out = format!("{}{}\n\n", report.table(), report.tiered.words());
    for row in report.all_rows() {
        let paragraph = row
            .paragraph
            .split('\n')
            .map(escape)
            .collect::<Vec<_>>()
            .join("\n");
        out.push_str(&format!(
            "{}\n{}{}\n\n",
            heading(&row.name),
            report.prompt,
            paragraph
        ));
    }
    let seconds = std::time::Duration::from_secs_f64(report.seconds);
    out.push_str(&format!(
        "All this took {}. The page is {}\n",
        duration(seconds),
        report.page.display()
    ));
    out
}

/// Fails unless both folders hold the same files.
fn same_files(a: &Path, b: &Path) -> anyhow::Result<()> {
    let read = |folder: &Path| -> anyhow::Result<BTreeMap<OsString, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            files.insert(entry.file_name(), std::fs::read(entry.path())?);
        }
        Ok(files)
    };
    if read(a)? != read(b)? {
        bail!("{} and {} differ", a.display(), b.display());
    }
    Ok(())
}

struct Demo<'a> {
    context: &'a Context,
    cpu: Cpu,
    interrupt: &'a Interrupt,
    folder: &'a Path,
}

impl Demo<'_> {
    fn run(&self, started: Instant, page: PathBuf) -> anyhow::Result<Report> {
        let checkpoint = self.folder.join(CHECKPOINT);
        std::fs::create_dir_all(&checkpoint)
            .with_context(|| format!("cannot make {}", checkpoint.display()))?;
        assets::unpack(&checkpoint)?;
        let original = self.open(&checkpoint, None)?;
        let mut rows = Vec::new();
        let mut tokens = 0;
        for bits in BITS {
            let file = self.folder.join(format!("{CHECKPOINT}-{bits}bit.lagar"));
            self.context
                .messages
                .detail(&format!("pressing at {bits} bits"));
            let seconds = self.press(&checkpoint, &file, &[bits], false)?;
            let (row, measured) = self.measure(&self.open(&file, None)?, &original)?;
            let row = Row {
                name: format!("{bits} bits"),
                bits: Some(bits),
                press_seconds: Some(seconds),
                ..row
            };
            if rows.is_empty() {
                tokens = measured.tokens;
                rows.push(self.original(&original, &measured)?);
            }
            rows.push(row);
        }
        let tiered = self.tiered(&checkpoint, &original)?;
        Ok(Report {
            parameters: original.parameters(),
            tokens,
            threads: self.cpu.threads(),
            instruction_set: self.cpu.isa().name().to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            prompt: PROMPT.to_owned(),
            page,
            rows,
            tiered,
        })
    }

    /// Presses the tiers, measures each, and restores the original from them.
    fn tiered(&self, checkpoint: &Path, original: &Model) -> anyhow::Result<Tiered> {
        let file = self.folder.join(format!("{CHECKPOINT}.lagar"));
        self.context.messages.detail("pressing in tiers");
        let press_seconds = self.press(checkpoint, &file, &STAGES, true)?;
        let mut rows = Vec::new();
        for tier in &STAGE_TIERS[..STAGES.len()] {
            let (row, _) = self.measure(&self.open(&file, Some(tier))?, original)?;
            let name = format!("tier {tier}");
            rows.push(Row { name, ..row });
        }
        let restored = self.folder.join(format!("{CHECKPOINT}-restored"));
        if restored.exists() {
            std::fs::remove_dir_all(&restored)
                .with_context(|| format!("cannot remove {}", restored.display()))?;
        }
        let reporter = Reporter::new(self.context.messages, self.interrupt);
        let restored_files = restore(&self.cpu, &file, &restored, &reporter)?.files;
        drop(reporter);
        same_files(checkpoint, &restored)?;
        let file_bytes = std::fs::metadata(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .len();
        Ok(Tiered {
            rows,
            file_bytes,
            bits_per_parameter: 8.0 * file_bytes as f64 / original.parameters() as f64,
            restored_files,
            press_seconds,
        })
    }

    fn open(&self, path: &Path, tier: Option<&str>) -> anyhow::Result<Arc<Model>> {
        model::open(self.context, path, tier)
    }

    /// Presses, and gives the seconds it took.
    fn press(
        &self,
        checkpoint: &Path,
        output: &Path,
        stages: &[u8],
        exact: bool,
    ) -> anyhow::Result<f64> {
        let reporter = Reporter::new(self.context.messages, self.interrupt);
        let mut options = PressOptions::default().with_tiers(stages, exact);
        options.tokens = CALIBRATION_TOKENS;
        let request = Request {
            checkpoint,
            text: CALIBRATION,
            held_out: None,
            cost: None,
            output,
            options,
            resume: false,
        };
        Ok(lagar_press::press(&self.cpu, &request, &reporter)?.seconds)
    }

    /// A row without a name, and all that was measured for it.
    fn measure(&self, model: &Arc<Model>, original: &Model) -> anyhow::Result<(Row, Losses)> {
        let reporter = Reporter::new(self.context.messages, self.interrupt);
        let options = EvaluationOptions::new(Some(CONTEXT), Some(TOKENS));
        let evaluation = evaluate(
            &self.cpu,
            model,
            Some(original),
            EVALUATION,
            &options,
            &reporter,
        )?;
        drop(reporter);
        let measured = Losses::new(&evaluation, false);
        let compared = measured.compared.as_ref();
        let compared = compared.context("a reference was given")?;
        let size = Size::of(model);
        let (paragraph, tokens_per_second) = self.write(model)?;
        let row = Row {
            name: String::new(),
            bits: None,
            file_bytes: size.file_bytes,
            bits_per_parameter: size.bits_per_parameter,
            perplexity: measured.perplexity,
            kl_mean: compared.kl_mean,
            top1_agreement: compared.top1_agreement,
            tokens_per_second,
            press_seconds: None,
            paragraph,
        };
        Ok((row, measured))
    }

    /// The original's row; its perplexity was measured beside a pressed model's.
    fn original(&self, model: &Arc<Model>, beside: &Losses) -> anyhow::Result<Row> {
        let compared = beside.compared.as_ref();
        let compared = compared.context("a reference was given")?;
        let (paragraph, tokens_per_second) = self.write(model)?;
        let size = Size::of(model);
        Ok(Row {
            name: ORIGINAL.to_owned(),
            bits: None,
            file_bytes: size.file_bytes,
            bits_per_parameter: size.bits_per_parameter,
            perplexity: compared.reference_perplexity,
            kl_mean: 0.0,
            top1_agreement: 1.0,
            tokens_per_second,
            press_seconds: None,
            paragraph,
        })
    }

    /// Lets a model write a paragraph, and times it.
    fn write(&self, model: &Arc<Model>) -> anyhow::Result<(String, f64)> {
        let mut speaker = Speaker::new(&self.cpu, Arc::clone(model))?;
        speaker.sampling.seed = SEED;
        let prompt = speaker.text(PROMPT)?;
        let mut best = 0.0;
        let mut text = String::new();
        for _ in 0..TIMED {
            let done = speaker.complete(
                &prompt,
                Some(PARAGRAPH),
                &[],
                self.interrupt,
                &mut Writer::silent(),
            )?;
            self.interrupt.check()?;
            best = done.outcome.decode_rate().unwrap_or(0.0).max(best);
            text = done.text;
        }
        Ok((text, best))
    }
}

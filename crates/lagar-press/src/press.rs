//! Pressing a checkpoint: the order of the work.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Instant;

use lagar_codec::{GROUP, StageLayout, Table, Transform};
use lagar_engine::generate::GenerationConfig;
use lagar_engine::{Checkpoint, Model, ModelOptions, Observer, Site};
use lagar_format::{Container, Limits, SourceFile, os};
use lagar_kernels::Cpu;

use crate::assemble::assemble_base;
use crate::encode::{
    Feedback, Hessians, Job, SiteCode, StageCode, Unit, UnitBuilder, choose_transform, encode_site,
    of_tokens, transform_hessian,
};
use crate::evaluate::Windows;
use crate::measure::{self, Measurement};
use crate::partial::{Key, Partial};
use crate::source::{check_weights, hash_files};
use crate::{PressError, PressOptions, Progress, calibration, exact};

/// Calibration tokens whose forward pass and Hessians cost about as much as coding the weights
/// they pass through: for the estimate of time left only.
const TOKENS_PER_CODING: u64 = 8192;
/// Window width of the trellis code.
pub(crate) const TRELLIS_WINDOW: u8 = 8;
/// The stream of random signs of an embedding that is not the output head.
const EMBEDDING_STREAM: u64 = u64::MAX;

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
    /// What the tiers below `full` lose; none where there are none.
    pub measurement: Option<Measurement>,
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
    let windows = calibration::windows(model.tokenizer(), request.text, options.tokens, context)?;

    let plan = match options.exact {
        false => None,
        true => Some(exact::plan(cpu, request, progress)?),
    };
    let sources = match &plan {
        Some(plan) => plan.sources(),
        None => hash_files(cpu, &checkpoint, progress)?,
    };
    check_weights(cpu, &checkpoint, spec, progress)?;

    let key = Key {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        checkpoint: digest_sources(&sources),
        text: digest_windows(&windows),
    };
    let partial = Partial::open(request.output, &key, request.resume)?;
    let mut pressing = Pressing {
        cpu,
        model: &model,
        checkpoint: &checkpoint,
        options,
        partial: &partial,
        progress,
        token_importance: of_tokens(spec.vocabulary, windows.iter().flatten()),
        resumed: 0,
    };
    let units = pressing.units(&windows)?;
    let mut resumed_units = pressing.resumed;

    progress.phase("Writing and reading back", 2);
    let base = partial.base();
    assemble_base(&checkpoint, spec, options, &key, sources, &units, &base)?;
    progress.advance(1);
    let mut file_bytes = read_back(&base, &model)?;
    progress.advance(1);
    let measurement = match measure::tiers(cpu, request, &model, &base, progress) {
        // The file is what was asked for all the same.
        Err(error @ PressError::Logits { .. }) => {
            progress.note(&format!("the tiers cannot be measured: {error}"));
            None
        }
        measured => Some(measured?),
    };

    if let Some(plan) = &plan {
        let below = exact::Below::Tiers(Box::new(Container::open(&base, &Limits::default())?));
        let finished = exact::finish(cpu, plan, below, &partial, request, progress)?;
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
        measurement,
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
fn read_back(path: &Path, original: &Model) -> Result<u64, PressError> {
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

fn digest_windows(windows: &Windows) -> String {
    let mut hasher = blake3::Hasher::new();
    for window in windows.iter() {
        hasher.update(&(window.len() as u64).to_le_bytes());
        for token in window {
            hasher.update(&token.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// A press under way.
struct Pressing<'a> {
    cpu: &'a Cpu,
    model: &'a Model,
    checkpoint: &'a Checkpoint,
    options: &'a PressOptions,
    partial: &'a Partial,
    progress: &'a dyn Progress,
    /// Of the rows of the embedding and the head.
    token_importance: Vec<f32>,
    resumed: usize,
}

impl Pressing<'_> {
    /// Every unit in file order, made now or taken over.
    fn units(&mut self, windows: &Windows) -> Result<Vec<Unit>, PressError> {
        let spec = self.model.spec();
        let sites = spec.sites();
        let (head, inner) = sites.split_last().expect("every model has a head");
        let layers: Vec<&[Site]> = inner.chunk_by(|a, b| a.layer == b.layer).collect();
        let layer_name = |layer: usize| format!("layer-{layer:05}");

        self.begin_progress(&layers, windows);
        let mut taken: Vec<Option<Unit>> = Vec::new();
        for layer in 0..layers.len() {
            taken.push(self.take_over(&layer_name(layer))?);
        }
        let taken_head = self.take_over("head")?;
        let taken_embedding = if spec.is_tied() {
            None
        } else {
            self.take_over("embedding")?
        };

        let mut units = Vec::new();
        if !spec.is_tied() {
            units.push(match taken_embedding {
                Some(unit) => unit,
                None => self.embedding_unit()?,
            });
        }
        // The forward pass is only needed up to the last unit that is still to be made.
        let needed = if taken_head.is_none() {
            layers.len() + 1
        } else {
            taken
                .iter()
                .rposition(Option::is_none)
                .map_or(0, |last| last + 1)
        };
        let mut stream = Stream::new(self, windows, needed > 0)?;
        for (layer, (sites, taken)) in layers.into_iter().zip(taken).enumerate() {
            let wanted = if taken.is_none() { sites } else { &[] };
            let mut hessians = Hessians::new(self.cpu, wanted);
            if layer < needed {
                stream.layer(self, layer, sites, &mut hessians)?;
            }
            units.push(match taken {
                Some(unit) => unit,
                None => self.encode_unit(&layer_name(layer), sites, &mut hessians)?,
            });
        }
        units.push(match taken_head {
            Some(unit) => unit,
            None => {
                let mut hessians = Hessians::new(self.cpu, [head]);
                stream.head(self, &mut hessians);
                self.encode_unit("head", std::slice::from_ref(head), &mut hessians)?
            }
        });
        Ok(units)
    }

    fn take_over(&mut self, name: &str) -> Result<Option<Unit>, PressError> {
        let unit = Unit::read(&self.partial.unit(name))?;
        self.resumed += usize::from(unit.is_some());
        Ok(unit)
    }

    fn begin_progress(&self, layers: &[&[Site]], windows: &Windows) {
        let coding = self.model.parameters() * self.options.tiers.len() as u64;
        let reading: u64 = layers
            .iter()
            .map(|sites| self.reading_steps(sites, windows.text_tokens()))
            .sum();
        self.progress.phase("Pressing", coding + reading);
    }

    /// Steps that the forward pass of a layer counts as, next to one a weight for coding it.
    fn reading_steps(&self, sites: &[Site], tokens: usize) -> u64 {
        let weights: u64 = sites
            .iter()
            .map(|site| (site.width * site.width) as u64)
            .sum();
        weights * tokens as u64 / TOKENS_PER_CODING
    }

    /// The unit of an embedding that is not the head. It is looked up, not multiplied: every
    /// column counts the same.
    fn embedding_unit(&self) -> Result<Unit, PressError> {
        let name = self.model.spec().embedding();
        let width = self.model.spec().hidden;
        let mut identity = vec![0f32; width * width];
        identity
            .iter_mut()
            .step_by(width + 1)
            .for_each(|d| *d = 1.0);
        let mut builder = UnitBuilder::default();
        self.encode_linears(
            &mut builder,
            identity,
            width,
            EMBEDDING_STREAM,
            name,
            &[name.to_owned()],
        )?;
        builder.write(&self.partial.unit("embedding"))
    }

    fn encode_unit(
        &self,
        name: &str,
        sites: &[Site],
        hessians: &mut Hessians<'_>,
    ) -> Result<Unit, PressError> {
        let mut builder = UnitBuilder::default();
        for site in sites {
            let hessian = hessians.take(site.id);
            let what = format!("{} ({name})", site.linears.join(", "));
            let stream = site.id.0 as u64;
            self.encode_linears(
                &mut builder,
                hessian,
                site.width,
                stream,
                &what,
                &site.linears,
            )?;
        }
        builder.write(&self.partial.unit(name))
    }

    /// Adds the linears of one site, given the Hessian of their common input.
    fn encode_linears(
        &self,
        builder: &mut UnitBuilder,
        hessian: Vec<f32>,
        width: usize,
        stream: u64,
        what: &str,
        names: &[String],
    ) -> Result<(), PressError> {
        let transform = choose_transform(&hessian, width, self.options.seed, stream)?;
        let hessian = transform_hessian(self.cpu, &transform, hessian);
        let padded = transform.padded_width();
        let spec = self.model.spec();
        let is_embedding = names.iter().any(|name| name == spec.embedding());
        let dampings = self.options.dampings(is_embedding);
        let feedbacks = feedbacks(self.cpu, hessian, padded, &dampings, what)?;
        let stages: Vec<StageCode<'_>> = dampings
            .iter()
            .zip(&self.options.tiers)
            .enumerate()
            .map(|(stage, (damping, &bits))| StageCode {
                feedback: &feedbacks
                    .iter()
                    .find(|(known, _)| known == damping)
                    .expect("every damping has its feedback")
                    .1,
                table: Table::trained(bits, TRELLIS_WINDOW),
                stretch: if stage == 0 { stretch(bits) } else { 1.0 },
            })
            .collect();
        let tensors: Vec<_> = names
            .iter()
            .map(|name| self.checkpoint.tensor(name))
            .collect::<Result<_, _>>()?;
        let readers: Vec<_> = tensors
            .iter()
            .map(|tensor| move |first: usize, out: &mut [f32]| tensor.read_f32(first * width, out))
            .collect();
        let jobs: Vec<Job<'_>> = tensors
            .iter()
            .zip(&readers)
            .map(|(tensor, rows)| {
                let layout = |&bits: &u8| {
                    let depths = vec![bits; padded.div_ceil(GROUP)];
                    StageLayout::new(tensor.shape()[0], width, &depths)
                };
                Ok(Job {
                    name: tensor.name(),
                    layouts: self
                        .options
                        .tiers
                        .iter()
                        .map(layout)
                        .collect::<Result<_, _>>()?,
                    row_importance: if is_embedding || *tensor.name() == *spec.head.weight {
                        &self.token_importance
                    } else {
                        &[]
                    },
                    rows,
                })
            })
            .collect::<Result<_, PressError>>()?;
        let code = SiteCode {
            transform: &transform,
            stages: &stages,
        };
        let encoded = encode_site(self.cpu, &code, &jobs, self.progress)?;
        builder.site(width, permutation_bytes(&transform), sign_bytes(&transform));
        for (name, stages) in names.iter().zip(encoded) {
            builder.linear(name, stages);
        }
        for tensor in &tensors {
            os::advise(tensor.region(), os::Advice::DontNeed);
        }
        Ok(())
    }
}

/// Factor on the scales of a first stage: measured at 1 and 2 bits (`bench/record/tiers.md`); with more there
/// is next to nothing to gain.
fn stretch(bits: u8) -> f32 {
    match bits {
        1 => 1.2,
        2 => 1.05,
        _ => 1.0,
    }
}

/// One feedback for each distinct damping. The last takes the memory of the Hessian.
fn feedbacks(
    cpu: &Cpu,
    mut hessian: Vec<f32>,
    width: usize,
    dampings: &[f32],
    what: &str,
) -> Result<Vec<(f32, Feedback)>, PressError> {
    let mut distinct: Vec<f32> = Vec::new();
    for &damping in dampings {
        if !distinct.contains(&damping) {
            distinct.push(damping);
        }
    }
    let last = distinct.len() - 1;
    distinct
        .into_iter()
        .enumerate()
        .map(|(i, damping)| {
            let hessian = if i == last {
                std::mem::take(&mut hessian)
            } else {
                hessian.clone()
            };
            Ok((damping, Feedback::new(cpu, hessian, width, damping, what)?))
        })
        .collect()
}

/// As the format stores it: u16 where every column fits, u32 otherwise.
fn permutation_bytes(transform: &Transform) -> Vec<u8> {
    if transform.width() <= 1 << 16 {
        transform
            .perm()
            .iter()
            .flat_map(|&c| (c as u16).to_le_bytes())
            .collect()
    } else {
        transform
            .perm()
            .iter()
            .flat_map(|c| c.to_le_bytes())
            .collect()
    }
}

/// One bit per column, lowest first, 1 for negative.
fn sign_bytes(transform: &Transform) -> Vec<u8> {
    transform
        .signs()
        .chunks(8)
        .map(|signs| {
            signs
                .iter()
                .enumerate()
                .fold(0, |byte, (i, &s)| byte | u8::from(s) << i)
        })
        .collect()
}

/// The residual stream of every calibration window, between two blocks.
struct Stream {
    /// `n × hidden` for each window.
    windows: Vec<Vec<f32>>,
}

impl Stream {
    /// Looks every token up, if a forward pass is needed at all.
    fn new(pressing: &Pressing<'_>, windows: &Windows, needed: bool) -> Result<Self, PressError> {
        let hidden = pressing.model.spec().hidden;
        let mut streams = Vec::new();
        if needed {
            for window in windows.iter() {
                let mut x = vec![0f32; window.len() * hidden];
                pressing.model.embed(pressing.cpu, &window, &mut x)?;
                streams.push(x);
            }
        }
        Ok(Self { windows: streams })
    }

    /// Takes all windows through one block, whose sites are given.
    fn layer(
        &mut self,
        pressing: &Pressing<'_>,
        layer: usize,
        sites: &[Site],
        hessians: &mut Hessians<'_>,
    ) -> Result<(), PressError> {
        let hidden = pressing.model.spec().hidden;
        let mut cache = pressing.model.layer_cache(layer);
        for x in &mut self.windows {
            if pressing.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            cache.truncate(0);
            let n = x.len() / hidden;
            pressing
                .model
                .layer(pressing.cpu, layer, x, n, &mut cache, hessians)?;
            pressing.progress.advance(pressing.reading_steps(sites, n));
        }
        Ok(())
    }

    /// Observes the input of the output head.
    fn head(&mut self, pressing: &Pressing<'_>, hessians: &mut Hessians<'_>) {
        let hidden = pressing.model.spec().hidden;
        for x in &mut self.windows {
            let n = x.len() / hidden;
            pressing.model.final_norm(pressing.cpu, x, n);
            hessians.input(pressing.model.spec().head_site(), x, n);
        }
    }
}

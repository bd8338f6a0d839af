//! Making the units of a press: every linear of the model, coded.

use lagar_codec::Transform;
use lagar_engine::{Checkpoint, Model, Site};
use lagar_format::os;
use lagar_kernels::Cpu;

use crate::budget::Depths;
use crate::encode::{
    Feedback, Hessians, Job, SiteCode, StageCode, Unit, UnitBuilder, choose_transform, encode_site,
    transform_hessian,
};
use crate::evaluate::Windows;
use crate::partial::Partial;
use crate::prepare::Prepare;
use crate::stream::{Stream, reading_steps};
use crate::{PressError, PressOptions, Progress};

/// The stream of random signs of an embedding that is not the output head.
pub(crate) const EMBEDDING_STREAM: u64 = u64::MAX;

/// A press under way.
pub(crate) struct Pressing<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) model: &'a Model,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a PressOptions,
    /// Of all linears.
    pub(crate) depths: &'a Depths,
    pub(crate) partial: &'a Partial,
    pub(crate) progress: &'a dyn Progress,
    /// Of the rows of the embedding and the head.
    pub(crate) token_importance: Vec<f32>,
    pub(crate) resumed: usize,
}

impl Pressing<'_> {
    /// Every unit in file order, made now or taken over.
    pub(crate) fn units(&mut self, windows: &Windows) -> Result<Vec<Unit>, PressError> {
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
        let read = windows.iter().filter(|_| needed > 0);
        let mut stream = Stream::new(self.cpu, self.model, read, self.progress)?;
        for (layer, (sites, taken)) in layers.into_iter().zip(taken).enumerate() {
            let wanted = if taken.is_none() { sites } else { &[] };
            let mut hessians = Hessians::new(self.cpu, wanted);
            if layer < needed {
                stream.layer(layer, sites, &mut hessians)?;
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
                stream.head(&mut hessians);
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
            .map(|sites| reading_steps(sites, windows.text_tokens()))
            .sum();
        self.progress.phase("Pressing", coding + reading);
    }

    /// The unit of an embedding that is not the head. It is looked up, not multiplied: every
    /// column counts the same.
    fn embedding_unit(&self) -> Result<Unit, PressError> {
        let name = self.model.spec().embedding();
        let width = self.model.spec().hidden;
        let mut builder = UnitBuilder::default();
        self.encode_linears(
            &mut builder,
            identity(width),
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
        let passes = self
            .options
            .recipe
            .passes(&self.options.dampings(is_embedding));
        let diagonal: Vec<f32> = hessian.iter().step_by(padded + 1).copied().collect();
        let dampings: Vec<f32> = passes.iter().map(|pass| pass.damping).collect();
        let feedbacks = feedbacks(self.cpu, hessian, padded, &dampings, what)?;
        let stages: Vec<StageCode<'_>> = passes
            .iter()
            .map(|pass| StageCode {
                feedback: &feedbacks
                    .iter()
                    .find(|(known, _)| *known == pass.damping)
                    .expect("every damping has its feedback")
                    .1,
                stretch: pass.stretch,
            })
            .collect();
        let tensors: Vec<_> = names
            .iter()
            .map(|name| self.checkpoint.tensor(name))
            .collect::<Result<_, _>>()?;
        let prepare = Prepare {
            cpu: self.cpu,
            recipe: self.options.recipe,
            depths: self.depths,
            transform: &transform,
            passes: &passes,
            pivots: stages
                .iter()
                .zip(&passes)
                .rfind(|(_, pass)| pass.tier == 0)
                .expect("every press has a first tier")
                .0
                .feedback
                .pivots(),
            diagonal,
        };
        let row_importance = |name: &str| -> &[f32] {
            match is_embedding || name == spec.head.weight {
                true => &self.token_importance,
                false => &[],
            }
        };
        let readers: Vec<_> = tensors
            .iter()
            .map(|tensor| move |first: usize, out: &mut [f32]| tensor.read_f32(first * width, out))
            .collect();
        let mut prepared = tensors
            .iter()
            .zip(&readers)
            .map(|(tensor, read)| {
                let rows = tensor.shape()[0];
                prepare.linear(tensor.name(), rows, row_importance(tensor.name()), read)
            })
            .collect::<Result<Vec<_>, PressError>>()?;
        let jobs: Vec<Job<'_>> = tensors
            .iter()
            .zip(&prepared)
            .zip(&readers)
            .map(|((tensor, prepared), rows)| Job {
                name: tensor.name(),
                layouts: prepared.layouts.clone(),
                tables: &prepared.tables,
                outliers: prepared.outliers.as_ref(),
                low_rank: prepared.product.as_ref(),
                row_importance: row_importance(tensor.name()),
                rows,
            })
            .collect();
        let code = SiteCode {
            transform: &transform,
            stages: &stages,
        };
        let encoded = encode_site(self.cpu, &code, &jobs, self.progress)?;
        drop(jobs);
        builder.site(width, permutation_bytes(&transform), sign_bytes(&transform));
        for ((name, prepared), stages) in names.iter().zip(&mut prepared).zip(encoded) {
            builder.linear(name, prepared.tiers(&passes, stages));
        }
        for tensor in &tensors {
            os::advise(tensor.region(), os::Advice::DontNeed);
        }
        Ok(())
    }
}

/// The second moments of columns that all count the same.
pub(crate) fn identity(width: usize) -> Vec<f32> {
    let mut identity = vec![0f32; width * width];
    let diagonal = identity.iter_mut().step_by(width + 1);
    diagonal.for_each(|d| *d = 1.0);
    identity
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
pub(crate) fn permutation_bytes(transform: &Transform) -> Vec<u8> {
    if transform.width() <= 1 << 16 {
        let columns = transform.columns();
        columns.flat_map(|c| (c as u16).to_le_bytes()).collect()
    } else {
        transform.columns().flat_map(u32::to_le_bytes).collect()
    }
}

/// One bit per column, lowest first, 1 for negative.
pub(crate) fn sign_bytes(transform: &Transform) -> Vec<u8> {
    let mut bytes = vec![0; transform.width().div_ceil(8)];
    for (i, negative) in transform.signs().enumerate() {
        bytes[i / 8] |= u8::from(negative) << (i % 8);
    }
    bytes
}

//! A model of a tier of a `.lagar` file.

use std::collections::BTreeSet;
use std::sync::Arc;

use lagar_format::{Body, Container, Region};

use super::embedding::{Embedding, OnDemand};
use super::source::{Parts, Source};
use super::stream::Stream;
use super::tier_source::TierSource;
use super::weights::Weights;
use super::{Model, ModelOptions};
use crate::EngineError;
use crate::spec::ModelSpec;
use crate::stored::{Spare, Stored, Tier, shown};
use crate::tokenizer::Tokenizer;

impl Model {
    /// A model of a container's tier, by default the best one that the file holds. Codes stay in
    /// the mapped file.
    ///
    /// Everything that the index says is checked against the architecture. The checksums of the
    /// bytes that stay in memory are not ([`Model::open`] does that, [`Container::check`] is how);
    /// whatever the bytes are, a model computes without reading outside of them.
    ///
    /// # Errors
    /// A tier that is not there, a configuration that cannot be run, and tensors that are missing,
    /// extra, or not of the shape and type that the configuration asks for.
    pub fn from_container(
        container: Container,
        tier: Option<usize>,
        options: &ModelOptions,
    ) -> Result<Self, EngineError> {
        let tier = match tier {
            Some(tier) => tier,
            None => find_tier(&container, None)?,
        };
        let opened = Arc::new(Opened::new(container)?);
        let resident = resident(opened.stored.container(), tier, options)?;
        opened.stored.trust(resident);
        opened.model(tier, options)
    }

    pub(super) fn open_container(
        mut container: Container,
        tier: Option<&str>,
        options: &ModelOptions,
    ) -> Result<Self, EngineError> {
        let tier = find_tier(&container, tier)?;
        let resident = resident(&container, tier, options)?;
        if options.huge_pages {
            container.hold_in_huge_pages(resident)?;
        }
        let opened = Arc::new(Opened::new(container)?);
        opened.stored.check_tier(resident)?;
        opened.model(tier, options)
    }

    /// The model of another tier of the same open file. What both use is shared, and only what no
    /// model of the file has checked yet is checked.
    ///
    /// Sessions belong to the file, not to the tier: one that was begun with this model can go on
    /// with the other, and keeps what it has cached.
    ///
    /// # Errors
    /// As [`Model::open`]. A model of a checkpoint has no tiers.
    pub fn at_tier(&self, tier: &str, options: &ModelOptions) -> Result<Self, EngineError> {
        let Some(opened) = &self.opened else {
            return Err(EngineError::MissingTier {
                file: self.spec.architecture.clone(),
                tier: tier.into(),
                available: "the original weights only, as a checkpoint folder".into(),
            });
        };
        let tier = find_tier(opened.stored.container(), Some(tier))?;
        let resident = resident(opened.stored.container(), tier, options)?;
        opened.stored.check_tier(resident)?;
        opened.model(tier, options)
    }

    /// The name of the model's tier; `None` for a checkpoint.
    pub fn tier(&self) -> Option<&str> {
        let opened = self.opened.as_ref()?;
        let tiers = &opened.stored.container().index().tiers;
        Some(&tiers[self.tier].name)
    }

    /// The names of the tiers that the model's file holds to their end; none for a checkpoint.
    pub fn tiers(&self) -> Vec<&str> {
        let Some(opened) = &self.opened else {
            return Vec::new();
        };
        let container = opened.stored.container();
        let tiers = container.index().tiers.iter();
        let complete = tiers.take(container.tiers_complete());
        complete.map(|tier| tier.name.as_str()).collect()
    }
}

/// An open file, and what models of its tiers have in common.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stored: Stored,
    pub(super) spec: ModelSpec,
    tokenizer: Arc<Tokenizer>,
    files: Vec<(String, Region)>,
    /// What comes before their names in messages.
    origin: String,
}

impl Opened {
    /// Reads what does not depend on the tier, and checks the names of the tensors.
    fn new(container: Container) -> Result<Self, EngineError> {
        let stored = Stored::new(Arc::new(container));
        let container = stored.container();
        let file = stored.name();
        let config = container.file("config.json")?;
        let spec = ModelSpec::from_config(&format!("{file}: config.json"), &config)?;
        check_names(container, &spec, file)?;
        let mut files = Vec::new();
        for stored in &container.index().files {
            let bytes = container.file(&stored.name)?;
            files.push((stored.name.clone(), Region::from_vec(bytes)));
        }
        let origin = format!("{file}: ");
        let tokenizer = Arc::new(super::tokenizer(&origin, &files, &spec)?);
        Ok(Self {
            stored,
            spec,
            tokenizer,
            files,
            origin,
        })
    }

    /// A model of a tier whose resident part is checked.
    fn model(self: &Arc<Self>, tier: usize, options: &ModelOptions) -> Result<Model, EngineError> {
        let file_bytes = self.stored.container().tier_bytes(tier)?;
        let resident = resident(self.stored.container(), tier, options)?;
        let full = self.stored.container().index().full_tier() == Some(tier);
        let cpu = (full && resident == tier).then(|| options.cpu());
        let spare = Spare::default();
        let source = TierSource {
            tier: Tier::new(&self.stored, tier, &self.stored),
            decode: cpu.as_ref().map(|cpu| (cpu, &spare)),
        };
        let (embedding, weights) = if resident < tier {
            let embedding = Embedding::OnDemand(OnDemand::new(self, tier)?.into());
            let stream = Stream::start(self, tier, resident, options)?;
            (embedding, Weights::Streamed(stream))
        } else {
            Weights::resident(&self.spec, &source)?
        };
        let parts = Parts {
            embedding,
            weights,
            final_norm: source.norm(&self.spec.final_norm)?,
            spec: self.spec.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            files: self.files.clone(),
            origin: self.origin.clone(),
            file_bytes,
            tier,
            opened: Some(Arc::clone(self)),
        };
        self.check_parameters()?;
        Ok(Model::from_parts(parts, options))
    }

    /// Compares counts of parameters: a last check, because tensors say more about what is wrong.
    fn check_parameters(&self) -> Result<(), EngineError> {
        let index = self.stored.container().index();
        let (stored, expected) = (index.parameters, self.spec.parameters());
        // A file with nothing below `full` counts all that the folder held, used or not.
        if stored == expected || index.full_tier() == Some(0) {
            return Ok(());
        }
        Err(EngineError::Malformed {
            file: self.stored.name().into(),
            problem: format!(
                "the index says {stored} parameters, but config.json describes {expected}"
            ),
        })
    }
}

/// The tier up to which weights stay in memory.
fn resident(
    container: &Container,
    tier: usize,
    options: &ModelOptions,
) -> Result<usize, EngineError> {
    match options.resident.as_deref() {
        None => Ok(tier),
        Some(name) => Ok(find_tier(container, Some(name))?.min(tier)),
    }
}

/// The position of the tier of this name, or of the best one that the file holds to its end.
pub(super) fn find_tier(container: &Container, name: Option<&str>) -> Result<usize, EngineError> {
    let complete = container.tiers_complete();
    let Some(name) = name else {
        return Ok(complete - 1);
    };
    let tiers = &container.index().tiers;
    match tiers.iter().position(|tier| tier.name == name) {
        Some(tier) if tier < complete => Ok(tier),
        found => {
            let held: Vec<&str> = tiers[..complete].iter().map(|t| t.name.as_str()).collect();
            let mut available = held.join(", ");
            if found.is_some() {
                available.push_str(" (the file was cut off before the end of that tier)");
            }
            Err(EngineError::MissingTier {
                file: shown(container),
                tier: name.into(),
                available,
            })
        }
    }
}

/// No tensor that the architecture does not have.
fn check_names(container: &Container, spec: &ModelSpec, file: &str) -> Result<(), EngineError> {
    let needed = spec.tensors();
    let known: BTreeSet<&str> = needed.iter().map(|tensor| tensor.name.as_str()).collect();
    // What is in the exact section only need not be of the model.
    let used = container.index().tensors.iter();
    let mut names = used.filter(|t| t.body != Body::Exact).map(|t| &t.name);
    match names.find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(extra) => Err(EngineError::ExtraTensor {
            file: file.into(),
            tensor: extra.clone(),
            architecture: spec.architecture.clone(),
        }),
    }
}

//! A model of a tier of a `.lagar` file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lagar_codec::{CodecError, Split, StageLayout, Table, Transform};
use lagar_format::{
    Body, Container, Dtype, Levels, Region, TableRecord, TensorRecord, TransformRecord,
};

use super::linear::{Linear, Stage, Weight};
use super::source::{Parts, Source};
use super::{Model, ModelOptions};
use crate::EngineError;
use crate::checkpoint::{is_computable, read_f32};
use crate::spec::{LinearSpec, ModelSpec};

impl Model {
    /// A model of a container's tier, by default the best one that the file holds. Codes stay in
    /// the mapped file.
    ///
    /// Everything that the index says is checked against the architecture. The checksums of the
    /// bytes are not ([`Model::open`] does that, [`Container::check`] is how); whatever the bytes
    /// are, a model computes without reading outside of them.
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
        let file_bytes = container.tier_bytes(tier)?;
        let file = shown(&container);
        let config = container.file("config.json")?;
        let spec = ModelSpec::from_config(&format!("{file}: config.json"), &config)?;
        check_names(&container, &spec, &file)?;
        let mut files = Vec::new();
        for stored in &container.index().files {
            let bytes = container.file(&stored.name)?;
            files.push((stored.name.clone(), Region::from_vec(bytes)));
        }
        let source = TierSource {
            container: &container,
            tier,
            file,
            tables: RefCell::default(),
            transforms: RefCell::default(),
        };
        let parts = Parts::new(&spec, &source, files, file_bytes)?;
        let parameters = container.index().parameters;
        if parameters != spec.parameters() {
            return Err(EngineError::Malformed {
                file: source.file,
                problem: format!(
                    "the index says {parameters} parameters, but config.json describes {}",
                    spec.parameters()
                ),
            });
        }
        Self::from_parts(parts, options)
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
    let mut names = container.index().tensors.iter().map(|t| &t.name);
    match names.find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(extra) => Err(EngineError::ExtraTensor {
            file: file.into(),
            tensor: extra.clone(),
            architecture: spec.architecture.clone(),
        }),
    }
}

fn shown(container: &Container) -> String {
    match container.path() {
        Some(path) => path.display().to_string(),
        None => "the .lagar file".into(),
    }
}

/// A container, seen at one tier.
struct TierSource<'a> {
    container: &'a Container,
    tier: usize,
    file: String,
    /// What linears share, as far as it has been read.
    tables: RefCell<BTreeMap<usize, Arc<Table>>>,
    transforms: RefCell<BTreeMap<usize, Arc<Transform>>>,
}

impl TierSource<'_> {
    /// The record of a tensor, of the right shape.
    fn record(&self, name: &str, shape: &[usize]) -> Result<&TensorRecord, EngineError> {
        let record = self
            .container
            .tensor(name)
            .ok_or_else(|| EngineError::MissingTensor {
                file: self.file.clone(),
                tensor: name.into(),
                expected: shape.to_vec(),
            })?;
        if !record
            .shape
            .iter()
            .copied()
            .eq(shape.iter().map(|d| *d as u64))
        {
            let found = &record.shape;
            let problem = format!("has shape {found:?}, but config.json asks for {shape:?}");
            return Err(self.fault(name, problem));
        }
        Ok(record)
    }

    fn fault(&self, tensor: &str, problem: impl Into<String>) -> EngineError {
        EngineError::tensor(&self.file, tensor, problem)
    }

    fn code_fault(&self, tensor: &str) -> impl Fn(CodecError) -> EngineError {
        let (file, tensor) = (self.file.clone(), tensor.to_owned());
        move |source| EngineError::Code {
            file: file.clone(),
            tensor: tensor.clone(),
            source,
        }
    }

    /// The elements of a raw tensor, of a type that can be computed with.
    fn raw(&self, name: &str, dtype: Dtype, parts: &[usize]) -> Result<Region, EngineError> {
        if !is_computable(dtype) {
            let problem = format!("has type {dtype}; supported are F32, F16 and BF16");
            return Err(self.fault(name, problem));
        }
        Ok(self.container.part(self.latest(name, parts)?)?)
    }

    /// The part that this tier uses.
    fn latest(&self, name: &str, parts: &[usize]) -> Result<usize, EngineError> {
        let index = self.container.index();
        index.latest(parts, self.tier).ok_or_else(|| {
            let tier = &index.tiers[self.tier].name;
            self.fault(name, format!("has nothing in tier {tier}"))
        })
    }

    fn table(&self, name: &str, id: usize) -> Result<Arc<Table>, EngineError> {
        if let Some(table) = self.tables.borrow().get(&id) {
            return Ok(Arc::clone(table));
        }
        let record = &self.container.index().tables[id];
        let table = Arc::new(table(record).map_err(self.code_fault(name))?);
        self.tables.borrow_mut().insert(id, Arc::clone(&table));
        Ok(table)
    }

    fn transform(&self, name: &str, id: usize) -> Result<Arc<Transform>, EngineError> {
        if let Some(transform) = self.transforms.borrow().get(&id) {
            return Ok(Arc::clone(transform));
        }
        let record = &self.container.index().transforms[id];
        let TransformRecord {
            permutation, signs, ..
        } = *record;
        let (permutation, signs) = (
            self.container.part(permutation)?,
            self.container.part(signs)?,
        );
        let transform = transform(record.width as usize, &permutation, &signs);
        let transform = Arc::new(transform.map_err(self.code_fault(name))?);
        let mut known = self.transforms.borrow_mut();
        known.insert(id, Arc::clone(&transform));
        Ok(transform)
    }

    fn stage(
        &self,
        spec: &LinearSpec,
        record: &lagar_format::WindowStage,
    ) -> Result<Stage, EngineError> {
        let name = &spec.weight;
        let layout = StageLayout::new(spec.outputs, spec.inputs, &record.depths);
        let row_scales = self.latest(name, &record.row_scales)?;
        let stage = Stage {
            layout: layout.map_err(self.code_fault(name))?,
            table: self.table(name, record.table)?,
            codes: self.container.part(record.codes)?,
            scales: self.container.part(record.scales)?,
            row_scales: self.container.part(row_scales)?,
        };
        if let Err(error) = stage.view() {
            return Err(self.fault(name, error.to_string()));
        }
        let checked = stage.layout.check_codes(&stage.codes);
        checked.map_err(self.code_fault(name))?;
        Ok(stage)
    }
}

impl Source for TierSource<'_> {
    fn matrix(&self, spec: &LinearSpec) -> Result<Linear, EngineError> {
        let name = &spec.weight;
        let record = self.record(name, &[spec.outputs, spec.inputs])?;
        let weight = match &record.body {
            Body::Raw { dtype, parts } => Weight::Dense {
                dtype: *dtype,
                region: self.raw(name, *dtype, parts)?,
            },
            Body::Linear { transform, stages } => {
                let mut used = Vec::new();
                for stage in stages {
                    let lagar_format::Stage::Window(stage) = stage else {
                        return Err(self.fault(name, "has a stage of a kind not known here"));
                    };
                    if stage.tier <= self.tier {
                        used.push(self.stage(spec, stage)?);
                    }
                }
                if used.is_empty() {
                    let tier = &self.container.index().tiers[self.tier].name;
                    return Err(self.fault(name, format!("has no stage in tier {tier}")));
                }
                Weight::Pressed {
                    transform: self.transform(name, *transform)?,
                    stages: used,
                }
            }
        };
        Ok(Linear {
            outputs: spec.outputs,
            inputs: spec.inputs,
            weight,
            bias: None,
        })
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, EngineError> {
        match &self.record(name, &[width])?.body {
            Body::Raw { dtype, parts } => {
                let mut out = vec![0.0; width];
                read_f32(*dtype, &self.raw(name, *dtype, parts)?, 0, &mut out);
                Ok(out)
            }
            Body::Linear { .. } => Err(self.fault(name, "is a vector, but stored as a linear")),
        }
    }
}

fn table(record: &TableRecord) -> Result<Table, CodecError> {
    match &record.levels {
        Levels::Free(levels) => Table::from_levels(record.depth, record.window, levels.clone()),
        Levels::Split {
            a,
            b,
            a_sign_bit,
            b_sign_bit,
        } => Table::from_split(
            record.depth,
            Split {
                a: *a,
                b: *b,
                a_sign_bit: *a_sign_bit,
                b_sign_bit: *b_sign_bit,
            },
        ),
    }
}

/// Reads a transform: a permutation of u16 (u32 above a width of 65536), and one bit per sign.
fn transform(width: usize, permutation: &[u8], signs: &[u8]) -> Result<Transform, CodecError> {
    let permutation = if width <= 1 << 16 {
        let entries = permutation.as_chunks().0.iter();
        entries.map(|e| u16::from_le_bytes(*e).into()).collect()
    } else {
        let entries = permutation.as_chunks().0.iter();
        entries.map(|e| u32::from_le_bytes(*e)).collect()
    };
    let bits = signs
        .iter()
        .flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
    Transform::new(width, permutation, bits.take(width).collect())
}

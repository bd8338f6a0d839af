//! What is refined of a tier's model, and its gradient.

use std::collections::HashMap;

use half::{bf16, f16};
use lagar_engine::gradient::{GradientObserver, LinearGradient};
use lagar_engine::{Model, Role};
use lagar_format::{Body, Dtype, Index};
use lagar_kernels::Cpu;

/// What a group of parameters is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Factors on the rows of a pressed matrix; for each of its stages the row scales as bf16, padded.
    Rows { stages: Vec<Vec<u8>> },
    /// Factors on a norm's weights.
    Norm { weights: Vec<f32> },
    /// What is added to a bias, in units of its root mean square.
    Bias { bias: Vec<f32>, unit: f32 },
}

/// The parameters of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Group {
    name: String,
    kind: Kind,
    /// Factors, or what is added.
    values: Vec<f32>,
    /// How a vector is stored.
    dtype: Dtype,
}

impl Group {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Steps of the logarithms of factors, or of what is added.
    pub(super) fn step(&mut self, steps: impl Iterator<Item = f32>) {
        for (value, step) in self.values.iter_mut().zip(steps) {
            match self.kind {
                Kind::Bias { .. } => *value += step,
                // The exponential of a small number, in arithmetic that every machine does alike.
                _ => *value *= 1.0 + step + 0.5 * step * step,
            }
        }
    }

    /// Row scales of each stage with their factors, as stored.
    pub(super) fn row_scales(&self) -> Option<Vec<Vec<u8>>> {
        let Kind::Rows { stages } = &self.kind else {
            return None;
        };
        let scaled = |stage: &Vec<u8>| {
            let mut scales = stage.clone();
            for (scale, factor) in scales.as_chunks_mut().0.iter_mut().zip(&self.values) {
                let value = bf16::from_le_bytes(*scale).to_f32() * factor;
                *scale = bf16::from_f32(value).to_le_bytes();
            }
            scales
        };
        Some(stages.iter().map(scaled).collect())
    }

    /// A vector's elements, as stored.
    pub(super) fn vector(&self) -> Option<Vec<u8>> {
        let values: Vec<f32> = match &self.kind {
            Kind::Rows { .. } => return None,
            Kind::Norm { weights } => {
                let factors = weights.iter().zip(&self.values);
                factors.map(|(weight, factor)| weight * factor).collect()
            }
            Kind::Bias { bias, unit } => {
                let added = bias.iter().zip(&self.values);
                added.map(|(bias, value)| bias + unit * value).collect()
            }
        };
        Some(to_bytes(self.dtype, &values))
    }
}

/// All that is refined.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    groups: Vec<Group>,
    embedding: String,
}

impl Parameters {
    /// Those of a model, a tier of a file, at their values.
    pub(super) fn of(model: &Model, index: &Index) -> Self {
        let spec = model.spec();
        let dtypes: HashMap<&str, Dtype> = (index.tensors.iter())
            .filter_map(|tensor| match tensor.body {
                Body::Raw { dtype, .. } => Some((tensor.name.as_str(), dtype)),
                _ => None,
            })
            .collect();
        let norms = (spec.blocks.iter().flat_map(|block| block.norms())).chain([&spec.final_norm]);
        let norms: Vec<&str> = norms.map(|norm| norm.weight.as_str()).collect();
        let mut groups = Vec::new();
        for tensor in spec.tensors() {
            let name = tensor.name;
            let (kind, len, dtype) = match tensor.role {
                Role::Vector => {
                    let Some((dtype, values)) =
                        dtypes.get(name.as_str()).copied().zip(model.vector(&name))
                    else {
                        continue;
                    };
                    let (values, len) = (values.to_vec(), values.len());
                    let kind = match norms.contains(&name.as_str()) {
                        true => Kind::Norm { weights: values },
                        false => {
                            let squares: f32 = values.iter().map(|b| b * b).sum();
                            let unit = (squares / len.max(1) as f32).sqrt();
                            Kind::Bias { bias: values, unit }
                        }
                    };
                    (kind, len, dtype)
                }
                _ => {
                    let Some(stages) = model.row_scales(&name) else {
                        continue;
                    };
                    let stages = stages.iter().map(|scales| scales.to_vec()).collect();
                    (Kind::Rows { stages }, tensor.shape[0], Dtype::BF16)
                }
            };
            let start = match kind {
                Kind::Bias { .. } => 0.0,
                _ => 1.0,
            };
            groups.push(Group {
                name,
                values: vec![start; len],
                kind,
                dtype,
            });
        }
        Self {
            groups,
            embedding: spec.embedding().to_owned(),
        }
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// Gives a model these values, rounded as they would be stored.
    pub(super) fn apply(&self, model: &mut Model) {
        for group in &self.groups {
            for (stage, scales) in group.row_scales().into_iter().flatten().enumerate() {
                model.set_row_scales(&group.name, stage, scales);
            }
            if let Some(bytes) = group.vector() {
                model.set_vector(&group.name, &to_f32(group.dtype, &bytes));
            }
        }
    }

    /// A gradient of nothing yet.
    pub(super) fn gradient<'a>(&'a self, cpu: &'a Cpu, model: &'a Model) -> Gradient<'a> {
        let named = self.groups.iter().enumerate();
        Gradient {
            cpu,
            model,
            places: named.map(|(at, group)| (group.name(), at)).collect(),
            groups: &self.groups,
            embedding: &self.embedding,
            sums: self.groups.iter().map(|g| vec![0.0; g.len()]).collect(),
        }
    }
}

/// Sums up the gradient of all parameters.
pub(super) struct Gradient<'a> {
    cpu: &'a Cpu,
    model: &'a Model,
    places: HashMap<&'a str, usize>,
    groups: &'a [Group],
    embedding: &'a str,
    sums: Vec<Vec<f32>>,
}

impl Gradient<'_> {
    /// A list for each group: by the logarithms of factors, and by what is added.
    pub(super) fn finish(self) -> Vec<Vec<f32>> {
        self.sums
    }

    fn vector(&mut self, name: &str, gradient: &[f32]) {
        let Some(&at) = self.places.get(name) else {
            return;
        };
        let (group, sums) = (&self.groups[at], &mut self.sums[at]);
        match &group.kind {
            Kind::Norm { weights } => {
                let scaled = weights.iter().zip(&group.values).zip(gradient);
                for (sum, ((weight, factor), g)) in sums.iter_mut().zip(scaled) {
                    *sum += weight * factor * g;
                }
            }
            Kind::Bias { unit, .. } => {
                for (sum, g) in sums.iter_mut().zip(gradient) {
                    *sum += unit * g;
                }
            }
            Kind::Rows { .. } => {}
        }
    }
}

impl GradientObserver for Gradient<'_> {
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        if let Some(&at) = self.places.get(linear.weight) {
            let sums = &mut self.sums[at];
            self.cpu
                .add_column_dots(linear.dy, linear.y, linear.n, sums);
            // Factors are on window stages: what others give has no part in their gradient.
            let unscaled =
                self.model
                    .unscaled_products(self.cpu, linear.weight, linear.x, linear.n);
            if let Some(y) = unscaled {
                let mut dots = vec![0.0; sums.len()];
                self.cpu.add_column_dots(linear.dy, &y, linear.n, &mut dots);
                sums.iter_mut()
                    .zip(&dots)
                    .for_each(|(sum, dot)| *sum -= dot);
            }
        }
    }

    fn norm(&mut self, name: &str, dweight: &[f32]) {
        self.vector(name, dweight);
    }

    fn bias(&mut self, name: &str, dbias: &[f32]) {
        self.vector(name, dbias);
    }

    fn embedding(&mut self, tokens: &[u32], rows: &[f32], drows: &[f32]) {
        let Some(&at) = self.places.get(self.embedding) else {
            return;
        };
        let width = rows.len() / tokens.len();
        let unscaled = self.model.unscaled_rows(self.cpu, self.embedding, tokens);
        let scaled: Option<Vec<f32>> = unscaled.map(|unscaled| {
            let pairs = rows.iter().zip(&unscaled);
            pairs.map(|(row, unscaled)| row - unscaled).collect()
        });
        let rows = scaled.as_deref().unwrap_or(rows);
        let rows = rows.chunks_exact(width).zip(drows.chunks_exact(width));
        for (token, (row, drow)) in tokens.iter().zip(rows) {
            let dot: f32 = row.iter().zip(drow).map(|(x, g)| x * g).sum();
            self.sums[at][*token as usize] += dot;
        }
    }
}

/// Numbers as a vector's type stores them.
fn to_bytes(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => {
            let bytes = values.iter().map(|v| bf16::from_f32(*v).to_le_bytes());
            bytes.flatten().collect()
        }
        Dtype::F16 => {
            let bytes = values.iter().map(|v| f16::from_f32(*v).to_le_bytes());
            bytes.flatten().collect()
        }
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// And back.
fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::BF16 => {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
        }
        Dtype::F16 => {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => {
            let values = bytes.as_chunks().0.iter();
            values.map(|b| f32::from_le_bytes(*b)).collect()
        }
    }
}

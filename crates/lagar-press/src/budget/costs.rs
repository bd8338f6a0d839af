//! What each column group costs at each depth.

use lagar_codec::{GROUP, TILE_ROWS};
use lagar_engine::{Checkpoint, Model, Site};
use lagar_format::os;
use lagar_kernels::Cpu;
use serde::{Deserialize, Serialize};

use super::allocate::DEPTHS;
use super::fisher::Fisher;
use super::product_room;
use crate::Recipe;
use crate::encode::low_rank::{Matrix, Product};
use crate::encode::outliers::{Candidates, EffectCounts, column_costs};
use crate::encode::{Feedback, Hessians, choose_transform, transform_hessian};
use crate::pressing::{EMBEDDING_STREAM, identity};
use crate::stream::{Stream, reading_steps};
use crate::{PressError, PressOptions, Progress};

/// The column groups of a linear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LinearCosts {
    pub(crate) weight: String,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Of the low-rank stage; 0 for none.
    pub(crate) rank: usize,
    /// What is lost of each group beside that stage, nats a token.
    pub(crate) groups: Vec<GroupCost>,
    /// What single weights contribute to that, about, where the recipe may keep them as they are.
    pub(crate) effects: EffectCounts,
}

/// What is lost of a column group at each depth: at 0, all that its columns contribute.
pub(crate) type GroupCost = [f64; DEPTHS];

/// Adds up the costs of all linears, one site after the other.
pub(crate) struct Costs<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) model: &'a Model,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a PressOptions,
    pub(crate) fisher: &'a Fisher,
    pub(crate) progress: &'a dyn Progress,
}

impl Costs<'_> {
    /// Those of all linears, given text.
    pub(crate) fn all(&self, windows: &[Vec<u32>]) -> Result<Vec<LinearCosts>, PressError> {
        let spec = self.model.spec();
        let mut all = Vec::new();
        if !spec.is_tied() {
            let name = spec.embedding().to_owned();
            self.site(
                &mut all,
                identity(spec.hidden),
                spec.hidden,
                EMBEDDING_STREAM,
                &[name],
            )?;
        }
        let read = windows.iter().cloned();
        let mut stream = Stream::new(self.cpu, self.model, read, self.progress)?;
        let sites = spec.sites();
        let tokens = windows.iter().map(Vec::len).sum();
        let steps = sites
            .iter()
            .map(|site| reading_steps(std::slice::from_ref(site), tokens));
        self.progress.phase("Measuring costs", steps.sum());
        let (head, inner) = sites.split_last().expect("every model has a head");
        for (layer, sites) in inner.chunk_by(|a, b| a.layer == b.layer).enumerate() {
            let mut hessians = Hessians::new(self.cpu, sites);
            stream.layer(layer, sites, &mut hessians)?;
            for site in sites {
                self.of_site(&mut all, site, &mut hessians)?;
            }
        }
        let mut hessians = Hessians::new(self.cpu, [head]);
        stream.head(&mut hessians);
        self.of_site(&mut all, head, &mut hessians)?;
        Ok(all)
    }

    fn of_site(
        &self,
        all: &mut Vec<LinearCosts>,
        site: &Site,
        hessians: &mut Hessians<'_>,
    ) -> Result<(), PressError> {
        let hessian = hessians.take(site.id);
        self.site(all, hessian, site.width, site.id.0 as u64, &site.linears)
    }

    fn site(
        &self,
        all: &mut Vec<LinearCosts>,
        hessian: Vec<f32>,
        width: usize,
        stream: u64,
        names: &[String],
    ) -> Result<(), PressError> {
        let what = names.join(", ");
        let spec = self.model.spec();
        // A tied embedding has a site of its own.
        let is_embedding = names.iter().any(|name| name == spec.embedding());
        let damping = self.options.dampings(is_embedding)[self.options.primary()];
        let transform = choose_transform(&hessian, width, self.options.seed, stream)?;
        let hessian = transform_hessian(self.cpu, &transform, hessian);
        let padded = transform.padded_width();
        let squares = diagonal_squares(&hessian, padded);
        let feedback = Feedback::new(self.cpu, hessian, padded, damping, &what)?;
        for name in names {
            if self.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            let tensor = self.checkpoint.tensor(name)?;
            let rows = tensor.shape()[0];
            let read = |first: usize, out: &mut [f32]| tensor.read_f32(first * width, out);
            let matrix = Matrix {
                name,
                transform: &transform,
                rows,
                pivots: &feedback.pivots(),
                read: &read,
            };
            let (rank, product) = match self.options.recipe {
                Recipe::Eigen => self.product(&matrix)?,
                _ => (0, None),
            };
            let looked_up: Vec<f64> = match is_embedding {
                true => (0..rows).map(|row| self.fisher.look_up(row)).collect(),
                false => Vec::new(),
            };
            let importance: Vec<f64> = (0..rows).map(|row| self.fisher.row(name, row)).collect();
            let sums = self.sums(&matrix, product.as_ref(), &importance, &looked_up, &squares);
            let effects = match self.options.recipe {
                Recipe::Ternary => {
                    let narrow =
                        |costs: &[f64]| costs.iter().map(|&x| x as f32).collect::<Vec<_>>();
                    let from = Candidates {
                        rows,
                        columns: &column_costs(&transform, matrix.pivots),
                        row_importance: &narrow(&importance),
                        looked_up: &narrow(&looked_up),
                        read: &read,
                    };
                    from.counts(self.cpu)
                }
                _ => EffectCounts::new(),
            };
            let distortion = self.options.recipe.distortion(0);
            let groups = sums.costs(self.cpu, &feedback, distortion);
            os::advise(tensor.region(), os::Advice::DontNeed);
            all.push(LinearCosts {
                weight: name.clone(),
                rows,
                cols: width,
                rank,
                groups,
                effects,
            });
        }
        Ok(())
    }

    /// The low-rank stage that pays, if any, and its rank.
    fn product(&self, matrix: &Matrix<'_>) -> Result<(usize, Option<Product>), PressError> {
        let room = product_room(self.options.tiers.first(), self.model.parameters());
        let components = matrix.components(self.cpu);
        let rank = components.rank(matrix.rows, matrix.transform.width(), room)?;
        let product = match rank {
            0 => None,
            rank => Some(matrix.encode(self.cpu, &components, rank)?.1),
        };
        Ok((rank, product))
    }

    /// Of what a product leaves of a matrix, given what an error costs in each row.
    fn sums(
        &self,
        matrix: &Matrix<'_>,
        product: Option<&Product>,
        importance: &[f64],
        looked_up: &[f64],
        squares: &[Vec<f32>],
    ) -> Sums {
        let width = matrix.transform.padded_width();
        let strips: Vec<usize> = (0..matrix.rows).step_by(TILE_ROWS).collect();
        let mut sums = vec![Sums::default(); strips.len()];
        self.cpu.pool().chunks(&mut sums, 1, |strip, sum| {
            let first = strips[strip];
            let mut weights = matrix.transformed(self.cpu, first);
            if let Some(product) = product {
                product.subtract(first, width, &mut weights);
            }
            sum[0] = Sums::new(width);
            for (row, weights) in (first..).zip(weights.chunks_exact(width)) {
                let looked_up = looked_up.get(row).copied().unwrap_or(0.0);
                sum[0].add_row(weights, importance[row], looked_up, squares);
            }
        });
        // In a fixed order, whatever the threads did.
        let mut all_rows = Sums::new(width);
        sums.iter().for_each(|sum| all_rows.add(sum));
        all_rows
    }
}

/// What is summed over the rows of a linear.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// The squares of the weights in each column, each row weighed by what an error of its output costs.
    squares: Vec<f64>,
    /// For each group, what is lost where it is left out.
    left_out: Vec<f64>,
    /// For each group, the squares of the weights, each row weighed by what an error costs where it is looked up.
    looked_up: Vec<f64>,
}

impl Sums {
    fn new(width: usize) -> Self {
        let groups = width.div_ceil(GROUP);
        Self {
            squares: vec![0.0; width],
            left_out: vec![0.0; groups],
            looked_up: vec![0.0; groups],
        }
    }

    fn add_row(&mut self, weights: &[f32], output: f64, look_up: f64, squares: &[Vec<f32>]) {
        for (sum, &w) in self.squares.iter_mut().zip(weights) {
            *sum += output * f64::from(w * w);
        }
        let groups = weights.chunks(GROUP).zip(squares);
        for (g, (weights, square)) in groups.enumerate() {
            let energy: f64 = weights.iter().map(|&w| f64::from(w * w)).sum();
            self.looked_up[g] += look_up * energy;
            self.left_out[g] += output * f64::from(quadratic(weights, square));
        }
    }

    fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.squares, &other.squares),
            (&mut self.left_out, &other.left_out),
            (&mut self.looked_up, &other.looked_up),
        ] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    /// The costs of each group, were all of the linear coded at the same depth.
    fn costs(&self, cpu: &Cpu, feedback: &Feedback, distortion: &GroupCost) -> Vec<GroupCost> {
        let mut losses = vec![Vec::new(); DEPTHS];
        cpu.pool().chunks(&mut losses[1..], 1, |i, losses| {
            losses[0] = feedback.expected_losses(&self.squares, distortion[i + 1]);
        });
        let group = |g: usize| {
            std::array::from_fn(|depth| {
                let multiplied = match depth {
                    0 => self.left_out[g],
                    _ => losses[depth]
                        .chunks(GROUP)
                        .nth(g)
                        .unwrap_or(&[])
                        .iter()
                        .sum(),
                };
                multiplied + self.looked_up[g] * distortion[depth]
            })
        };
        (0..self.left_out.len()).map(group).collect()
    }
}

/// The squares of a symmetric matrix along its diagonal that belong to one group each.
fn diagonal_squares(matrix: &[f32], width: usize) -> Vec<Vec<f32>> {
    let square = |first: usize| {
        let last = (first + GROUP).min(width);
        let rows = (first..last).map(|row| &matrix[row * width + first..row * width + last]);
        rows.flatten().copied().collect()
    };
    (0..width).step_by(GROUP).map(square).collect()
}

/// `w H wᵀ`.
fn quadratic(w: &[f32], h: &[f32]) -> f32 {
    let rows = w.iter().zip(h.chunks_exact(w.len()));
    rows.map(|(&a, row)| a * row.iter().zip(w).map(|(h, b)| h * b).sum::<f32>())
        .sum()
}

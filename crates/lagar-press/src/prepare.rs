//! What a recipe makes of a linear before its window stages are coded: tables, single weights, a low-rank product.

use lagar_codec::{PackedSparse, StageLayout, Transform};
use lagar_kernels::Cpu;

use crate::PressError;
use crate::budget::Depths;
use crate::encode::codebook::{self, Fit};
use crate::encode::low_rank::{EncodedLowRank, Matrix, Product};
use crate::encode::outliers::{Candidates, Outliers, Room, column_costs};
use crate::encode::{EncodedStage, EncodedTerm, Tables};
use crate::recipe::{Pass, Recipe};

/// What the linears of a site share.
pub(crate) struct Prepare<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) recipe: Recipe,
    pub(crate) depths: &'a Depths,
    pub(crate) transform: &'a Transform,
    pub(crate) passes: &'a [Pass],
    /// What an error costs in each transformed column, after feedback.
    pub(crate) pivots: Vec<f32>,
    /// The transformed Hessian's diagonal.
    pub(crate) diagonal: Vec<f32>,
}

/// A linear that is ready to be coded.
pub(crate) struct Prepared {
    /// Of each pass.
    pub(crate) layouts: Vec<StageLayout>,
    pub(crate) tables: Vec<Tables>,
    /// What is taken out of the transformed matrix.
    pub(crate) product: Option<Product>,
    /// What is taken out of the matrix itself.
    pub(crate) outliers: Option<Outliers>,
    /// What else the first tier holds.
    terms: Vec<EncodedTerm>,
}

impl Prepare<'_> {
    /// Prepares a matrix of some rows, which `read` reads.
    pub(crate) fn linear(
        &self,
        name: &str,
        rows: usize,
        row_importance: &[f32],
        read: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<Prepared, PressError> {
        let cols = self.transform.width();
        let groups = StageLayout::groups_of(cols);
        let layouts = self.depths.of_passes(name, groups, self.passes);
        let layouts = layouts
            .iter()
            .map(|depths| StageLayout::new(rows, cols, depths))
            .collect::<Result<Vec<_>, _>>()?;
        let mut prepared = Prepared {
            tables: Vec::new(),
            product: None,
            outliers: None,
            terms: Vec::new(),
            layouts,
        };
        for (pass, layout) in self.passes.iter().zip(&prepared.layouts) {
            prepared.tables.push(match (self.recipe, pass.tier) {
                (Recipe::Codebook, 0) => codebook::fit(
                    self.cpu,
                    &Fit {
                        transform: self.transform,
                        layout,
                        diagonal: &self.diagonal,
                        row_importance,
                        rows: read,
                    },
                )?,
                (Recipe::Ternary, 0) => Tables::Ternary,
                _ => Tables::Trellis,
            });
        }
        match self.recipe {
            Recipe::Ternary => {
                let from = Candidates {
                    rows,
                    columns: &column_costs(self.transform, &self.pivots),
                    row_importance,
                    looked_up: &[],
                    read,
                };
                let room = Room::of_share(self.depths.outliers(name), rows, cols);
                let (outliers, packed): (_, PackedSparse) = Outliers::choose(self.cpu, &from, room);
                prepared.outliers = Some(outliers);
                prepared.terms.push(EncodedTerm::Sparse(packed));
            }
            Recipe::Eigen => {
                let low_rank = self.low_rank(name, rows, read)?;
                if let Some((stage, product)) = low_rank {
                    prepared.product = Some(product);
                    prepared.terms.push(EncodedTerm::LowRank(stage));
                }
            }
            _ => {}
        }
        Ok(prepared)
    }

    fn low_rank(
        &self,
        name: &str,
        rows: usize,
        read: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<Option<(EncodedLowRank, Product)>, PressError> {
        let matrix = Matrix {
            name,
            transform: self.transform,
            rows,
            pivots: &self.pivots,
            read,
        };
        let planned = self.depths.ranks.get(name).copied();
        if planned == Some(0) {
            return Ok(None);
        }
        let components = matrix.components(self.cpu);
        let rank = match planned {
            Some(rank) => rank,
            None => components.rank(rows, self.transform.width(), f64::INFINITY)?,
        };
        match rank {
            0 => Ok(None),
            rank => matrix.encode(self.cpu, &components, rank).map(Some),
        }
    }
}

impl Prepared {
    /// What each tier adds, given the stage that each pass made.
    pub(crate) fn tiers(
        &mut self,
        passes: &[Pass],
        stages: Vec<EncodedStage>,
    ) -> Vec<Vec<EncodedTerm>> {
        let mut tiers: Vec<Vec<EncodedTerm>> = Vec::new();
        for (pass, stage) in passes.iter().zip(stages) {
            tiers.resize_with(tiers.len().max(pass.tier + 1), Vec::new);
            tiers[pass.tier].push(EncodedTerm::Window(stage));
        }
        tiers[0].append(&mut self.terms);
        tiers
    }
}

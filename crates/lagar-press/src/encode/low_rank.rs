//! Low-rank stages: the components of a matrix that are worth more than the bits that they take.
//!
//! Error feedback loses `Σ_c p_c ‖w_c‖² · D` of the columns `w_c` of a matrix, where `p_c` are the pivots of the
//! Hessian (what an error in a column costs once later columns make up for what they can) and `D` what the code leaves
//! at its depth. A product `U V` that is taken out lowers that sum most for its rank if its components are those of the
//! largest singular values of `W P^½`, `P` the diagonal matrix of the pivots. They are the eigenvectors of
//! `B = P^½ WᵀW P^½`, found by subspace iteration (Golub and Van Loan, Matrix Computations, 8.2).

use lagar_codec::{ROW_UNIT, StageLayout, TILE_ROWS, Transform, reference};
use lagar_kernels::Cpu;

use super::eigen;
use super::stage::{EncodedStage, encode_matrix};
use super::tables::Tables;
use crate::PressError;

/// Bits of both factors.
const DEPTH: u8 = 8;
/// Largest rank.
const MOST: usize = 64;

/// A product of two matrices, as a reader decodes it.
#[derive(Debug)]
pub(crate) struct Product {
    rank: usize,
    /// Rows × rank.
    u: Vec<f32>,
    /// Rank × padded columns.
    v: Vec<f32>,
}

/// A low-rank stage.
#[derive(Debug, PartialEq)]
pub(crate) struct EncodedLowRank {
    pub(crate) rank: usize,
    pub(crate) v: EncodedStage,
    pub(crate) u: EncodedStage,
}

impl Product {
    /// Takes rows `first..` of the product, `width` columns wide, out of `rows`.
    pub(crate) fn subtract(&self, first: usize, width: usize, rows: &mut [f32]) {
        let factors = self.u[first * self.rank..].chunks_exact(self.rank);
        for (row, u) in rows.chunks_exact_mut(width).zip(factors) {
            for (u, v) in u.iter().zip(self.v.chunks_exact(width)) {
                row.iter_mut().zip(v).for_each(|(w, v)| *w -= u * v);
            }
        }
    }
}

/// Layouts of both factors, `v` and `u`.
pub(crate) fn layouts(
    rank: usize,
    rows: usize,
    cols: usize,
) -> Result<[StageLayout; 2], PressError> {
    let layout = |rows: usize, cols: usize| {
        let depths = vec![DEPTH; StageLayout::groups_of(cols)];
        StageLayout::new(rows, cols, &depths)
    };
    Ok([layout(rank, cols)?, layout(rows, rank)?])
}

/// Bytes of a low-rank stage.
fn bytes(rank: usize, rows: usize, cols: usize) -> Result<usize, PressError> {
    let factors = layouts(rank, rows, cols)?;
    let bytes = |f: &StageLayout| f.codes_len() + f.scales_len() + f.row_scales_len();
    Ok(factors.iter().map(bytes).sum())
}

/// A matrix that is to be taken apart.
pub(crate) struct Matrix<'a> {
    pub(crate) name: &'a str,
    pub(crate) transform: &'a Transform,
    pub(crate) rows: usize,
    /// What an error costs in each column of the transformed matrix.
    pub(crate) pivots: &'a [f32],
    /// Reads rows of the matrix itself.
    pub(crate) read: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// The components of a matrix, by contribution.
pub(crate) struct Components {
    /// Width of the transformed matrix.
    width: usize,
    /// Largest first.
    values: Vec<f64>,
    /// Of the whole matrix.
    trace: f64,
    /// A component in each column, `width × values`.
    vectors: Vec<f32>,
}

impl Matrix<'_> {
    /// Transformed rows from `first` on.
    pub(crate) fn transformed(&self, cpu: &Cpu, first: usize) -> Vec<f32> {
        let (cols, width) = (self.transform.width(), self.transform.padded_width());
        let count = (self.rows - first).min(TILE_ROWS);
        let mut original = vec![0f32; count * cols];
        (self.read)(first, &mut original);
        let mut rows = vec![0f32; count * width];
        cpu.transform(self.transform, &original, count, &mut rows);
        rows
    }

    fn roots(&self) -> Vec<f32> {
        self.pivots.iter().map(|p| p.sqrt()).collect()
    }

    /// Its components; those that a stage may have, and some more.
    pub(crate) fn components(&self, cpu: &Cpu) -> Components {
        let width = self.transform.padded_width();
        let mut b = vec![0f32; width * width];
        let roots = self.roots();
        for first in (0..self.rows).step_by(TILE_ROWS) {
            let mut rows = self.transformed(cpu, first);
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&roots).for_each(|(w, root)| *w *= root);
            }
            let count = rows.len() / width;
            cpu.syrk_tn(&rows, width, &mut b, width, width, count, 1.0);
        }
        for i in 0..width {
            for j in 0..i {
                b[i * width + j] = b[j * width + i];
            }
        }
        let trace = (0..width).map(|i| f64::from(b[i * width + i])).sum();
        let most = MOST.min(self.rows).min(width);
        let (values, vectors) = eigen::largest(cpu, &b, width, most);
        Components {
            width,
            values,
            trace,
            vectors,
        }
    }

    /// The stage of some rank, and its product.
    pub(crate) fn encode(
        &self,
        cpu: &Cpu,
        components: &Components,
        rank: usize,
    ) -> Result<(EncodedLowRank, Product), PressError> {
        let width = components.width;
        let roots = self.roots();
        let all = components.values.len();
        let vector = |k: usize, c: usize| components.vectors[c * all + k];
        // V = Qᵀ P^-½ and U = W P^½ Q.
        let mut v = vec![0f32; rank * width];
        let mut weighted = vec![0f32; width * rank];
        for k in 0..rank.min(all) {
            for c in 0..width {
                v[k * width + c] = vector(k, c) / roots[c].max(f32::MIN_POSITIVE);
                weighted[c * rank + k] = vector(k, c) * roots[c];
            }
        }
        let mut u = vec![0f32; self.rows * rank];
        for first in (0..self.rows).step_by(TILE_ROWS) {
            let rows = self.transformed(cpu, first);
            let out = u[first * rank..].chunks_exact_mut(rank);
            for (row, out) in rows.chunks_exact(width).zip(out) {
                for (w, q) in row.iter().zip(weighted.chunks_exact(rank)) {
                    out.iter_mut().zip(q).for_each(|(u, q)| *u += w * q);
                }
            }
        }
        let [v_layout, u_layout] = layouts(rank, self.rows, self.transform.width())?;
        let encode = |layout: &StageLayout, values: &[f32]| {
            let stage = encode_matrix(cpu, layout, values).map_err(|row| PressError::TooLarge {
                tensor: self.name.to_owned(),
                row,
            })?;
            let decoded = reference::dequantize(&reference::Stage {
                layout,
                table: Tables::Trellis.of(DEPTH),
                codes: &stage.windows[0].codes,
                scales: &stage.windows[0].scales,
                row_scales: &stage.row_scales,
            });
            Ok::<_, PressError>((stage, decoded))
        };
        let (v, decoded_v) = encode(&v_layout, &v)?;
        let (u, decoded_u) = encode(&u_layout, &u)?;
        let product = Product {
            rank,
            u: decoded_u,
            v: decoded_v,
        };
        Ok((EncodedLowRank { rank, v, u }, product))
    }
}

impl Components {
    /// The rank that pays, a multiple of 16: a block of components is kept where as many bytes would lower the loss
    /// less as bits of the code beside it, each of which divides it by 4. It may be 0. Products of more than `room` bits for
    /// each weight of the matrix are left out.
    pub(crate) fn rank(&self, rows: usize, cols: usize, room: f64) -> Result<usize, PressError> {
        let weights = rows as f64 * cols as f64;
        let most = MOST.min(rows).min(cols) / ROW_UNIT * ROW_UNIT;
        // What the codes of both factors leave of the components that are taken.
        let own = 2.0 / power_of_four(f64::from(DEPTH));
        let (mut best, mut least) = (0, self.trace);
        for rank in (ROW_UNIT..=most).step_by(ROW_UNIT) {
            let bits = 8.0 * bytes(rank, rows, cols)? as f64 / weights;
            let left = self.left(rank);
            let loss = (left + own * (self.trace - left)) * power_of_four(bits);
            if loss < least && bits <= room {
                (best, least) = (rank, loss);
            }
        }
        Ok(best)
    }

    /// What components beyond the first `rank` contribute.
    fn left(&self, rank: usize) -> f64 {
        let taken: f64 = self.values.iter().take(rank).sum();
        (self.trace - taken).max(0.0)
    }
}

/// `4^x`, about, in arithmetic that every machine does alike.
fn power_of_four(x: f64) -> f64 {
    const SQUARINGS: i32 = 12;
    let step = x * 2.0 * std::f64::consts::LN_2 / f64::from(1 << SQUARINGS);
    (0..SQUARINGS).fold(1.0 + step + step * step / 2.0, |power, _| power * power)
}

#[cfg(test)]
mod tests {
    use lagar_kernels::Isa;

    use super::*;
    use crate::encode::choose_transform;
    use crate::random::Random;

    /// Factors of a small matrix take more than the matrix, and a whole one is never exact in bytes.
    #[test]
    fn a_small_matrix_is_not_stored_as_a_product() {
        let (rows, cols) = (64, 64);
        let cpu = Cpu::new(Isa::best(), 1);
        let mut random = Random::new(2, 1);
        let weights: Vec<f32> = (0..rows * cols)
            .map(|_| random.below(1024) as f32 - 511.5)
            .collect();
        let read = |first: usize, out: &mut [f32]| {
            out.copy_from_slice(&weights[first * cols..][..out.len()]);
        };
        let transform = choose_transform(&vec![1.0; cols * cols], cols, 1, 2).unwrap();
        let matrix = Matrix {
            name: "test",
            transform: &transform,
            rows,
            pivots: &vec![1.0; cols],
            read: &read,
        };
        let components = matrix.components(&cpu);
        assert_eq!(components.rank(rows, cols, f64::INFINITY).unwrap(), 0);
    }

    /// A matrix of some rank and noise: a product is kept where it pays, and takes out what it should.
    #[test]
    fn a_product_is_kept_where_it_pays() {
        let (rows, cols) = (512, 512);
        let cpu = Cpu::new(Isa::best(), 2);
        let mut random = Random::new(1, 1);
        let mut normal = || {
            (0..12)
                .map(|_| random.below(1024) as f32 / 1024.0)
                .sum::<f32>()
                - 6.0
        };
        let u: Vec<f32> = (0..rows * 8).map(|_| normal()).collect();
        let v: Vec<f32> = (0..8 * cols).map(|_| normal()).collect();
        let noise: Vec<f32> = (0..rows * cols).map(|_| normal()).collect();
        let transform = choose_transform(&vec![1.0; cols * cols], cols, 1, 2).unwrap();
        for (size, pays) in [(0.0, false), (1.0, true)] {
            let mut weights = noise.clone();
            for (row, u) in weights.chunks_exact_mut(cols).zip(u.chunks_exact(8)) {
                for (u, v) in u.iter().zip(v.chunks_exact(cols)) {
                    row.iter_mut().zip(v).for_each(|(w, v)| *w += size * u * v);
                }
            }
            let read = |first: usize, out: &mut [f32]| {
                out.copy_from_slice(&weights[first * cols..][..out.len()]);
            };
            let matrix = Matrix {
                name: "test",
                transform: &transform,
                rows,
                pivots: &vec![1.0; cols],
                read: &read,
            };
            let components = matrix.components(&cpu);
            let rank = components.rank(rows, cols, f64::INFINITY).unwrap();
            assert_eq!(rank, if pays { 16 } else { 0 });
            assert_eq!(components.rank(rows, cols, 0.4).unwrap(), 0);
            if pays {
                let (stage, product) = matrix.encode(&cpu, &components, rank).unwrap();
                assert_eq!(stage.rank, 16);
                let mut left = Vec::new();
                for first in (0..rows).step_by(TILE_ROWS) {
                    let mut strip = matrix.transformed(&cpu, first);
                    product.subtract(first, cols, &mut strip);
                    left.extend(strip);
                }
                let square = |values: &[f32]| values.iter().map(|x| f64::from(x * x)).sum::<f64>();
                // The noise is left, and a little of it is taken out too.
                let ratio = square(&left) / square(&noise);
                assert!(ratio > 0.85 && ratio < 1.02, "{ratio}");
            }
        }
    }
}

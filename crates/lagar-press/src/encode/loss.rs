//! What the stages of a linear lose, measured while they are coded.

use lagar_kernels::Cpu;
use serde::{Deserialize, Serialize};

use super::feedback::{Feedback, dot};

/// Sums over rows of the weights `W` and of what the stages up to one leave of them, `E = W − Ŵ`, given the
/// Hessian `H` of their input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// `‖W‖²`
    weights: f64,
    /// `⟨W, E⟩`
    product: f64,
    /// `‖E‖²`
    errors: f64,
    /// `tr(W H Wᵀ)`, estimated
    outputs: f64,
    /// `tr(E H Eᵀ)`, estimated from the same rows
    output_errors: f64,
}

impl Loss {
    pub(super) fn add(&mut self, other: &Self) {
        self.weights += other.weights;
        self.product += other.product;
        self.errors += other.errors;
        self.outputs += other.outputs;
        self.output_errors += other.output_errors;
    }

    /// The cosine of the angle between `W` and `Ŵ`; 0 where there is none.
    pub(crate) fn weight_cosine(&self) -> f64 {
        let decoded = self.weights - 2.0 * self.product + self.errors;
        ratio(self.weights - self.product, (self.weights * decoded).sqrt())
    }

    /// `‖E H^½‖ / ‖W H^½‖`: what is lost of the outputs. Where the inputs say nothing, that of the weights.
    pub(crate) fn relative_error(&self) -> f64 {
        match self.outputs > 0.0 {
            true => (self.output_errors / self.outputs).sqrt(),
            false => ratio(self.errors, self.weights).sqrt(),
        }
    }
}

fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

/// Rows of a strip whose products with the Hessian are computed: all would take as long as coding them.
const SAMPLE: usize = 16;

/// Rows of a linear in transformed space, before anything of them is coded.
pub(super) struct Before {
    weights: Vec<f32>,
    rows: usize,
    squares: f64,
    outputs: f64,
}

impl Before {
    pub(super) fn new(cpu: &Cpu, feedback: &Feedback, weights: Vec<f32>, rows: usize) -> Self {
        Self {
            squares: dot(&weights, &weights),
            outputs: outputs(cpu, feedback, &weights, rows),
            weights,
            rows,
        }
    }

    /// What was lost, given what is left.
    pub(super) fn loss(&self, cpu: &Cpu, feedback: &Feedback, left: &[f32]) -> Loss {
        Loss {
            weights: self.squares,
            product: dot(&self.weights, left),
            errors: dot(left, left),
            outputs: self.outputs,
            output_errors: outputs(cpu, feedback, left, self.rows),
        }
    }
}

/// `tr(X H Xᵀ)`, as a sample of the rows says.
fn outputs(cpu: &Cpu, feedback: &Feedback, x: &[f32], rows: usize) -> f64 {
    let width = x.len() / rows;
    let step = rows.div_ceil(SAMPLE);
    let sample = rows.div_ceil(step);
    let column = |c: usize| x.iter().skip(c).step_by(step * width).copied();
    let columns: Vec<f32> = (0..width).flat_map(column).collect();
    feedback.quadratic(cpu, &columns, sample) * rows as f64 / sample as f64
}

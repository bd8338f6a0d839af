//! Gradient descent on small parameters.

use super::parameters::{Kind, Parameters};

/// Decay of the mean gradient and of the mean squared one: short, for runs are.
const MEAN: f32 = 0.9;
const SQUARE: f32 = 0.99;
/// What is added to the root of a parameter's mean square, as a share of its tensor's: rows that hardly
/// have a gradient, of rare tokens say, do not follow its noise at full speed.
const FLOOR: f32 = 0.3;

/// Adam (Kingma and Ba 2015), with a rate for each kind of parameter that falls linearly to nothing, and a
/// floor under the denominator.
#[derive(Debug)]
pub(super) struct Descent {
    steps: usize,
    done: usize,
    /// 1 less these is what the means have seen so far.
    unseen: (f32, f32),
    moments: Vec<Moments>,
}

#[derive(Debug)]
struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// The largest relative change of a kind of parameter in a step, about.
fn rate(kind: &Kind) -> f32 {
    match kind {
        Kind::Rows { .. } => 0.01,
        Kind::Norm { .. } => 0.01,
        Kind::Bias { .. } => 0.01,
    }
}

impl Descent {
    pub(super) fn new(parameters: &Parameters, steps: usize) -> Self {
        let moments = parameters.groups().iter().map(|group| Moments {
            mean: vec![0.0; group.len()],
            square: vec![0.0; group.len()],
        });
        Self {
            steps,
            done: 0,
            unseen: (1.0, 1.0),
            moments: moments.collect(),
        }
    }

    /// A step against the gradient, which has a list for each group of parameters.
    pub(super) fn step(&mut self, parameters: &mut Parameters, gradient: &[Vec<f32>]) {
        let left = 1.0 - self.done as f32 / self.steps as f32;
        self.done += 1;
        self.unseen.0 *= MEAN;
        self.unseen.1 *= SQUARE;
        let (mean_seen, square_seen) = (1.0 - self.unseen.0, 1.0 - self.unseen.1);
        let groups = parameters.groups_mut().iter_mut().zip(&mut self.moments);
        for ((group, moments), gradient) in groups.zip(gradient) {
            let rate = left * rate(group.kind());
            let mut squares = 0.0;
            for ((mean, square), g) in
                (moments.mean.iter_mut().zip(&mut moments.square)).zip(gradient)
            {
                *mean = MEAN * *mean + (1.0 - MEAN) * g;
                *square = SQUARE * *square + (1.0 - SQUARE) * g * g;
                squares += f64::from(*square);
            }
            let typical = (squares / group.len().max(1) as f64 / f64::from(square_seen)).sqrt();
            let floor = FLOOR * typical as f32 + f32::MIN_POSITIVE;
            let moments = moments.mean.iter().zip(&moments.square);
            let steps = moments.map(|(mean, square)| {
                -rate * (mean / mean_seen) / ((square / square_seen).sqrt() + floor)
            });
            group.step(steps);
        }
    }
}

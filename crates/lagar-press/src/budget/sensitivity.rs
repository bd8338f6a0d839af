//! What the budget knew of each tensor, kept for reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::costs::LinearCosts;

/// What is expected to be lost of a tensor, for each of its column groups, in nats a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sensitivity {
    /// Were the group left out.
    pub left_out: Vec<f64>,
    /// At the depths that were chosen, all stages together.
    pub lost: Vec<f64>,
}

/// Of all linears, given what is lost of all their groups.
pub(super) fn of_linears(linears: &[LinearCosts], lost: &[f64]) -> BTreeMap<String, Sensitivity> {
    let mut rest = lost;
    let of = |linear: &LinearCosts| {
        let (lost, others) = rest.split_at(linear.groups.len());
        rest = others;
        let sensitivity = Sensitivity {
            left_out: linear.groups.iter().map(|costs| costs[0]).collect(),
            lost: lost.to_vec(),
        };
        (linear.weight.clone(), sensitivity)
    };
    linears.iter().map(of).collect()
}

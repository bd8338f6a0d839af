//! Dividing bytes among column groups so that the sum of their costs is least.
//!
//! What a group costs falls with its depth, and each further bit buys less than the one before it. So the
//! best division takes, over all groups, the steps that save most for each byte, until the bytes are
//! used up: the solution of the Lagrangian, exact but for the last step. Where a step of several bits saves
//! more for each byte than its first bit alone (the first bit also pays for the scales), it is one step: only the
//! convex hull of (bytes, cost) counts.

use lagar_codec::MAX_DEPTH;

/// Depths that a group may have, 0 included.
pub(crate) const DEPTHS: usize = MAX_DEPTH as usize + 1;

/// About the mean squared error that the trained tables of each depth leave of normal numbers of variance 1.
pub(crate) const DISTORTION: [f64; DEPTHS] = [
    1.0, 0.281, 0.0775, 0.0212, 0.0061, 0.0015, 0.00045, 0.000165, 0.00009,
];

/// A column group of a linear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// What is lost at each depth.
    pub(crate) costs: [f64; DEPTHS],
    /// What it takes in a file at each depth.
    pub(crate) bytes: [u64; DEPTHS],
}

/// From one depth of a group to a higher one.
struct Step {
    saved_per_byte: f64,
    group: usize,
    to: u8,
    bytes: u64,
}

/// The depth of each group, in `budget` bytes, such that the sum of the costs is least. What a step that does
/// not fit leaves over goes to the best steps that do.
///
/// No group has less than `least`, whatever that takes; the budget is for what is above.
pub(crate) fn allocate(groups: &[Group], least: u8, budget: u64) -> Vec<u8> {
    let mut steps: Vec<Step> = groups
        .iter()
        .enumerate()
        .flat_map(|(at, group)| hull(at, group, least))
        .collect();
    // Stable: a group's own steps stay in their order.
    steps.sort_by(|a, b| b.saved_per_byte.total_cmp(&a.saved_per_byte));
    let (mut depths, mut full) = (vec![least; groups.len()], vec![false; groups.len()]);
    let mut left = budget;
    for step in steps {
        if full[step.group] || step.bytes > left {
            full[step.group] = true;
            continue;
        }
        left -= step.bytes;
        depths[step.group] = step.to;
    }
    depths
}

/// The steps of a group along its hull: each saves less for a byte than the one before it.
fn hull(at: usize, group: &Group, least: u8) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut from = usize::from(least);
    while from + 1 < DEPTHS {
        let step_to = |to: usize| {
            let bytes = group.bytes[to].saturating_sub(group.bytes[from]);
            let saved = group.costs[from] - group.costs[to];
            Step {
                saved_per_byte: saved / bytes.max(1) as f64,
                group: at,
                to: to as u8,
                bytes,
            }
        };
        let all = (from + 1..DEPTHS).map(step_to);
        let best = all.reduce(|best, step| {
            if step.saved_per_byte > best.saved_per_byte {
                step
            } else {
                best
            }
        });
        let best = best.expect("there is a higher depth");
        from = usize::from(best.to);
        steps.push(best);
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(cost: f64, rows: u64, cols: u64) -> Group {
        Group {
            costs: DISTORTION.map(|d| cost * d),
            bytes: std::array::from_fn(|depth| match depth {
                0 => 0,
                depth => rows * cols * depth as u64 / 8 + rows + 1,
            }),
        }
    }

    fn total(groups: &[Group], depths: &[u8]) -> (f64, u64) {
        groups
            .iter()
            .zip(depths)
            .fold((0.0, 0), |(cost, bytes), (group, &depth)| {
                let depth = usize::from(depth);
                (cost + group.costs[depth], bytes + group.bytes[depth])
            })
    }

    fn every(count: usize) -> impl Iterator<Item = Vec<u8>> {
        (0..DEPTHS.pow(count as u32)).map(move |mut code| {
            let mut next = || {
                let depth = code % DEPTHS;
                code /= DEPTHS;
                depth as u8
            };
            (0..count).map(|_| next()).collect()
        })
    }

    proptest! {
        /// No division of as many bytes costs less than the one found with them; and what is found for a
        /// budget fits it and costs no more than any that fits, but for one step.
        #[test]
        fn nothing_that_fits_is_better_by_more_than_a_step(
            costs in prop::collection::vec((0.0..10.0f64, 1..20u64, 1..33u64), 1..4),
            share in 0.0..1.1f64,
        ) {
            let groups: Vec<Group> = costs.iter().map(|&(c, r, w)| group(c, 16 * r, 4 * w)).collect();
            let all: u64 = groups.iter().map(|g| g.bytes[DEPTHS - 1]).sum();
            let budget = (all as f64 * share) as u64;
            let (cost, bytes) = total(&groups, &allocate(&groups, 0, budget));
            prop_assert!(bytes <= budget);
            let largest = groups.iter().flat_map(|g| hull(0, g, 0)).map(|s| s.bytes).max().unwrap();
            // With a step more than there is, it is better than everything that fits.
            let (more, _) = total(&groups, &allocate(&groups, 0, budget + largest));
            for depths in every(groups.len()) {
                let (other, used) = total(&groups, &depths);
                if used <= bytes {
                    let (exact, _) = total(&groups, &allocate(&groups, 0, bytes));
                    prop_assert!(used <= budget && exact <= cost + 1e-12);
                }
                if used <= budget {
                    prop_assert!(more <= other + 1e-12, "{depths:?}");
                }
            }
        }
    }

    #[test]
    fn bits_go_where_they_save_most() {
        let groups = [
            group(16.0, 256, 128),
            group(1.0, 256, 128),
            group(0.0, 256, 128),
        ];
        let bytes = |depths: &[u8]| total(&groups, depths).1;
        assert_eq!(allocate(&groups, 0, bytes(&[3, 1, 0])), [3, 1, 0]);
        assert_eq!(allocate(&groups, 0, bytes(&[8, 8, 8])), [8, 8, 8]);
        assert_eq!(allocate(&groups, 0, 0), [0, 0, 0]);
    }
}

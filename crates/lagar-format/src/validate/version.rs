//! Which version of the format has what an index uses.

use super::{FormatError, invalid};
use crate::header::OLDEST_VERSION;
use crate::{Body, FULL_TIER, Index, Problem, Stage, TensorRecord};

/// Something that a later version than the first brought: that version, and where it is.
type Feature<'a> = (u32, &'static str, usize, &'a str);

/// The least version that has all that an index uses.
pub(crate) fn least_version(index: &Index) -> u32 {
    features(index)
        .map(|(version, ..)| version)
        .max()
        .unwrap_or(OLDEST_VERSION)
}

/// A file of some version has nothing that a later one brought.
pub(super) fn check(index: &Index, version: u32) -> Result<(), FormatError> {
    match features(index).find(|(needed, ..)| *needed > version) {
        None => Ok(()),
        Some((needed, list, number, name)) => {
            let place = format!("{list}[{number}] {name:?}");
            Err(invalid(place, Problem::NewerVersion { needed }))
        }
    }
}

fn features(index: &Index) -> impl Iterator<Item = Feature<'_>> {
    let source = index.source.iter().enumerate();
    let source = source
        .filter(|(_, file)| !file.segments.is_empty() || file.name.contains('/'))
        .map(|(number, file)| (2, "source", number, file.name.as_str()));
    let tiers = index.tiers.iter().enumerate();
    let tiers = tiers
        .filter(|(_, tier)| tier.name == FULL_TIER)
        .map(|(number, tier)| (2, "tiers", number, tier.name.as_str()));
    let tensors = index.tensors.iter().enumerate().map(|(number, tensor)| {
        let name = tensor.name.as_str();
        (tensor_version(tensor), "tensors", number, name)
    });
    source
        .chain(tiers)
        .chain(tensors.filter(|(version, ..)| *version > OLDEST_VERSION))
}

fn tensor_version(tensor: &TensorRecord) -> u32 {
    let exact = tensor.exact.is_some() || tensor.body == Body::Exact;
    match &tensor.body {
        Body::Linear { stages, .. } if stages.iter().any(|s| !matches!(s, Stage::Window(_))) => 3,
        _ if exact => 2,
        _ => OLDEST_VERSION,
    }
}

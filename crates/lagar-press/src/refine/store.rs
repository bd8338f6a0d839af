//! Refined values on disk, and in the file.

use std::collections::{BTreeMap, HashMap};

use lagar_format::{Body, Container, PartId, PartSource, Stage, WindowStage, Writer};
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use crate::PressError;

/// What is refined of a tier: a unit of its own, so that a press that is resumed has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Refined {
    /// Divergence on held-out text before and after; none where it is not finite.
    pub(super) divergences: Option<(f64, f64)>,
    pub(super) steps: usize,
    /// Of a matrix, the row scales of each of its stages.
    row_scales: BTreeMap<String, Vec<Vec<u8>>>,
    /// The elements of a norm or bias.
    vectors: BTreeMap<String, Vec<u8>>,
}

impl Refined {
    /// These values.
    pub(super) fn new(values: &Parameters, divergences: Option<(f64, f64)>, steps: usize) -> Self {
        let mut refined = Self {
            divergences,
            steps,
            ..Self::default()
        };
        for group in values.groups() {
            let name = group.name().to_owned();
            if let Some(scales) = group.row_scales() {
                refined.row_scales.insert(name, scales);
            } else if let Some(vector) = group.vector() {
                refined.vectors.insert(name, vector);
            }
        }
        refined
    }
}

/// Everything that a file holds, with what was refined of each of its tiers in the tier's own section. The
/// file's vectors and row scales have one part each, as a file has that was just pressed.
pub(super) fn rewrite(container: &Container, tiers: &[Refined]) -> Result<Writer, PressError> {
    let old = Writer::extending(container)?;
    let index = container.index();
    let mut changes = Changes {
        container,
        current: HashMap::new(),
        replaced: HashMap::new(),
        added: Vec::new(),
    };
    for (tier, refined) in tiers.iter().enumerate() {
        changes.tier(tier, refined)?;
    }
    let mut writer = Writer::new(index.clone());
    let mut places: Vec<PartId> = Vec::with_capacity(index.parts.len());
    // What follows the only part of a list, by its old number.
    let mut more: HashMap<PartId, Vec<PartId>> = HashMap::new();
    let mut parts = index.parts.iter().enumerate().peekable();
    for (tier, of_tier) in index.tiers.iter().enumerate() {
        writer.begin_tier(&of_tier.name);
        while let Some((id, _)) = parts.next_if(|(_, part)| part.tier == tier) {
            let source = match changes.replaced.remove(&id) {
                Some(bytes) => PartSource::Bytes(bytes),
                None => old.source(id).clone(),
            };
            places.push(writer.part(source));
        }
        for (first, bytes) in std::mem::take(&mut changes.added[tier]) {
            more.entry(first).or_default().push(writer.part(bytes));
        }
    }
    let one = |part: &mut PartId| *part = places[*part];
    let list = |parts: &mut Vec<PartId>| {
        let following = parts.first().and_then(|first| more.get(first));
        parts.iter_mut().for_each(one);
        parts.extend(following.into_iter().flatten());
    };
    let moved = writer.index_mut();
    moved.files.clone_from(&index.files);
    moved.tables.clone_from(&index.tables);
    moved.transforms.clone_from(&index.transforms);
    moved.tensors.clone_from(&index.tensors);
    moved.files.iter_mut().for_each(|file| one(&mut file.part));
    for transform in &mut moved.transforms {
        one(&mut transform.permutation);
        one(&mut transform.signs);
    }
    for tensor in &mut moved.tensors {
        match &mut tensor.body {
            Body::Raw { parts, .. } => list(parts),
            Body::Linear { stages, .. } => {
                for stage in stages {
                    let window = |stage: &mut WindowStage| {
                        one(&mut stage.codes);
                        one(&mut stage.scales);
                        list(&mut stage.row_scales);
                    };
                    match stage {
                        Stage::Window(stage) => window(stage),
                        Stage::LowRank(stage) => {
                            window(&mut stage.v);
                            window(&mut stage.u);
                        }
                        Stage::Sparse(stage) => {
                            one(&mut stage.counts);
                            one(&mut stage.gaps);
                            one(&mut stage.values);
                        }
                        _ => unreachable!("the file was just pressed"),
                    }
                }
            }
            Body::Exact => {}
        }
    }
    Ok(writer)
}

/// What happens to parts, by their old numbers.
struct Changes<'a> {
    container: &'a Container,
    /// What the tiers so far use of a list of parts, named by its first.
    current: HashMap<PartId, Vec<u8>>,
    replaced: HashMap<PartId, Vec<u8>>,
    /// For each tier, lists that get another part, named by their first, and its bytes.
    added: Vec<Vec<(PartId, Vec<u8>)>>,
}

impl Changes<'_> {
    fn tier(&mut self, tier: usize, refined: &Refined) -> Result<(), PressError> {
        self.added.push(Vec::new());
        for tensor in &self.container.index().tensors {
            match &tensor.body {
                Body::Raw { parts, .. } => {
                    self.list(tier, parts, refined.vectors.get(&tensor.name))?;
                }
                Body::Linear { stages, .. } => {
                    let windows = stages.iter().filter_map(|stage| match stage {
                        Stage::Window(stage) if stage.tier <= tier => Some(stage),
                        _ => None,
                    });
                    let values = refined.row_scales.get(&tensor.name);
                    for (at, stage) in windows.enumerate() {
                        let values = values.and_then(|values| values.get(at));
                        self.list(tier, &stage.row_scales, values)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives a list of parts these values in a tier. Several stages may share a list, and values.
    fn list(
        &mut self,
        tier: usize,
        parts: &[PartId],
        values: Option<&Vec<u8>>,
    ) -> Result<(), PressError> {
        let (Some(&first), Some(values)) = (parts.first(), values) else {
            return Ok(());
        };
        let current = match self.current.get(&first) {
            Some(current) => current,
            None => &self.container.part(first)?.to_vec(),
        };
        if current == values {
            return Ok(());
        }
        self.current.insert(first, values.clone());
        if self.container.index().parts[first].tier == tier {
            self.replaced.insert(first, values.clone());
        } else {
            self.added[tier].push((first, values.clone()));
        }
        Ok(())
    }
}

//! What a press reports: the same for JSON and for the page.

use crate::page;
use lagar_format::os;
use lagar_press::PressedTensor;
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// What the pages of presses say made them; by it they are known.
pub(super) const GENERATOR: &str = "lagar press";

/// A tensor in JSON and in the page's table.
#[derive(Debug, Serialize)]
pub(super) struct TensorLine {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) layer: Option<usize>,
    pub(super) shape: Vec<usize>,
    /// Codes and scales of all stages.
    pub(super) bits_per_weight: f64,
    /// Bits per weight of each column group, stage by stage.
    pub(super) depths: Vec<Vec<u8>>,
    /// All stages together.
    #[serde(flatten)]
    pub(super) error: StageError,
    /// After each stage.
    pub(super) tiers: Vec<TensorTier>,
    /// Nats a token; null where no target size was asked for.
    pub(super) sensitivity: Option<SensitivityLine>,
}

#[derive(Debug, Serialize)]
pub(super) struct TensorTier {
    pub(super) tier: String,
    /// Of this stage alone.
    pub(super) bits_per_weight: f64,
    #[serde(flatten)]
    pub(super) error: StageError,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct StageError {
    pub(super) weight_cosine: f64,
    pub(super) relative_error: f64,
    /// Null where nothing at all is lost.
    pub(super) error_bits: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct SensitivityLine {
    /// Expected loss at the chosen depths.
    pub(super) lost: f64,
    /// Expected loss were the tensor left out.
    pub(super) left_out: f64,
    pub(super) lost_by_group: Vec<f64>,
    pub(super) left_out_by_group: Vec<f64>,
}

impl TensorLine {
    pub(super) fn new(tensor: &PressedTensor) -> Self {
        let elements = tensor.shape.iter().product::<usize>().max(1) as f64;
        let tiers: Vec<TensorTier> = tensor
            .stages
            .iter()
            .map(|stage| TensorTier {
                tier: stage.tier.to_owned(),
                bits_per_weight: 8.0 * stage.bytes as f64 / elements,
                error: StageError {
                    weight_cosine: stage.weight_cosine,
                    relative_error: stage.relative_error,
                    error_bits: stage.error_bits(),
                },
            })
            .collect();
        Self {
            name: tensor.name.clone(),
            layer: tensor.layer,
            shape: tensor.shape.clone(),
            bits_per_weight: tensor.bits_per_weight(),
            depths: tensor.stages.iter().map(|s| s.depths.clone()).collect(),
            error: tiers.last().map(|tier| tier.error).unwrap_or_default(),
            tiers,
            sensitivity: tensor.sensitivity.as_ref().map(|s| SensitivityLine {
                lost: s.lost.iter().sum(),
                left_out: s.left_out.iter().sum(),
                lost_by_group: s.lost.clone(),
                left_out_by_group: s.left_out.clone(),
            }),
        }
    }

    /// Bits per weight of each column group, all stages together.
    pub(super) fn total_depths(&self) -> Vec<u8> {
        let mut sum = Vec::new();
        for depths in &self.depths {
            sum.resize(depths.len(), 0);
            sum.iter_mut().zip(depths).for_each(|(sum, d)| *sum += d);
        }
        sum
    }
}

/// Where the report of a file is written.
pub(super) fn place(output: &Path) -> PathBuf {
    output.with_extension("html")
}

/// Why no report can be written there; nothing where it can.
pub(super) fn obstacle(page: &Path, output: &Path, checkpoint: &Path) -> Option<String> {
    if page == output {
        return Some("the file itself has this name".to_owned());
    }
    let folder = match page.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let inside = |folder: &Path, checkpoint: &Path| {
        let [folder, checkpoint] = [folder.canonicalize().ok()?, checkpoint.canonicalize().ok()?];
        Some(folder.starts_with(checkpoint))
    };
    if inside(folder, checkpoint) == Some(true) {
        return Some("it would become a part of the checkpoint".to_owned());
    }
    let expected = page::beginning(GENERATOR);
    let mut found = Vec::new();
    let read = match std::fs::symlink_metadata(page) {
        Ok(kind) if !kind.is_file() => return Some("something else has this name".to_owned()),
        Ok(_) => File::open(page)
            .and_then(|file| file.take(expected.len() as u64).read_to_end(&mut found)),
        Err(error) => Err(error),
    };
    match read {
        Ok(_) if found == expected.as_bytes() => None,
        Ok(_) => Some("a file that is no report of a press has this name".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Writes a page under a temporary name and gives it its own.
pub(super) fn write(page: &Path, html: &str) -> Result<(), String> {
    let temporary = page.with_extension("html.tmp");
    let write = || {
        std::fs::write(&temporary, html).map_err(|error| error.to_string())?;
        os::replace_atomically(&temporary, page).map_err(|error| error.to_string())
    };
    let written = write();
    if written.is_err() {
        // Nobody waits for what is left of it.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("model");
        std::fs::create_dir(&checkpoint).unwrap();
        let output = folder.path().join("a.lagar");
        let page = place(&output);
        assert_eq!(page, folder.path().join("a.html"));
        let obstacle = |page: &Path| obstacle(page, &output, &checkpoint);
        assert_eq!(obstacle(&page), None);
        write(&page, &page::document(GENERATOR, "a", "")).unwrap();
        assert_eq!(obstacle(&page), None);
        write(&page, &page::document("lagar demo", "a", "")).unwrap();
        assert!(obstacle(&page).is_some());
        std::fs::write(&page, "").unwrap();
        assert!(obstacle(&page).is_some());
        assert!(obstacle(&output).is_some());
        assert!(obstacle(&checkpoint).is_some());
        assert!(obstacle(&checkpoint.join("a.html")).is_some());
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}

//! The exact section as a part of a press, and as the whole of one.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::time::Instant;

use lagar_format::{Container, Index, Limits, os};
use lagar_kernels::Cpu;

use super::folder::Folder;
use super::plan::{Plan, planned_bytes};
use super::section::{self, Below};
use crate::assemble::identity;
use crate::partial::{Key, Partial};
use crate::press::{PressReport, Request, digest_sources};
use crate::restore::check_exact;
use crate::{PressError, PressOptions, Progress};

/// First bytes of a `.lagar` file.
const MAGIC: &[u8] = b"\x89LAGAR\r\n";

/// Looks at everything in the checkpoint folder and hashes it.
pub(crate) fn plan(
    cpu: &Cpu,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Plan, PressError> {
    let folder = Folder::open(request.checkpoint, Some(request.output))?;
    check_output(request)?;
    for skipped in &folder.skipped {
        progress.note(&format!(
            "the folder {skipped:?} is no part of the checkpoint, and left out"
        ));
    }
    progress.phase("Checking the checkpoint", planned_bytes(&folder));
    Plan::new(cpu, folder, progress)
}

/// An output in the folder is left out of what is pressed. That is right for an earlier `.lagar`
/// file, whose place it takes, and would lose any other file.
fn check_output(request: &Request<'_>) -> Result<(), PressError> {
    let Ok(output) = request.output.canonicalize() else {
        return Ok(());
    };
    let folder = request.checkpoint.canonicalize();
    if !folder.is_ok_and(|folder| output.starts_with(folder)) {
        return Ok(());
    }
    match os::map(&output)?.starts_with(MAGIC) {
        true => Ok(()),
        false => Err(PressError::OutputIsInput {
            path: request.output.to_owned(),
            what: "a file of the checkpoint".to_owned(),
        }),
    }
}

/// Puts the exact section behind the tiers below, decodes the finished file, compares every hash
/// and gives it its name. Returns its length and how many units were taken over.
pub(crate) fn finish(
    cpu: &Cpu,
    plan: &Plan,
    below: Below,
    partial: &Partial,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<(u64, usize), PressError> {
    let finished = partial.output();
    let resumed = section::write(cpu, plan, below, partial, &finished, progress)?;
    let container = Container::open(&finished, &Limits::default())?;
    let bytes = container.tier_bytes(container.tiers_complete() - 1)?;
    check_exact(cpu, container, progress)?;
    if progress.cancelled() {
        return Err(PressError::Interrupted);
    }
    os::replace_atomically(&finished, request.output)?;
    Ok((bytes, resumed))
}

/// A press of the exact section alone: of any folder with safetensors.
pub(crate) fn press_alone(
    cpu: &Cpu,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<PressReport, PressError> {
    let started = Instant::now();
    let plan = plan(cpu, request, progress)?;
    if !plan.has_safetensors() {
        return Err(PressError::Io {
            path: request.checkpoint.to_owned(),
            source: Error::new(ErrorKind::NotFound, "the folder holds no safetensors files"),
        });
    }
    // Nothing else has a say in the bytes.
    let options = PressOptions::default().with_tiers(&[], true);
    let key = Key {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checkpoint: digest_sources(&plan.sources()),
        text: String::new(),
        cost: String::new(),
        options,
    };
    let partial = Partial::open(request.output, &key, request.resume)?;
    let parameters = plan.parameters();
    let settings = [("recipe", "exact"), ("tiers", "exact")];
    let below = Below::Nothing(Box::new(Index {
        id: identity(&key),
        producer: format!("lagar {}", env!("CARGO_PKG_VERSION")),
        architecture: plan.architecture().unwrap_or_else(|| "unknown".to_owned()),
        parameters,
        settings: BTreeMap::from(settings.map(|(k, v)| (k.to_owned(), v.to_owned()))),
        ..Index::default()
    }));
    let (file_bytes, resumed_units) = finish(cpu, &plan, below, &partial, request, progress)?;
    partial.remove()?;
    Ok(PressReport {
        file_bytes,
        parameters,
        calibration_tokens: 0,
        resumed_units,
        refinements: Vec::new(),
        measurement: None,
        tensors: Vec::new(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

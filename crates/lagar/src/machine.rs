//! The machine, and what the process used of it.

use anyhow::Context as _;
use serde::Serialize;
use std::num::NonZero;
use std::path::PathBuf;

/// The largest amount of memory that was resident so far, in bytes; `None` where the system does not say.
#[cfg(unix)]
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // Apple counts bytes, everybody else kibibytes.
    Some(if cfg!(target_vendor = "apple") {
        peak
    } else {
        peak * 1024
    })
}

/// The largest amount of memory that was resident so far, in bytes; `None` where the system does not say.
#[cfg(not(unix))]
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    None
}

/// The machine, for results that others read.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name; null where the system does not say.
    processor: Option<String>,
    /// Processors that this program may use.
    processors: usize,
    /// Of these, those that do not share a core with another.
    cores: usize,
    /// The instruction set that is used.
    isa: &'static str,
    /// Memory that is free.
    available_memory_bytes: Option<u64>,
    system: &'static str,
    architecture: &'static str,
}

impl Machine {
    pub(crate) fn new(isa: &'static str) -> Self {
        Self {
            processor: processor(),
            processors: std::thread::available_parallelism().map_or(1, NonZero::get),
            cores: lagar_format::os::cores(),
            isa,
            available_memory_bytes: lagar_format::os::available_memory(),
            system: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
        }
    }

    /// In a line.
    pub(crate) fn words(&self) -> String {
        format!(
            "{}, {} cores, {}, {}",
            self.processor.as_deref().unwrap_or(self.architecture),
            self.cores,
            self.isa,
            self.system
        )
    }
}

/// The processor's name, with family and model where the name alone says little.
fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info
            .lines()
            .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = field("model name")?;
    match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => Some(format!("{name} (family {family}, model {model})")),
        _ => Some(name),
    }
}

/// The processor's own count of the energy that it takes: RAPL, as Linux shows it.
#[derive(Debug)]
pub(crate) struct EnergyCounter {
    /// One for each package.
    packages: Vec<PathBuf>,
}

/// Where Linux has the counters.
const POWERCAP: &str = "/sys/class/powercap";

impl EnergyCounter {
    /// Finds the counters of all packages.
    ///
    /// # Errors
    /// Where there are none, or this user may not read them.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let entries = std::fs::read_dir(POWERCAP).into_iter().flatten().flatten();
        let mut packages: Vec<_> = entries
            .filter(|entry| {
                // `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it.
                let name = entry.file_name().to_string_lossy().into_owned();
                name.strip_prefix("intel-rapl:")
                    .is_some_and(|rest| !rest.contains(':'))
            })
            .map(|entry| entry.path().join("energy_uj"))
            .collect();
        packages.sort();
        if packages.is_empty() {
            anyhow::bail!(
                "this machine shows no energy counters: there is no intel-rapl in {POWERCAP}"
            );
        }
        let counter = Self { packages };
        counter.joules()?;
        Ok(counter)
    }

    /// Joules of all packages together, since some time in the past. It starts again from 0 after hours.
    ///
    /// # Errors
    /// A counter that cannot be read.
    pub(crate) fn joules(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for path in &self.packages {
            let text = std::fs::read_to_string(path).with_context(|| {
                format!(
                    "the energy counter {} cannot be read; on most systems only root may",
                    path.display()
                )
            })?;
            let microjoules: f64 = text.trim().parse()?;
            sum += microjoules / 1e6;
        }
        Ok(sum)
    }
}

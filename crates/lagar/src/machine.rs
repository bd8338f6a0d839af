//! The machine, and what the process used of it.

use crate::terminal::counted;
use anyhow::Context as _;
use serde::Serialize;
use std::path::{Path, PathBuf};

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
            processors: lagar_format::os::processors(),
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
            "{}, {}, {}, {}",
            self.processor.as_deref().unwrap_or(self.architecture),
            counted(self.cores, "core"),
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
    packages: Vec<Package>,
}

/// The counter of one package, in a folder of its own.
#[derive(Debug)]
struct Package {
    folder: PathBuf,
    /// Where it begins again from 0; 0 if the system does not say.
    most: u64,
}

/// What the counters of all packages said at some time, in microjoules.
#[derive(Clone, Debug)]
pub(crate) struct Energy(Vec<u64>);

/// Where Linux has the counters.
const POWERCAP: &str = "/sys/class/powercap";

impl EnergyCounter {
    /// Finds the counters of all packages.
    ///
    /// # Errors
    /// Where there are none, or this user may not read them.
    pub(crate) fn find() -> anyhow::Result<Self> {
        Self::find_in(Path::new(POWERCAP))
    }

    fn find_in(powercap: &Path) -> anyhow::Result<Self> {
        let entries = std::fs::read_dir(powercap).into_iter().flatten().flatten();
        let mut folders: Vec<_> = entries
            .map(|entry| entry.path())
            // `intel-rapl:0:0` is a part of what `intel-rapl:0` counts; that is a package, or the whole machine (`psys`), which has them too.
            .filter(|folder| {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                let alone = (name.strip_prefix("intel-rapl:")).is_some_and(|n| !n.contains(':'));
                let counts = std::fs::read_to_string(folder.join("name"));
                alone && counts.is_ok_and(|counts| counts.starts_with("package"))
            })
            .collect();
        folders.sort();
        if folders.is_empty() {
            anyhow::bail!(
                "this machine shows no energy counters: there is no package of intel-rapl in {}",
                powercap.display()
            );
        }
        let packages = folders.into_iter().map(|folder| Package {
            most: microjoules(&folder.join("max_energy_range_uj")).unwrap_or(0),
            folder,
        });
        let counter = Self {
            packages: packages.collect(),
        };
        counter.read()?;
        Ok(counter)
    }

    /// What all counters say now.
    ///
    /// # Errors
    /// A counter that cannot be read.
    pub(crate) fn read(&self) -> anyhow::Result<Energy> {
        let counters = self.packages.iter();
        let counters = counters.map(|package| microjoules(&package.folder.join("energy_uj")));
        Ok(Energy(counters.collect::<anyhow::Result<_>>()?))
    }

    /// Joules of all packages together since some time, after which each counter began again from 0 at most once.
    ///
    /// # Errors
    /// A counter that cannot be read.
    pub(crate) fn joules_since(&self, before: &Energy) -> anyhow::Result<f64> {
        let now = self.read()?;
        let counters = self.packages.iter().zip(before.0.iter().zip(&now.0));
        let passed = counters.map(|(package, (&before, &now))| match now.checked_sub(before) {
            Some(passed) => passed,
            None => now + package.most.saturating_sub(before),
        });
        Ok(passed.sum::<u64>() as f64 / 1e6)
    }
}

fn microjoules(path: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "the energy counter {} cannot be read; on most systems only root may",
            path.display()
        )
    })?;
    let text = text.trim();
    text.parse().with_context(|| {
        format!(
            "the energy counter {} says \u{201c}{text}\u{201d}",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::EnergyCounter;

    #[test]
    fn energy_is_that_of_packages_also_where_their_counters_begin_again() {
        let powercap = tempfile::tempdir().unwrap();
        let write = |zone: &str, file: &str, text: &str| {
            let folder = powercap.path().join(zone);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        };
        let find = || EnergyCounter::find_in(powercap.path());
        for (zone, name) in [
            ("intel-rapl", "control"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:0:0", "core"),
        ] {
            write(zone, "name", name);
            write(zone, "energy_uj", "7000000\n");
        }
        let absent = find().unwrap_err().to_string();
        assert!(absent.contains("no energy counters"), "{absent}");

        write("intel-rapl:0", "name", "package-0\n");
        write("intel-rapl:0", "max_energy_range_uj", "10000000\n");
        write("intel-rapl:0", "energy_uj", "");
        let empty = find().unwrap_err().to_string();
        assert!(empty.contains("energy_uj"), "{empty}");
        write("intel-rapl:0", "energy_uj", "9000000\n");
        let counter = find().unwrap();
        let before = counter.read().unwrap();
        write("intel-rapl:0", "energy_uj", "9500000\n");
        assert_eq!(counter.joules_since(&before).unwrap(), 0.5);
        write("intel-rapl:0", "energy_uj", "2000000\n");
        assert_eq!(counter.joules_since(&before).unwrap(), 3.0);
    }
}

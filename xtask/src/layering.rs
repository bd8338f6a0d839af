//! Checks that dependencies between the workspace's crates go one way, and that libraries keep out of
//! what belongs to the command line. ARCHITECTURE.md gives the reasons.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Every crate, and those of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("lagar-codec", &[]),
    ("lagar-format", &[]),
    ("lagar-kernels", &["lagar-codec"]),
    (
        "lagar-engine",
        &["lagar-kernels", "lagar-codec", "lagar-format"],
    ),
    (
        "lagar-press",
        &[
            "lagar-engine",
            "lagar-kernels",
            "lagar-codec",
            "lagar-format",
        ],
    ),
    ("lagar-server", &["lagar-engine"]),
    (
        "lagar",
        &[
            "lagar-server",
            "lagar-press",
            "lagar-engine",
            "lagar-kernels",
            "lagar-format",
        ],
    ),
    (
        "xtask",
        &[
            "lagar-press",
            "lagar-engine",
            "lagar-kernels",
            "lagar-codec",
            "lagar-format",
        ],
    ),
];

/// Crates that may read the environment, print, and exit.
const PROGRAMS: &[&str] = &["lagar", "xtask"];

/// What a library never does at run time. (Printing is a lint.)
const FORBIDDEN_IN_LIBRARIES: &[&str] = &["env::var", "process::exit", "std::net"];

/// Checks the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for package in packages(root)? {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            problems.push(format!(
                "{} is unknown: say in xtask/src/layering.rs what it may depend on",
                package.name
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| !allowed.contains(&d.as_str()))
        {
            problems.push(format!("{} must not depend on {dependency}", package.name));
        }
        if !PROGRAMS.contains(&package.name.as_str()) {
            scan(&package.folder.join("src"), &mut problems)?;
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", problems.join("\n"))
    }
}

struct Package {
    name: String,
    folder: PathBuf,
    /// Names of the workspace's crates that it depends on, tests apart.
    dependencies: Vec<String>,
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    packages
        .iter()
        .map(|package| {
            let text = |value: &Value| {
                value
                    .as_str()
                    .map(str::to_owned)
                    .context("cargo metadata has another shape")
            };
            let manifest = PathBuf::from(text(&package["manifest_path"])?);
            let dependencies = package["dependencies"]
                .as_array()
                .context("a package lists no dependencies")?;
            Ok(Package {
                name: text(&package["name"])?,
                folder: manifest
                    .parent()
                    .context("a manifest lies in a folder")?
                    .to_owned(),
                dependencies: dependencies
                    .iter()
                    // A path marks a crate of the workspace; kind is null for ordinary dependencies.
                    .filter(|d| !d["path"].is_null() && d["kind"] != "dev")
                    .map(|d| text(&d["name"]))
                    .collect::<Result<_>>()?,
            })
        })
        .collect()
}

/// Looks for what a library must not do in every source file under `folder`.
fn scan(folder: &Path, problems: &mut Vec<String>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, problems)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // Tests stand at the end of a file and may look for their data.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                for word in FORBIDDEN_IN_LIBRARIES
                    .iter()
                    .filter(|word| line.contains(**word))
                {
                    problems.push(format!(
                        "{}:{}: {word} in a library",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_go_one_way() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&root).unwrap();
    }

    #[test]
    fn a_library_that_reads_the_environment_is_found() {
        let folder = std::env::temp_dir().join(format!("lagar-layering-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("a.rs"),
            "fn f() {}\nfn g() { std::env::var(\"A\"); }\n",
        )
        .unwrap();
        let mut problems = Vec::new();
        scan(&folder, &mut problems).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("a.rs:2: env::var"), "{problems:?}");
    }
}

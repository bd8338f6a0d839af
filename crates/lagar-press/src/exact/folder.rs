//! Every file of a checkpoint folder, whatever it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use lagar_format::{Region, os};

use crate::PressError;

/// Folders that belong to tools, not to the checkpoint.
const SKIPPED: [&str; 2] = [".git", ".cache"];

/// A file of the folder.
#[derive(Debug)]
pub(crate) struct FolderFile {
    /// Its name from the folder on, with `/` between.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Region,
}

/// A checkpoint folder's files, sorted by name, and the folders that were passed over.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) files: Vec<FolderFile>,
    pub(crate) skipped: BTreeSet<String>,
}

impl Folder {
    /// Finds and maps all files of a folder and those below it. Links to files are followed. The
    /// file that is to be written, should it lie in the folder, is passed over, and so is its
    /// work in progress.
    pub(crate) fn open(folder: &Path, output: Option<&Path>) -> Result<Self, PressError> {
        let mut found = Self {
            files: Vec::new(),
            skipped: BTreeSet::new(),
        };
        let kind = fs::metadata(folder).map_err(io(folder))?;
        if !kind.is_dir() {
            return Err(io(folder)(Error::new(
                ErrorKind::NotADirectory,
                "not a folder; a checkpoint is a folder with safetensors",
            )));
        }
        let own = output.map(own_files).unwrap_or_default();
        found.visit(folder, "", &own)?;
        found.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn visit(&mut self, folder: &Path, prefix: &str, own: &[PathBuf]) -> Result<(), PressError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            entries.push(entry.map_err(io(folder))?);
        }
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Ok(part) = entry.file_name().into_string() else {
                let problem = "its name is not UTF-8, which a .lagar file cannot hold; rename it";
                return Err(io(&path)(Error::new(ErrorKind::InvalidInput, problem)));
            };
            let name = format!("{prefix}{part}");
            let link = entry.file_type().map_err(io(&path))?.is_symlink();
            let kind = fs::metadata(&path).map_err(io(&path))?;
            if !own.is_empty() && path.canonicalize().is_ok_and(|place| own.contains(&place)) {
                continue;
            }
            if kind.is_dir() && SKIPPED.contains(&part.as_str()) {
                self.skipped.insert(name);
            } else if kind.is_dir() && link {
                let problem = "is a link to a folder, which is not followed; move it away";
                return Err(io(&path)(Error::new(ErrorKind::InvalidInput, problem)));
            } else if kind.is_dir() {
                self.visit(&path, &format!("{name}/"), own)?;
            } else {
                let bytes = os::map(&path)?;
                self.files.push(FolderFile { name, path, bytes });
            }
        }
        Ok(())
    }
}

/// The output and its work in progress, as far as they are there.
fn own_files(output: &Path) -> Vec<PathBuf> {
    let mut partial = output.file_name().unwrap_or_default().to_owned();
    partial.push(".partial");
    let own = [output.to_owned(), output.with_file_name(partial)];
    own.iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

fn io(path: &Path) -> impl Fn(Error) -> PressError + use<> {
    let path = path.to_owned();
    move |source| PressError::Io {
        path: path.clone(),
        source,
    }
}

//! A folder that has nothing in it until it has everything.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use lagar_format::os;

use crate::PressError;

/// Where files are written before they get their place: beside the folder, or inside one that is
/// there already and empty (it may be the root of a file system of its own).
#[derive(Debug)]
pub(super) struct WorkFolder {
    /// Removed with all that is in it unless it is finished.
    work: Option<PathBuf>,
    folder: PathBuf,
    inside: bool,
}

impl WorkFolder {
    pub(super) fn create(folder: &Path) -> Result<Self, PressError> {
        let inside = match fs::read_dir(folder) {
            Ok(mut entries) => {
                if let Some(entry) = entries.next() {
                    let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
                    let problem = format!(
                        "the folder is not empty (it holds {:?}); choose a new one",
                        name.to_string_lossy()
                    );
                    return Err(io(folder)(Error::new(
                        ErrorKind::DirectoryNotEmpty,
                        problem,
                    )));
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(io(folder)(error)),
        };
        let id = std::process::id();
        let work = match inside {
            true => folder.join(format!(".restore-{id}")),
            false => {
                let mut name = folder.file_name().unwrap_or_default().to_owned();
                name.push(format!(".restore-{id}"));
                folder.with_file_name(name)
            }
        };
        fs::create_dir(&work).map_err(io(&work))?;
        Ok(Self {
            work: Some(work),
            folder: folder.to_owned(),
            inside,
        })
    }

    /// Where the file of this relative name is written.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let work = self.work.as_deref().expect("the folder is not finished");
        name.split('/')
            .fold(work.to_owned(), |path, part| path.join(part))
    }

    /// Gives everything its place.
    pub(super) fn finish(mut self) -> Result<(), PressError> {
        let work = self.work.clone().expect("the folder is finished once");
        sync_folders(&work)?;
        if self.inside {
            let mut moved = Vec::new();
            for entry in fs::read_dir(&work).map_err(io(&work))? {
                let entry = entry.map_err(io(&work))?;
                let place = self.folder.join(entry.file_name());
                if let Err(error) = fs::rename(entry.path(), &place) {
                    for (place, back) in moved {
                        // Into the folder that is removed.
                        let _ = fs::rename(place, back);
                    }
                    return Err(io(&place)(error));
                }
                moved.push((place, entry.path()));
            }
            fs::remove_dir(&work).map_err(io(&work))?;
        } else {
            fs::rename(&work, &self.folder).map_err(io(&self.folder))?;
        }
        self.work = None;
        let parent = self.folder.parent().filter(|p| !p.as_os_str().is_empty());
        os::sync_folder(&self.folder)?;
        Ok(os::sync_folder(parent.unwrap_or(Path::new(".")))?)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            // There is an error on its way already, and this is not the one to report.
            let _ = fs::remove_dir_all(work);
        }
    }
}

/// Makes the names in a folder and those below it durable.
fn sync_folders(folder: &Path) -> Result<(), PressError> {
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        if entry.file_type().map_err(io(folder))?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    Ok(os::sync_folder(folder)?)
}

fn io(path: &Path) -> impl Fn(Error) -> PressError + use<> {
    let path = path.to_owned();
    move |source| PressError::Io {
        path: path.clone(),
        source,
    }
}

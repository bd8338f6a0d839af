//! A file that is not there until it is complete.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{FormatError, os};

/// A new file under a temporary name beside its own. It gets its name from [`NewFile::finish`];
/// dropped before that, it is removed.
#[derive(Debug)]
pub struct NewFile {
    file: Option<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Begins the file that will be `path`.
    ///
    /// # Errors
    /// [`FormatError::Io`] or [`FormatError::DiskFull`] where it cannot be created.
    pub fn create(path: &Path) -> Result<Self, FormatError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file =
            File::create_new(&temporary).map_err(|e| FormatError::io("create", &temporary, e))?;
        Ok(Self {
            file: Some(file),
            temporary,
            path: path.to_owned(),
        })
    }

    /// Where it is until it is finished.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`FormatError::Io`] or [`FormatError::DiskFull`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let file = self.file.as_mut().expect("the file is open until it ends");
        file.write_all(bytes)
            .map_err(|e| FormatError::io("write", &self.path, e))
    }

    /// The open file, for writing at any place.
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("the file is open until it ends")
    }

    /// Makes the file durable and gives it its name, in place of what had it.
    ///
    /// # Errors
    /// [`FormatError::Io`] or [`FormatError::DiskFull`]; the file is then removed.
    pub fn finish(mut self) -> Result<(), FormatError> {
        // Windows renames no open files.
        self.file = None;
        os::replace_atomically(&self.temporary, &self.path)?;
        self.temporary = PathBuf::new();
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        self.file = None;
        if self.temporary != PathBuf::new() {
            // There is an error on its way already, and this is not the one to report.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

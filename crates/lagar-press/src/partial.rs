//! `FILE.partial/`: work in progress, one file per finished unit, keyed by everything that decides
//! the result's bytes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{PressError, PressOptions};

/// What the bytes of a press depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) version: String,
    pub(crate) options: PressOptions,
    /// BLAKE3 over the names and hashes of the checkpoint's files.
    pub(crate) checkpoint: String,
    /// BLAKE3 of the calibration tokens.
    pub(crate) text: String,
}

impl Key {
    /// What differs from `other`, in a user's words.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.version != other.version {
            Some("another version of lagar")
        } else if self.checkpoint != other.checkpoint {
            Some("another checkpoint")
        } else if self.text != other.text {
            Some("another calibration text")
        } else if self.options != other.options {
            Some("other settings")
        } else {
            None
        }
    }
}

/// The folder of work in progress of one output file.
#[derive(Debug)]
pub(crate) struct Partial {
    dir: PathBuf,
}

impl Partial {
    /// Opens the folder beside `output`. Without `resume`, what an earlier press left is removed;
    /// with it, the keys must agree (an absent folder is simply begun).
    pub(crate) fn open(output: &Path, key: &Key, resume: bool) -> Result<Self, PressError> {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let dir = output.with_file_name(name);
        let io = |source| PressError::Io {
            path: dir.clone(),
            source,
        };
        let key_path = dir.join("key.json");
        if dir.exists() {
            if !resume {
                fs::remove_dir_all(&dir).map_err(io)?;
            } else if let Ok(bytes) = fs::read(&key_path) {
                let found: Key =
                    serde_json::from_slice(&bytes).map_err(|_| PressError::Mismatch {
                        path: dir.clone(),
                        what: "a key that cannot be read".to_owned(),
                    })?;
                if let Some(what) = key.difference(&found) {
                    return Err(PressError::Mismatch {
                        path: dir,
                        what: what.to_owned(),
                    });
                }
            }
        }
        fs::create_dir_all(&dir).map_err(io)?;
        let text = serde_json::to_vec_pretty(key).expect("plain data serialises");
        fs::write(&key_path, text).map_err(|source| PressError::Io {
            path: key_path,
            source,
        })?;
        Ok(Self { dir })
    }

    /// Where a unit's file lies.
    pub(crate) fn unit(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.unit"))
    }

    /// Where the finished file is written before it gets its name.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("finished.lagar")
    }

    /// Removes the folder and everything in it.
    pub(crate) fn remove(self) -> Result<(), PressError> {
        fs::remove_dir_all(&self.dir).map_err(|source| PressError::Io {
            path: self.dir.clone(),
            source,
        })
    }
}

//! `FILE.partial/`: work in progress, one file per finished unit, keyed by everything that decides
//! the result's bytes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lagar_format::os;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{PressError, PressOptions};

const KEY: &str = "key.json";
const NEW_KEY: &str = "key.tmp";
const LOCK: &str = "lock";
const BASE: &str = "base.lagar";
const FINISHED: &str = "finished.lagar";
/// Bytes of the hash behind a record.
const HASH_LEN: usize = 32;

/// What the bytes of a press depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) version: String,
    pub(crate) options: PressOptions,
    /// BLAKE3 over the names and hashes of the checkpoint's files.
    pub(crate) checkpoint: String,
    /// BLAKE3 of the calibration tokens.
    pub(crate) text: String,
    /// BLAKE3 of the examples whose answers the depths are chosen for; empty for all text.
    pub(crate) cost: String,
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
        } else if self.cost != other.cost {
            Some("another cost")
        } else if self.options != other.options {
            Some("other settings")
        } else {
            None
        }
    }
}

/// The folder of work in progress of one output file, held by one press at a time.
#[derive(Debug)]
pub(crate) struct Partial {
    dir: PathBuf,
    /// Locked until it is dropped, or the process ends in whatever way.
    lock: Arc<File>,
    round: usize,
}

impl Partial {
    /// Opens the folder beside `output`. Without `resume`, what an earlier press left is removed;
    /// with it, the keys must agree (an absent folder is simply begun). A folder with anything in
    /// it that no press makes is left alone.
    pub(crate) fn open(output: &Path, key: &Key, resume: bool) -> Result<Self, PressError> {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let dir = output.with_file_name(name);
        let refuse = |what: String| PressError::Occupied {
            path: dir.clone(),
            what,
        };
        if dir.symlink_metadata().is_ok_and(|kind| !kind.is_dir()) {
            return Err(refuse("is not a folder".to_owned()));
        }
        fs::create_dir_all(&dir).map_err(|e| io_at(&dir, e))?;
        if let Some(name) = foreign(&dir)? {
            return Err(refuse(format!("holds {name}, which is no part of a press")));
        }
        let lock = lock(&dir)?;
        let lock = Arc::new(lock);
        let round = 0;
        let partial = Self { dir, lock, round };
        let key_path = partial.dir.join(KEY);
        match fs::read(&key_path) {
            Ok(bytes) if resume => {
                let mismatch = |what: &str| PressError::Mismatch {
                    path: partial.dir.clone(),
                    what: what.to_owned(),
                };
                let found: Key = serde_json::from_slice(&bytes)
                    .map_err(|_| mismatch("a key that cannot be read"))?;
                if let Some(what) = key.difference(&found) {
                    return Err(mismatch(what));
                }
            }
            // Without a key nobody knows what the units there belong to.
            _ => partial.clear()?,
        }
        let text = serde_json::to_vec_pretty(key).expect("plain data serialises");
        let temporary = partial.dir.join(NEW_KEY);
        fs::write(&temporary, text).map_err(|e| io_at(&temporary, e))?;
        os::replace_atomically(&temporary, &key_path)?;
        Ok(partial)
    }

    /// The same folder for another round of the press, whose units and records have other names.
    pub(crate) fn in_round(&self, round: usize) -> Self {
        Self {
            dir: self.dir.clone(),
            lock: Arc::clone(&self.lock),
            round,
        }
    }

    /// The round, from 0.
    pub(crate) fn round(&self) -> usize {
        self.round
    }

    /// A record that was kept under this name; `None` if it is absent or damaged.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, PressError> {
        let path = self.unit(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_at(&path, e)),
        };
        let Some((json, hash)) = bytes.split_last_chunk::<HASH_LEN>() else {
            return Ok(None);
        };
        let whole = blake3::hash(json) == *hash;
        Ok(whole.then(|| serde_json::from_slice(json).ok()).flatten())
    }

    /// Keeps a record for a press that is resumed: JSON and its BLAKE3.
    pub(crate) fn write<T: Serialize>(&self, name: &str, record: &T) -> Result<(), PressError> {
        let path = self.unit(name);
        let temporary = path.with_extension("tmp");
        let mut bytes = serde_json::to_vec(record).expect("plain data serialises");
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        fs::write(&temporary, bytes).map_err(|e| io_at(&temporary, e))?;
        Ok(os::replace_atomically(&temporary, &path)?)
    }

    /// Where a unit's file lies.
    pub(crate) fn unit(&self, name: &str) -> PathBuf {
        self.dir.join(match self.round {
            0 => format!("{name}.unit"),
            round => format!("{name}-round-{round}.unit"),
        })
    }

    /// Where the tiers below `full` are assembled.
    pub(crate) fn base(&self) -> PathBuf {
        self.dir.join(BASE)
    }

    /// Where the finished file is written before it gets its name.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join(FINISHED)
    }

    /// Removes the folder and everything in it.
    pub(crate) fn remove(self) -> Result<(), PressError> {
        self.clear()?;
        let lock = self.dir.join(LOCK);
        fs::remove_file(&lock).map_err(|e| io_at(&lock, e))?;
        match fs::remove_dir(&self.dir) {
            // Another press has begun there.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed.map_err(|e| io_at(&self.dir, e)),
        }
    }

    /// Removes everything but the lock; the key first, so that nothing is left that looks finished.
    fn clear(&self) -> Result<(), PressError> {
        let mut names = names(&self.dir)?;
        names.sort_by_key(|name| name != KEY);
        for name in names.iter().filter(|name| *name != LOCK) {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(|e| io_at(&path, e))?;
        }
        Ok(())
    }
}

fn io_at(path: &Path, source: io::Error) -> PressError {
    PressError::Io {
        path: path.to_owned(),
        source,
    }
}

fn names(dir: &Path) -> Result<Vec<String>, PressError> {
    let entries = fs::read_dir(dir).map_err(|e| io_at(dir, e))?;
    entries
        .map(|entry| {
            let entry = entry.map_err(|e| io_at(dir, e))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

/// Something in the folder that a press does not make.
fn foreign(dir: &Path) -> Result<Option<String>, PressError> {
    let own = |name: &str| {
        [KEY, NEW_KEY, LOCK, BASE, FINISHED].contains(&name)
            || [".unit", ".tmp"].iter().any(|end| name.ends_with(end))
    };
    Ok(names(dir)?.into_iter().find(|name| !own(name)))
}

/// Keeps a second press out. Where the file system has no locks, nothing does.
fn lock(dir: &Path) -> Result<File, PressError> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| io_at(&path, e))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(PressError::Busy { path: dir.into() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bits: u8) -> Key {
        let options = PressOptions::default().with_tiers(&[bits], false);
        Key {
            version: "1".to_owned(),
            options,
            checkpoint: "c".to_owned(),
            text: "t".to_owned(),
            cost: String::new(),
        }
    }

    #[test]
    fn one_press_at_a_time_works_on_an_output() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.lagar");
        let first = Partial::open(&output, &key(2), false).unwrap();
        fs::write(first.unit("head"), b"unit").unwrap();
        for resume in [false, true] {
            let error = Partial::open(&output, &key(4), resume).unwrap_err();
            assert!(matches!(error, PressError::Busy { .. }), "{error}");
            assert!(first.unit("head").exists());
        }
        drop(first);
        let error = Partial::open(&output, &key(4), true).unwrap_err();
        assert!(matches!(error, PressError::Mismatch { .. }), "{error}");
        let again = Partial::open(&output, &key(2), true).unwrap();
        assert!(again.unit("head").exists());
        again.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn units_without_a_key_are_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.lagar");
        let first = Partial::open(&output, &key(2), false).unwrap();
        let unit = first.unit("head");
        fs::write(&unit, b"unit").unwrap();
        drop(first);
        fs::remove_file(unit.with_file_name(KEY)).unwrap();
        let _again = Partial::open(&output, &key(4), true).unwrap();
        assert!(!unit.exists());
    }

    #[test]
    fn what_no_press_made_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.lagar");
        let theirs = folder.path().join("a.lagar.partial");
        fs::write(&theirs, b"a file").unwrap();
        let error = Partial::open(&output, &key(2), false).unwrap_err();
        assert!(error.to_string().contains("not a folder"), "{error}");
        fs::remove_file(&theirs).unwrap();
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("diary.txt"), b"mine").unwrap();
        for resume in [false, true] {
            let error = Partial::open(&output, &key(2), resume).unwrap_err();
            assert!(error.to_string().contains("diary.txt"), "{error}");
        }
        assert_eq!(fs::read(theirs.join("diary.txt")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
    }
}

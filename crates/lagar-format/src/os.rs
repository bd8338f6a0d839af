//! All that differs between operating systems: mapping, advice, reads past the page cache, free
//! memory, durable renames.
//!
//! This is the crate's only unsafe code. Where a system lacks something, a plain fallback does the
//! same work: files are read instead of mapped, advice is ignored, free memory is unknown.
#![allow(unsafe_code)]

mod uncached;

use std::fs::File;
use std::num::NonZero;
use std::path::Path;

use crate::{FormatError, Region};
pub(crate) use uncached::{BLOCK, UncachedFile};

/// A whole file as bytes.
#[cfg(any(unix, windows))]
pub(crate) type Map = memmap2::Mmap;
/// A whole file as bytes.
#[cfg(not(any(unix, windows)))]
pub(crate) type Map = Vec<u8>;

/// How a region will be used next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// From front to back, once: read ahead.
    Sequential,
    /// Soon: start reading it now.
    WillNeed,
    /// Not soon: its pages may be dropped, and are read again from the file on the next use.
    DontNeed,
}

/// Maps a file for reading (or reads it, where the system cannot map).
///
/// The file must not be shortened while the region lives: touching pages behind its new end kills
/// the process on Unix. Replacing it by renaming another file over it is fine.
///
/// # Errors
/// [`FormatError::Io`] where the file cannot be opened or mapped, or is not a plain file.
pub fn map(path: &Path) -> Result<Region, FormatError> {
    let plain = |kind: std::fs::Metadata| match kind.is_file() {
        true => Ok(kind),
        false => {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a plain file");
            Err(FormatError::io("map", path, source))
        }
    };
    // Before it is opened, because opening a pipe waits for its other end.
    plain(std::fs::metadata(path).map_err(|e| FormatError::io("open", path, e))?)?;
    let opened = File::open(path).map_err(|e| FormatError::io("open", path, e))?;
    let kind = opened
        .metadata()
        .map_err(|e| FormatError::io("examine", path, e))?;
    let kind = plain(kind)?;
    if kind.len() == 0 {
        return Ok(Region::from_vec(Vec::new()));
    }
    map_file(&opened)
        .map(Region::from_map)
        .map_err(|e| FormatError::io("map", path, e))
}

#[cfg(any(unix, windows))]
fn map_file(file: &File) -> std::io::Result<Map> {
    // SAFETY: the map is read-only and private to this process's view, and every access goes
    // through the slice's checked length. What the language cannot rule out is another process
    // changing or shortening the file meanwhile: changed bytes are only ever data that is checked
    // before use as an index or a length, and shortening is excluded by the contract of `map`.
    unsafe { memmap2::Mmap::map(file) }
}

#[cfg(not(any(unix, windows)))]
fn map_file(mut file: &File) -> std::io::Result<Map> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

/// Copies bytes to memory of large pages, of which a processor keeps track with less work. Where the system gives none, it
/// is memory as usual.
///
/// # Errors
/// The system has not so much memory.
pub(crate) fn in_huge_pages(bytes: &[u8]) -> std::io::Result<Region> {
    #[cfg(unix)]
    {
        let mut map = memmap2::MmapMut::map_anon(bytes.len())?;
        // Only a hint: pages stay small where the system refuses.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        map.copy_from_slice(bytes);
        Ok(Region::from_memory(map.make_read_only()?))
    }
    #[cfg(not(unix))]
    Ok(Region::from_vec(bytes.to_vec()))
}

/// Bytes of this process's own memory that lie in large pages. `None` where the system does not say.
pub fn huge_page_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::huge_page_bytes();
    #[cfg(not(target_os = "linux"))]
    None
}

/// Tells the system how a region will be used. Only a hint: failures and systems without such
/// advice are ignored, and so are regions in memory.
pub fn advise(region: &Region, advice: Advice) {
    #[cfg(unix)]
    if let Some((map, offset, len)) = region.map() {
        use memmap2::{Advice as Checked, UncheckedAdvice};
        let _ = match advice {
            Advice::Sequential => map.advise_range(Checked::Sequential, offset, len),
            Advice::WillNeed => map.advise_range(Checked::WillNeed, offset, len),
            // SAFETY: the map is a read-only view of a file and never written, so a dropped page
            // is read again with the same bytes; no data can be lost.
            Advice::DontNeed => unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len)
            },
        };
    }
    #[cfg(not(unix))]
    let _ = (region.map(), advice);
}

/// Bytes of memory that can be taken without swapping, by the system's own estimate and within
/// this process's control group. `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::available_memory();
    #[cfg(not(target_os = "linux"))]
    None
}

/// Processors that this process may use; at least 1, and 1 where the system does not say.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Processors that this process may use and that do not share a core with another of them: threads that compute all the time
/// gain nothing from more. Where the system does not say which share one, all that it may use; at least 1.
pub fn cores() -> usize {
    let all = processors();
    #[cfg(target_os = "linux")]
    let all = linux::cores().map_or(all, |cores| cores.clamp(1, all));
    all
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::fs::read_to_string;

    pub(super) fn cores() -> Option<usize> {
        let status = read_to_string("/proc/self/status").ok()?;
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let cores = parse_list(allowed)?.into_iter().map(|processor| {
            let topology = format!("/sys/devices/system/cpu/cpu{processor}/topology");
            // Numbers of cores begin anew in each cluster; the processors that share a core are a list for each. Older systems have its
            // older name.
            ["core_cpus_list", "thread_siblings_list"]
                .iter()
                .find_map(|name| read_to_string(format!("{topology}/{name}")).ok())
        });
        Some(cores.collect::<Option<BTreeSet<_>>>()?.len())
    }

    /// The numbers of a list such as `0-3,8`; nothing if it is none.
    pub(super) fn parse_list(text: &str) -> Option<Vec<u32>> {
        let mut all = Vec::new();
        for range in text.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            // More processors than any machine has.
            if first > last || last >= 1 << 16 {
                return None;
            }
            all.extend(first..=last);
        }
        Some(all)
    }

    pub(super) fn huge_page_bytes() -> Option<u64> {
        let text = read_to_string("/proc/self/smaps_rollup").ok()?;
        kilobytes(&text, "AnonHugePages:")
    }

    pub(super) fn available_memory() -> Option<u64> {
        let machine = read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| parse_meminfo(&text));
        match (machine, control_group()) {
            (Some(machine), Some(group)) => Some(machine.min(group)),
            (machine, group) => machine.or(group),
        }
    }

    pub(super) fn parse_meminfo(text: &str) -> Option<u64> {
        kilobytes(text, "MemAvailable:")
    }

    /// The bytes of a line such as `MemAvailable:   20 kB`.
    fn kilobytes(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    }

    /// What the memory limit of this process's control group (version 2, and its own only) leaves.
    fn control_group() -> Option<u64> {
        let groups = read_to_string("/proc/self/cgroup").ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let folder = format!("/sys/fs/cgroup{path}");
        let value = |name: &str| -> Option<u64> {
            read_to_string(format!("{folder}/{name}"))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        Some(value("memory.max")?.saturating_sub(value("memory.current")?))
    }
}

/// Puts the finished file `temporary` in place of `path`, so that whatever happens, `path` is
/// either what it was or the whole new file: syncs the file, renames it, syncs the folder.
///
/// Both must lie on one file system.
///
/// # Errors
/// [`FormatError::Io`] or [`FormatError::DiskFull`] with the path at fault.
pub fn replace_atomically(temporary: &Path, path: &Path) -> Result<(), FormatError> {
    let file = File::options().read(true).write(true).open(temporary);
    let file = file.map_err(|e| FormatError::io("open", temporary, e))?;
    file.sync_all()
        .map_err(|e| FormatError::io("sync", temporary, e))?;
    drop(file);
    std::fs::rename(temporary, path).map_err(|e| FormatError::io("rename into", path, e))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Writes all of `bytes` at a place in a file; any number of threads may do so at once.
///
/// # Errors
/// The system's.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let mut left = bytes;
        while !left.is_empty() {
            let at = offset + (bytes.len() - left.len()) as u64;
            match std::os::windows::fs::FileExt::seek_write(file, left, at)? {
                0 => return Err(std::io::ErrorKind::WriteZero.into()),
                written => left = &left[written..],
            }
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    {
        use std::io::{Seek, SeekFrom, Write};
        use std::sync::{Mutex, PoisonError};
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

/// Makes the names in a folder durable. Does nothing where folders cannot be synced.
///
/// # Errors
/// [`FormatError::Io`] with the folder.
pub fn sync_folder(folder: &Path) -> Result<(), FormatError> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|e| FormatError::io("sync", folder, e))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_the_bytes_of_the_file_through_any_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let region = map(&path).unwrap();
        let inner = region.slice(5000..15_000).unwrap();
        for advice in [Advice::Sequential, Advice::WillNeed, Advice::DontNeed] {
            advise(&inner, advice);
            assert_eq!(&inner[..], &bytes[5000..15_000]);
        }
        std::fs::write(&path, b"").unwrap();
        assert!(map(&path).unwrap().is_empty());
    }

    #[test]
    fn a_folder_or_a_missing_file_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("absent")] {
            let message = map(&path).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn there_are_no_more_cores_than_processors() {
        assert!((1..=processors()).contains(&cores()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lists_of_processors_are_read_or_refused() {
        for (text, expected) in [
            ("\t0-3,8\n", Some(vec![0, 1, 2, 3, 8])),
            ("5", Some(vec![5])),
            ("", None),
            ("3-1", None),
            ("0-99999999", None),
            ("0-x", None),
        ] {
            assert_eq!(linux::parse_list(text), expected, "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_device_is_refused_without_waiting_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [socket.as_path(), Path::new("/dev/zero")] {
            let message = map(path).unwrap_err().to_string();
            assert!(message.contains("not a plain file"), "{message}");
        }
    }

    #[test]
    fn writing_at_places_in_any_order_fills_the_file() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        for at in [60, 0, 20, 40, 80] {
            write_at(&file, &bytes[at..at + 20], at as u64).unwrap();
        }
        let mut read = Vec::new();
        use std::io::{Read, Seek};
        let mut file = file;
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn replacing_leaves_only_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let [new, path] = ["new", "old"].map(|name| folder.path().join(name));
        std::fs::write(&path, b"old").unwrap();
        std::fs::write(&new, b"new").unwrap();
        replace_atomically(&new, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!new.exists());
        assert!(replace_atomically(&new, &path).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_how_much_memory_is_left() {
        let text = "MemTotal:  100 kB\nMemAvailable:     7 kB\n";
        assert_eq!(linux::parse_meminfo(text), Some(7 * 1024));
        assert_eq!(linux::parse_meminfo("MemTotal: 100 kB\n"), None);
        assert!(available_memory().is_some());
    }
}

//! Reading large parts of a file once, without filling the page cache with them.
//!
//! Linux reads directly where the file system can, else through the cache, and drops what was read
//! from it. macOS is told not to cache. Elsewhere reads are plain.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Offsets, lengths and addresses of direct reads are multiples of this: of the logical block of
/// any usual disk.
pub(crate) const BLOCK: usize = 4096;

/// An open file for reads of whole blocks.
#[derive(Debug)]
pub(crate) struct UncachedFile {
    #[cfg(any(unix, windows))]
    file: File,
    #[cfg(not(any(unix, windows)))]
    file: std::sync::Mutex<File>,
    direct: bool,
}

impl UncachedFile {
    /// Opens a file, for direct reads where it can be read so.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(direct) = Self::open_direct(path) {
            return Ok(direct);
        }
        Self::open_plain(path)
    }

    fn open_plain(path: &Path) -> io::Result<Self> {
        let file = open_sequential(path)?;
        Ok(Self {
            #[cfg(any(unix, windows))]
            file,
            #[cfg(not(any(unix, windows)))]
            file: file.into(),
            direct: false,
        })
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn open_direct(path: &Path) -> Option<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_DIRECT).open(path);
        let direct = Self {
            file: file.ok()?,
            direct: true,
        };
        // Some file systems open a file so and then refuse to read it.
        let mut probe = vec![0; 2 * BLOCK];
        let start = probe.as_ptr().align_offset(BLOCK);
        let probe = probe.get_mut(start..start + BLOCK)?;
        direct.read_some(probe, 0).ok().map(|_| direct)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn open_direct(_: &Path) -> Option<Self> {
        None
    }

    /// Whether reads go past the page cache.
    #[cfg(test)]
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Fills `buffer` with the bytes from `offset` on. The file may end within the buffer, but not
    /// before its first `needed` bytes.
    ///
    /// `offset`, and the address and length of `buffer`, are multiples of [`BLOCK`].
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64, needed: usize) -> io::Result<()> {
        debug_assert!(offset.is_multiple_of(BLOCK as u64));
        debug_assert!(buffer.len().is_multiple_of(BLOCK));
        debug_assert!(buffer.as_ptr().addr().is_multiple_of(BLOCK));
        let mut done = 0;
        while done < needed {
            match self.read_some(&mut buffer[done..], offset + done as u64) {
                Ok(n) if done + n >= needed => done += n,
                // Only the end of the file stops a direct read inside a block.
                Ok(n) if n == 0 || self.direct && !n.is_multiple_of(BLOCK) => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !self.direct {
            self.forget(offset, buffer.len());
        }
        Ok(())
    }

    #[cfg(unix)]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read(buffer)
    }

    /// Lets go of what the page cache holds of a range.
    fn forget(&self, offset: u64, len: usize) {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open as long as `self.file` is; the call touches no memory.
            unsafe {
                libc::posix_fadvise(
                    self.file.as_raw_fd(),
                    offset,
                    len,
                    libc::POSIX_FADV_DONTNEED,
                )
            };
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
        let _ = (offset, len);
    }
}

fn open_sequential(path: &Path) -> io::Result<File> {
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_FLAG_SEQUENTIAL_SCAN: u32 = 0x0800_0000;
        let mut options = File::options();
        options.read(true).custom_flags(FILE_FLAG_SEQUENTIAL_SCAN);
        options.open(path)
    }
    #[cfg(not(windows))]
    {
        let file = File::open(path)?;
        #[cfg(target_vendor = "apple")]
        {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open; the call touches no memory.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) };
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(n: usize) -> (Vec<u8>, usize) {
        let bytes = vec![0xaa; (n + 1) * BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        (bytes, start)
    }

    #[test]
    fn whole_blocks_are_read_up_to_the_end_of_the_file_directly_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let content: Vec<u8> = (0..5 * BLOCK as u32 + 100)
            .map(|i| (i % 251) as u8)
            .collect();
        std::fs::write(&path, &content).unwrap();
        let opened = UncachedFile::open(&path).unwrap();
        let plain = UncachedFile::open_plain(&path).unwrap();
        for file in [opened, plain] {
            for first in 0..6 {
                let (mut buffer, start) = blocks(6);
                let from = first * BLOCK;
                let len = (6 - first) * BLOCK;
                let needed = content.len() - from;
                file.read(&mut buffer[start..start + len], from as u64, needed)
                    .unwrap();
                let read = &buffer[start..start + needed];
                assert!(read == &content[from..], "direct: {}", file.is_direct());
                let beyond = file.read(&mut buffer[start..start + len], from as u64, needed + 1);
                assert_eq!(beyond.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            }
        }
        assert!(UncachedFile::open(&folder.path().join("absent")).is_err());
    }
}

//! Shared, read-only bytes.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

use crate::os;

/// A cheap-to-clone range of read-only bytes: of a memory-mapped file, or of memory.
///
/// Dereferences to `[u8]`. The start has no alignment beyond that of the map (a page) or of the
/// vector it was made from.
#[derive(Clone)]
pub struct Region {
    backing: Arc<Backing>,
    start: usize,
    len: usize,
}

enum Backing {
    Map(os::Map),
    /// Not of a file: what is dropped is lost.
    #[cfg(unix)]
    Memory(os::Map),
    Bytes(Vec<u8>),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            #[cfg(unix)]
            Self::Memory(map) => map,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Region {
    /// A region of its own bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self::new(Backing::Bytes(bytes))
    }

    pub(crate) fn from_map(map: os::Map) -> Self {
        Self::new(Backing::Map(map))
    }

    /// A map that belongs to no file.
    #[cfg(unix)]
    pub(crate) fn from_memory(map: os::Map) -> Self {
        Self::new(Backing::Memory(map))
    }

    fn new(backing: Backing) -> Self {
        let len = backing.bytes().len();
        Self {
            backing: Arc::new(backing),
            start: 0,
            len,
        }
    }

    /// A range of this region, sharing its bytes. `None` where the range does not lie inside.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Option<Self> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.checked_add(1)?,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len,
        };
        (start <= end && end <= self.len).then(|| Self {
            backing: Arc::clone(&self.backing),
            start: self.start + start,
            len: end - start,
        })
    }

    /// The vector that the region was made from, for another use; `None` where other regions share
    /// it, or it is a map's.
    pub fn into_vec(self) -> Option<Vec<u8>> {
        match Arc::into_inner(self.backing)? {
            Backing::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The map behind this region with the range it covers; `None` for bytes in memory.
    pub(crate) fn map(&self) -> Option<(&os::Map, usize, usize)> {
        match &*self.backing {
            Backing::Map(map) => Some((map, self.start, self.len)),
            _ => None,
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.backing.bytes()[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Region {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_vec(bytes)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.map().is_some() {
            "map"
        } else {
            "memory"
        };
        write!(
            f,
            "Region({kind}, {}..{})",
            self.start,
            self.start + self.len
        )
    }
}

//! One mutable slice, written by many tasks at once.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that the tasks of a job share, each writing elements of its own.
#[derive(Clone, Copy, Debug)]
pub struct Disjoint<'a, T> {
    data: *mut T,
    len: usize,
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out `&mut [T]` to other threads, which is sound for `T: Send`; that the slices
// do not overlap is what the callers of `slice` promise.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: see above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Shares a slice.
    pub fn new(data: &'a mut [T]) -> Self {
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            marker: PhantomData,
        }
    }

    /// The length of the whole slice.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No element of `range` is in another slice that is alive at the same time.
    ///
    /// # Panics
    /// If the range is not inside the slice.
    #[inline]
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "range {range:?} of {} elements",
            self.len
        );
        // SAFETY: the range is inside the slice, and no one else has these elements.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

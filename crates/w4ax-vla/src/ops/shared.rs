//! An output that several threads write, each its own elements.

use std::marker::PhantomData;

/// A slice whose disjoint parts are borrowed by several threads.
pub(super) struct SharedOutput<'a, T> {
    start: *mut T,
    len: usize,
    values: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is to values that may be sent, and `part` requires disjoint parts.
unsafe impl<T: Send> Send for SharedOutput<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOutput<'_, T> {}

impl<'a, T> SharedOutput<'a, T> {
    pub fn new(values: &'a mut [T]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
            values: PhantomData,
        }
    }

    /// Returns the elements `start..start + len`.
    ///
    /// # Safety
    /// No two borrows that exist at once may overlap.
    #[allow(clippy::mut_from_ref)] // Disjoint parts, by the contract.
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len, "part of an output out of range");
        // SAFETY: in bounds by the assertion, and not aliased by the contract of this function.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

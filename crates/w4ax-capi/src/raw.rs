//! From pointers and counts to slices and references: the only place that trusts a caller's pointer.
//!
//! What can be checked is checked: null, alignment, lengths that leave the address space, overlaps. What cannot (that
//! the memory is there, and nobody writes it meanwhile) is the safety contract of every function here, as the header
//! states it to the caller.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;

use bytemuck::Pod;

use super::status::{Failure, Result, Status};
use w4ax::{MatMut, MatRef};

fn check<T>(what: &str, pointer: *const T, len: usize) -> Result<()> {
    if pointer.is_null() {
        return Err(Failure::new(
            Status::NullPointer,
            format!("{what} is a null pointer"),
        ));
    }
    if !pointer.is_aligned() {
        let text = format!("{what}: {pointer:p} is no multiple of {}", align_of::<T>());
        return Err(Failure::new(Status::Misaligned, text));
    }
    let fits = len
        .checked_mul(size_of::<T>())
        .filter(|bytes| *bytes <= isize::MAX as usize)
        .and_then(|bytes| pointer.addr().checked_add(bytes));
    if fits.is_none() {
        let text = format!("{what}: {len} elements do not fit the address space");
        return Err(Failure::new(Status::OutOfRange, text));
    }
    Ok(())
}

/// `len` elements; none for a null pointer with a length of 0.
///
/// # Safety
/// `pointer` is null or points at `len` elements that nobody writes for `'a`.
pub unsafe fn slice<'a, T: Pod>(what: &str, pointer: *const T, len: usize) -> Result<&'a [T]> {
    if pointer.is_null() && len == 0 {
        return Ok(&[]);
    }
    check(what, pointer, len)?;
    // SAFETY: not null, aligned, within the address space (just checked); there and unwritten by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// `len` elements to write; none for a null pointer with a length of 0.
///
/// # Safety
/// `pointer` is null or points at `len` elements that nobody else reads or writes for `'a`.
pub unsafe fn slice_mut<'a, T: Pod>(
    what: &str,
    pointer: *mut T,
    len: usize,
) -> Result<&'a mut [T]> {
    if pointer.is_null() && len == 0 {
        return Ok(&mut []);
    }
    check(what, pointer, len)?;
    // SAFETY: not null, aligned, within the address space (just checked); there and unshared by the caller's promise.
    // Any bits are a `T`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// A buffer that holds fewer elements than a call needs.
pub fn too_small(what: &str, needed: usize, got: usize) -> Failure {
    let text = format!("buffer of {got} elements for {what}: expected at least {needed}");
    Failure::new(Status::BufferTooSmall, text)
}

/// A matrix as C describes it. A stride of 0 is that of dense rows.
#[derive(Clone, Copy)]
pub struct Extent {
    pub len: usize,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl Extent {
    /// Elements from row to row.
    pub fn stride(&self) -> usize {
        match self.stride {
            0 => self.cols,
            stride => stride,
        }
    }

    /// Elements from the first to the last of the matrix.
    fn span(&self, what: &str, stride: usize) -> Result<usize> {
        let Self { rows, cols, .. } = *self;
        if stride < cols {
            let text = format!("{what}: row stride {stride} is less than {cols} columns");
            return Err(Failure::new(Status::BadShape, text));
        }
        if rows == 0 || cols == 0 {
            return Ok(0);
        }
        let span = (rows - 1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(cols));
        span.ok_or_else(|| {
            let text =
                format!("{what}: [{rows}, {cols}] with stride {stride} exceeds the address space");
            Failure::new(Status::BadShape, text)
        })
    }

    /// The stride, and the elements that the matrix spans of those that there are.
    fn check(&self, what: &'static str) -> Result<(usize, usize)> {
        let stride = self.stride();
        let needed = self.span(what, stride)?;
        if self.len < needed {
            return Err(too_small(what, needed, self.len));
        }
        Ok((stride, needed))
    }
}

/// # Safety
/// As [`slice`], for the elements that the matrix spans.
pub unsafe fn matrix<'a, T: Pod>(
    what: &'static str,
    pointer: *const T,
    extent: Extent,
) -> Result<MatRef<'a, T>> {
    let (stride, needed) = extent.check(what)?;
    // SAFETY: passed on; `needed` is at most the length that was given.
    let data = unsafe { slice(what, pointer, needed)? };
    Ok(MatRef::with_stride(data, extent.rows, extent.cols, stride)?)
}

/// # Safety
/// As [`slice_mut`], for the elements that the matrix spans.
pub unsafe fn matrix_mut<'a, T: Pod>(
    what: &'static str,
    pointer: *mut T,
    extent: Extent,
) -> Result<MatMut<'a, T>> {
    let (stride, needed) = extent.check(what)?;
    // SAFETY: passed on; `needed` is at most the length that was given.
    let data = unsafe { slice_mut(what, pointer, needed)? };
    Ok(MatMut::with_stride(data, extent.rows, extent.cols, stride)?)
}

/// The addresses that a matrix spans, for [`disjoint`]. Refuses what [`matrix`] would.
pub fn addresses<T>(what: &'static str, pointer: *const T, extent: Extent) -> Result<Range<usize>> {
    let (_, needed) = extent.check(what)?;
    if needed > 0 {
        check(what, pointer, needed)?;
    }
    let start = pointer.addr();
    Ok(start..start + needed * size_of::<T>())
}

/// The addresses of bytes whose first is a multiple of `alignment`; none for a null pointer with a count of 0.
pub fn room(
    what: &str,
    pointer: *const c_void,
    bytes: usize,
    alignment: usize,
) -> Result<Range<usize>> {
    let start = pointer.addr();
    if start != 0 || bytes > 0 {
        check(what, pointer.cast::<u8>(), bytes)?;
    }
    if !start.is_multiple_of(alignment) {
        let text = format!("{what}: {pointer:p} is no multiple of {alignment}");
        return Err(Failure::new(Status::Misaligned, text));
    }
    Ok(start..start + bytes)
}

/// Whether an output and an input share no byte. It is asked before references to them are made.
pub fn disjoint(what: &str, output: &Range<usize>, input: &Range<usize>) -> Result<()> {
    let empty = output.is_empty() || input.is_empty();
    if empty || output.end <= input.start || input.end <= output.start {
        return Ok(());
    }
    Err(Failure::new(
        Status::Overlap,
        format!("{what} share memory"),
    ))
}

/// What a handle points at.
///
/// # Safety
/// `pointer` is null or points at a `T` that lives for `'a` and is only read.
pub unsafe fn handle<'a, T>(what: &str, pointer: *const T) -> Result<&'a T> {
    check(what, pointer, 1)?;
    // SAFETY: not null and aligned (just checked), alive by the caller's promise.
    Ok(unsafe { &*pointer })
}

/// A copy of an argument structure.
///
/// # Safety
/// `pointer` is null or points at a `T`.
pub unsafe fn arguments<T: Copy>(what: &str, pointer: *const T) -> Result<T> {
    // SAFETY: passed on.
    unsafe { handle(what, pointer) }.copied()
}

/// Where a result goes.
///
/// # Safety
/// `pointer` is null or points at room for a `T` that nobody else reads or writes for `'a`.
pub unsafe fn output<'a, T>(what: &str, pointer: *mut T) -> Result<&'a mut MaybeUninit<T>> {
    check(what, pointer, 1)?;
    // SAFETY: not null and aligned (just checked), there and unshared by the caller's promise; nothing is read.
    Ok(unsafe { &mut *pointer.cast() })
}

/// Makes a handle that the caller owns; null is left there if it cannot be made.
///
/// # Safety
/// As [`output`].
pub unsafe fn create<T>(
    what: &str,
    pointer: *mut *mut T,
    make: impl FnOnce() -> Result<T>,
) -> Result<()> {
    // SAFETY: passed on.
    let output = unsafe { output(what, pointer)? };
    output.write(std::ptr::null_mut());
    output.write(Box::into_raw(Box::new(make()?)));
    Ok(())
}

/// Takes a handle back; nothing for null.
///
/// # Safety
/// `pointer` is null or came from [`create`] and is not used afterwards.
pub unsafe fn take<T>(pointer: *mut T) -> Option<Box<T>> {
    let made = !pointer.is_null() && pointer.is_aligned();
    // SAFETY: `create` made it from a box, and the caller gives it back.
    made.then(|| unsafe { Box::from_raw(pointer) })
}

/// Ends a handle; null does nothing.
///
/// # Safety
/// As [`take`].
pub unsafe fn free<T>(pointer: *mut T) {
    // SAFETY: passed on.
    drop(unsafe { take(pointer) });
}

/// A NUL-terminated UTF-8 string.
///
/// # Safety
/// `pointer` is null or points at a NUL-terminated string that nobody writes for `'a`.
pub unsafe fn text<'a>(what: &str, pointer: *const c_char) -> Result<&'a str> {
    check(what, pointer, 1)?;
    // SAFETY: not null (just checked), terminated by the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|e| Failure::new(Status::BadText, format!("{what}: {e}")))
}

/// Refuses a reserved field that is not 0: a later version may give it a meaning.
pub fn reserved(value: u32) -> Result<()> {
    if value == 0 {
        return Ok(());
    }
    let text = format!("a reserved field is {value}, it must be 0");
    Err(Failure::new(Status::BadEnum, text))
}

//! Conversion of pointers and counts to slices and references.
//!
//! This is the only module that dereferences a pointer of the caller. It checks what can be
//! checked: null, alignment, lengths beyond the address space, overlap. Validity of the memory and
//! the absence of concurrent writes cannot be checked: they are the safety contract of every
//! function here, as the header states it to the caller.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;

use bytemuck::Pod;
use w4ax::{MatMut, MatRef};

use super::status::{Failure, Result, Status};

fn check<T>(what: &str, pointer: *const T, len: usize) -> Result<()> {
    if pointer.is_null() {
        return Err(null(what));
    }
    if !pointer.is_aligned() {
        return Err(misaligned(what, pointer.addr(), align_of::<T>()));
    }
    let fits = len
        .checked_mul(size_of::<T>())
        .filter(|bytes| *bytes <= isize::MAX as usize)
        .and_then(|bytes| pointer.addr().checked_add(bytes));
    if fits.is_none() {
        let text = format!("{what}: {len} elements exceed the address space");
        return Err(Failure::new(Status::OutOfRange, text));
    }
    Ok(())
}

/// The failure of a call that needs this pointer.
pub fn null(what: &str) -> Failure {
    Failure::new(Status::NullPointer, format!("{what} is a null pointer"))
}

fn misaligned(what: &str, address: usize, alignment: usize) -> Failure {
    let text = format!("{what}: address {address:#x} is not a multiple of {alignment}");
    Failure::new(Status::Misaligned, text)
}

/// Returns a failure if a buffer holds fewer elements than needed.
pub fn at_least(what: &str, needed: usize, got: usize) -> Result<()> {
    if got < needed {
        let text = format!("buffer of {got} elements for {what}: expected at least {needed}");
        return Err(Failure::new(Status::BufferTooSmall, text));
    }
    Ok(())
}

/// Whether the caller passes an optional buffer.
pub fn given<T>(pointer: *const T, len: usize) -> bool {
    !pointer.is_null() || len > 0
}

/// Returns a slice of `len` elements. A null pointer with a length of 0 is an empty slice.
///
/// # Safety
/// `pointer` is null or valid for reads of `len` elements that no one writes for `'a`.
pub unsafe fn slice<'a, T: Pod>(what: &str, pointer: *const T, len: usize) -> Result<&'a [T]> {
    if !given(pointer, len) {
        return Ok(&[]);
    }
    check(what, pointer, len)?;
    // SAFETY: not null, aligned and within the address space, as just checked; valid by contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Returns a mutable slice of `len` elements. A null pointer with a length of 0 is an empty slice.
///
/// # Safety
/// `pointer` is null or valid for `len` elements that no one else reads or writes for `'a`.
pub unsafe fn slice_mut<'a, T: Pod>(
    what: &str,
    pointer: *mut T,
    len: usize,
) -> Result<&'a mut [T]> {
    if !given(pointer, len) {
        return Ok(&mut []);
    }
    check(what, pointer, len)?;
    // SAFETY: not null, aligned and within the address space, as just checked; valid and exclusive
    // by contract. Any bits are a `T`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// [`slice`], or `None` for an optional buffer that the caller does not pass.
///
/// # Safety
/// As [`slice`].
pub unsafe fn optional_slice<'a, T: Pod>(
    what: &str,
    pointer: *const T,
    len: usize,
) -> Result<Option<&'a [T]>> {
    // SAFETY: passed on.
    let slice = || unsafe { slice(what, pointer, len) };
    given(pointer, len).then(slice).transpose()
}

/// [`slice_mut`], or `None` for an optional buffer that the caller does not pass.
///
/// # Safety
/// As [`slice_mut`].
pub unsafe fn optional_slice_mut<'a, T: Pod>(
    what: &str,
    pointer: *mut T,
    len: usize,
) -> Result<Option<&'a mut [T]>> {
    // SAFETY: passed on.
    let slice = || unsafe { slice_mut(what, pointer, len) };
    given(pointer, len).then(slice).transpose()
}

/// A matrix argument `[rows, cols]`.
pub struct Matrix<T> {
    what: &'static str,
    pointer: *const T,
    len: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<T> Matrix<T> {
    /// A stride of 0 means dense rows.
    pub fn new(
        what: &'static str,
        (pointer, len): (*const T, usize),
        [rows, cols]: [usize; 2],
        stride: usize,
    ) -> Self {
        Self {
            what,
            pointer,
            len,
            rows,
            cols,
            stride: if stride == 0 { cols } else { stride },
        }
    }

    /// A dense vector `[len]`.
    pub fn vector(what: &'static str, pointer: *const T, len: usize) -> Self {
        Self::new(what, (pointer, len), [1, len], 0)
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns how many elements the matrix spans, which the buffer holds.
    fn span(&self) -> Result<usize> {
        let &Self {
            what,
            rows,
            cols,
            stride,
            ..
        } = self;
        let bad_shape = |text| Failure::new(Status::BadShape, text);
        if stride < cols {
            let text = format!(
                "{what} has row stride {stride}: expected at least {cols}, its number of columns"
            );
            return Err(bad_shape(text));
        }
        let span = match rows.min(cols) {
            0 => Some(0),
            _ => (rows - 1)
                .checked_mul(stride)
                .and_then(|n| n.checked_add(cols)),
        };
        let span = span.ok_or_else(|| {
            bad_shape(format!(
                "{what}: [{rows}, {cols}] with stride {stride} exceeds the address space"
            ))
        })?;
        at_least(what, span, self.len)?;
        Ok(span)
    }

    /// Returns the addresses that the matrix spans, for [`disjoint`].
    pub fn addresses(&self) -> Result<Range<usize>> {
        let span = self.span()?;
        if span > 0 {
            check(self.what, self.pointer, span)?;
        }
        let start = self.pointer.addr();
        Ok(start..start + span * size_of::<T>())
    }
}

impl<T: Pod> Matrix<T> {
    /// # Safety
    /// As [`slice`], for the elements that the matrix spans.
    pub unsafe fn get<'a>(&self) -> Result<MatRef<'a, T>> {
        // SAFETY: passed on; the span is at most the length of the buffer.
        let data = unsafe { slice(self.what, self.pointer, self.span()?)? };
        Ok(MatRef::with_stride(
            data,
            self.rows,
            self.cols,
            self.stride,
        )?)
    }

    /// # Safety
    /// As [`slice_mut`], for the elements that the matrix spans; the pointer was a `*mut T`.
    pub unsafe fn get_mut<'a>(&self) -> Result<MatMut<'a, T>> {
        // SAFETY: passed on; the span is at most the length of the buffer.
        let data = unsafe { slice_mut(self.what, self.pointer.cast_mut(), self.span()?)? };
        Ok(MatMut::with_stride(
            data,
            self.rows,
            self.cols,
            self.stride,
        )?)
    }
}

/// Returns the addresses of a block of bytes at a multiple of `alignment`. A null pointer with a
/// count of 0 is an empty block.
pub fn block(
    what: &str,
    pointer: *const c_void,
    bytes: usize,
    alignment: usize,
) -> Result<Range<usize>> {
    if given(pointer, bytes) {
        check(what, pointer.cast::<u8>(), bytes)?;
    }
    let start = pointer.addr();
    if !start.is_multiple_of(alignment) {
        return Err(misaligned(what, start, alignment));
    }
    Ok(start..start + bytes)
}

/// Refuses an output and an input that share memory. It runs before references to them exist.
pub fn disjoint(what: &str, output: &Range<usize>, input: &Range<usize>) -> Result<()> {
    let empty = output.is_empty() || input.is_empty();
    if empty || output.end <= input.start || input.end <= output.start {
        return Ok(());
    }
    Err(Failure::new(Status::Overlap, format!("{what} overlap")))
}

/// Returns a reference to what a handle points at.
///
/// # Safety
/// `pointer` is null or points at a `T` that lives and is only read for `'a`.
pub unsafe fn handle<'a, T>(what: &str, pointer: *const T) -> Result<&'a T> {
    check(what, pointer, 1)?;
    // SAFETY: not null and aligned, as just checked; alive by contract.
    Ok(unsafe { &*pointer })
}

/// Returns a copy of an argument structure.
///
/// # Safety
/// `pointer` is null or points at a `T`.
pub unsafe fn arguments<T: Copy>(what: &str, pointer: *const T) -> Result<T> {
    // SAFETY: passed on.
    unsafe { handle(what, pointer) }.copied()
}

/// Returns a place for a result.
///
/// # Safety
/// `pointer` is null or valid for writes of a `T` that no one else reads or writes for `'a`.
pub unsafe fn output<'a, T>(what: &str, pointer: *mut T) -> Result<&'a mut MaybeUninit<T>> {
    check(what, pointer, 1)?;
    // SAFETY: not null and aligned, as just checked; exclusive by contract. Nothing is read.
    Ok(unsafe { &mut *pointer.cast() })
}

/// Makes a handle that the caller owns. The output is null if `make` fails.
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

/// Frees a handle. Null does nothing.
///
/// # Safety
/// `pointer` is null or from [`create`] and is not used afterwards.
pub unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() && pointer.is_aligned() {
        // SAFETY: `create` made it from a box, and the caller gives up ownership.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// Returns a NUL-terminated UTF-8 string.
///
/// # Safety
/// `pointer` is null or points at a NUL-terminated string that no one writes for `'a`.
pub unsafe fn text<'a>(what: &str, pointer: *const c_char) -> Result<&'a str> {
    check(what, pointer, 1)?;
    // SAFETY: not null, as just checked; terminated by contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|e| Failure::new(Status::BadText, format!("{what}: {e}")))
}

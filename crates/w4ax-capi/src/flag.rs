//! The width flag, in the caller's memory.

use super::raw;
use super::status::{Result, Status, entry};
use super::types;
use w4ax::{FlagWord, WidthFlag};

/// `w4ax_flag` has the layout of a [`WidthFlag`].
pub type Flag = WidthFlag;

/// # Safety
/// `flag` is null or points at 8 bytes that others change only atomically for `'a`.
unsafe fn flag_at<'a>(flag: *const Flag) -> Result<&'a Flag> {
    // SAFETY: passed on; any 8 bytes are a flag, and atomics may be shared while they change.
    unsafe { raw::handle("flag", flag) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_flag_store(flag: *mut Flag, sequence: u32, width: u32) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let flag = unsafe { flag_at(flag)? };
        flag.store(sequence, types::width(width)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_flag_clear(flag: *mut Flag) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { flag_at(flag)? }.store_word(FlagWord::UNWRITTEN);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_flag_load(
    flag: *const Flag,
    sequence: u32,
    width: *mut u32,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (flag, width) = unsafe { (flag_at(flag)?, raw::output("width", width)?) };
        width.write(flag.load(sequence).bits());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_flag_read(
    flag: *const Flag,
    sequence: *mut u32,
    width: *mut u32,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (flag, sequence, width) = unsafe {
            (
                flag_at(flag)?,
                raw::output("sequence", sequence)?,
                raw::output("width", width)?,
            )
        };
        let (of, bits) = flag.read().map_or((0, 0), |(of, w)| (of, w.bits()));
        sequence.write(of);
        width.write(bits);
        Ok(())
    })
}

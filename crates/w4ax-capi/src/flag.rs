//! The width flag, in memory of the caller.

use w4ax::{FlagWord, Width, WidthFlag};

use super::enums::{self, CEnum};
use super::raw;
use super::status::{Result, entry_points};

/// `w4ax_flag` has the layout of a [`WidthFlag`].
pub type Flag = WidthFlag;

/// # Safety
/// `flag` is null or points at 8 bytes that others change only atomically for `'a`.
unsafe fn flag_at<'a>(flag: *const Flag) -> Result<&'a Flag> {
    // SAFETY: passed on; any 8 bytes are a flag, and atomics may be shared while they change.
    unsafe { raw::handle("flag", flag) }
}

entry_points! {
    fn w4ax_flag_store(flag: *mut Flag, sequence: u32, width: u32) {
        let flag = flag_at(flag)?;
        flag.store(sequence, enums::value::<Width>(width)?);
        Ok(())
    }

    fn w4ax_flag_clear(flag: *mut Flag) {
        flag_at(flag)?.store_word(FlagWord::UNWRITTEN);
        Ok(())
    }

    fn w4ax_flag_load(flag: *const Flag, sequence: u32, width: *mut u32) {
        let (flag, width) = (flag_at(flag)?, raw::output("width", width)?);
        width.write(flag.load(sequence).number());
        Ok(())
    }

    fn w4ax_flag_read(flag: *const Flag, sequence: *mut u32, width: *mut u32) {
        let flag = flag_at(flag)?;
        let sequence = raw::output("sequence", sequence)?;
        let width = raw::output("width", width)?;
        let (step, bits) = (flag.read()).map_or((0, 0), |(step, width)| (step, width.number()));
        sequence.write(step);
        width.write(bits);
        Ok(())
    }
}

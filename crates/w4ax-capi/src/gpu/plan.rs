//! What would run, asked without a device.

use std::ffi::c_char;

use super::{Choice, Problem, backend, raw, types};
use crate::status::{Result, Status, entry};

/// `w4ax_gpu_problem`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuProblem {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub grouping: u32,
    pub width: u32,
    pub family: u32,
    pub mode: u32,
    pub tile: u32,
    pub flags: u32,
}

/// `w4ax_gpu_plan`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuPlan {
    pub kernel: *const c_char,
    pub workspace_bytes: usize,
    pub blocks: usize,
    pub tile_n: u32,
    pub tile_m: u32,
    pub family: u32,
    pub mode: u32,
    pub tile: u32,
    pub launches: u32,
    pub mma: u32,
    pub slow_x: u32,
    pub slow_y: u32,
    pub reserved: u32,
}

/// # Safety
/// As [`raw::arguments`].
unsafe fn problem(problem: *const GpuProblem) -> Result<Problem> {
    // SAFETY: passed on.
    let p = unsafe { raw::arguments("problem", problem)? };
    Ok(Problem {
        m: p.m,
        n: p.n,
        k: p.k,
        grouping: types::grouping(p.grouping)?,
        choice: Choice::new(p.width, p.family, p.mode, p.tile, p.flags)?,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_plan_problem(
    problem: *const GpuProblem,
    plan: *mut GpuPlan,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe {
            let output = raw::output("plan", plan)?;
            output.write(backend::plan(&self::problem(problem)?)?);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_workspace_bytes(
    problem: *const GpuProblem,
    bytes: *mut usize,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe {
            let output = raw::output("bytes", bytes)?;
            output.write(backend::workspace_bytes(&self::problem(problem)?)?);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_tiles(family: u32, tiles: *mut u32) -> Status {
    entry(|| {
        let family = types::real_family(family)?;
        // SAFETY: the contract of this function.
        let tiles = unsafe { raw::output("tiles", tiles)? };
        tiles.write(backend::tiles(family)?);
        Ok(())
    })
}

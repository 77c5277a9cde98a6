//! Plans: the launches of a GEMM of given sizes, without a device.

use std::ffi::c_char;

use crate::enums;
use crate::limits::GPU_PDL;
use crate::raw;
use crate::status::{Failure, Result, Status, entry_points};

use super::{KernelChoice, Problem, backend, kernel_family};

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
    pub has_order: u32,
    pub reserved: u32,
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
    pub gathers: u32,
}

/// # Safety
/// As [`raw::arguments`].
unsafe fn problem(problem: *const GpuProblem) -> Result<Problem> {
    // SAFETY: passed on.
    let p = unsafe { raw::arguments("problem", problem)? };
    enums::reserved(p.reserved)?;
    let [pdl] = enums::flags(p.flags, [GPU_PDL])?;
    if p.has_order > 1 {
        let text = format!("has_order is {}: expected 0 or 1", p.has_order);
        return Err(Failure::new(Status::BadEnum, text));
    }
    Ok(Problem {
        m: p.m,
        n: p.n,
        k: p.k,
        grouping: enums::value(p.grouping)?,
        has_order: p.has_order == 1,
        choice: KernelChoice::new(p.width, p.family, p.mode, p.tile, pdl)?,
    })
}

entry_points! {
    fn w4ax_gpu_plan_problem(problem: *const GpuProblem, plan: *mut GpuPlan) {
        let plan = raw::output("plan", plan)?;
        plan.write(backend::plan(&self::problem(problem)?)?);
        Ok(())
    }

    fn w4ax_gpu_workspace_bytes(problem: *const GpuProblem, bytes: *mut usize) {
        let bytes = raw::output("bytes", bytes)?;
        bytes.write(backend::workspace_bytes(&self::problem(problem)?)?);
        Ok(())
    }

    fn w4ax_gpu_tiles(family: u32, tiles: *mut u32) {
        let family = kernel_family(family)?;
        let tiles = raw::output("tiles", tiles)?;
        tiles.write(backend::tiles(family)?);
        Ok(())
    }
}

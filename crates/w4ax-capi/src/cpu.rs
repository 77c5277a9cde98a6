//! The CPU backend and its workspaces.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::pool::{CallerPool, CallerTable};
use super::raw;
use super::status::{Failure, Result, Status, entry};
use super::threads::{self, OwnThreads};
use w4ax::cpu::{self, Isa, Serial};

/// `w4ax_cpu`.
pub struct Cpu {
    pub(super) cpu: cpu::Cpu,
    pub(super) threads: usize,
}

/// `w4ax_workspace`. The lock finds two calls at once in it.
pub struct Workspace(Mutex<cpu::Workspace>);

impl Workspace {
    /// It, for one call.
    pub(super) fn take(&self) -> Result<MutexGuard<'_, cpu::Workspace>> {
        exclusive("workspace", &self.0)
    }
}

/// What a handle holds, unless another thread has it.
pub(super) fn exclusive<'a, T>(what: &str, lock: &'a Mutex<T>) -> Result<MutexGuard<'a, T>> {
    match lock.try_lock() {
        Ok(guard) => Ok(guard),
        // Scratch memory and counters: any content is a valid one.
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Status::Busy,
            format!("{what} is in use by another call"),
        )),
    }
}

/// The backend of that name; what the environment or the machine says for a null pointer.
///
/// # Safety
/// As [`raw::text`].
unsafe fn backend(isa: *const c_char) -> Result<cpu::Cpu> {
    if isa.is_null() {
        return Ok(cpu::Cpu::new()?);
    }
    // SAFETY: passed on.
    let isa = unsafe { raw::text("isa", isa)? };
    Ok(cpu::Cpu::with_isa(Isa::named(isa)?)?)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_create(
    isa: *const c_char,
    threads: u32,
    cpu: *mut *mut Cpu,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let cpu = unsafe { backend(isa)? };
            let threads = threads::count(threads)?;
            let cpu = match threads {
                1 => cpu.with_pool(Serial),
                _ => cpu.with_pool(OwnThreads::new(threads)?),
            };
            Ok(Cpu { cpu, threads })
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("cpu", cpu, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_create_with_pool(
    isa: *const c_char,
    pool: *const CallerTable,
    cpu: *mut *mut Cpu,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let (cpu, table) = unsafe { (backend(isa)?, raw::arguments("pool", pool)?) };
            // SAFETY: the header's contract of a pool.
            let pool = unsafe { CallerPool::new(table)? };
            Ok(Cpu {
                cpu: cpu.with_pool(pool),
                threads: table.threads as usize,
            })
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("cpu", cpu, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_free(cpu: *mut Cpu) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(cpu) };
        Ok(())
    });
}

/// The name of an instruction set, with a NUL behind.
fn isa_name(isa: Isa) -> *const c_char {
    let name = match isa {
        Isa::Scalar => c"scalar",
        Isa::Avx2 => c"avx2",
        Isa::Avx512Vnni => c"avx512vnni",
        Isa::Avx512Bf16 => c"avx512bf16",
    };
    debug_assert_eq!(name.to_bytes(), isa.name().as_bytes());
    name.as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_isa(cpu: *const Cpu, isa: *mut *const c_char) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (cpu, isa) = unsafe { (raw::handle("cpu", cpu)?, raw::output("isa", isa)?) };
        isa.write(isa_name(cpu.cpu.isa()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_cpu_threads(cpu: *const Cpu, threads: *mut u32) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (cpu, threads) =
            unsafe { (raw::handle("cpu", cpu)?, raw::output("threads", threads)?) };
        threads.write(cpu.threads as u32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_workspace_create(
    cpu: *const Cpu,
    max_m: usize,
    max_k: usize,
    workspace: *mut *mut Workspace,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let cpu = unsafe { raw::handle("cpu", cpu)? };
            let made = cpu.cpu.workspace(max_m, max_k)?;
            Ok(Workspace(Mutex::new(made)))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("workspace", workspace, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_workspace_bytes(
    workspace: *const Workspace,
    bytes: *mut usize,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (workspace, bytes) = unsafe {
            (
                raw::handle("workspace", workspace)?,
                raw::output("bytes", bytes)?,
            )
        };
        bytes.write(workspace.take()?.bytes());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_workspace_free(workspace: *mut Workspace) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(workspace) };
        Ok(())
    });
}

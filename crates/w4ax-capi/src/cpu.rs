//! The CPU backend and its workspaces.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, TryLockError};

use w4ax::cpu::{self, Isa, Serial};

use super::pool::{CallerPool, CallerTable};
use super::raw;
use super::status::{Failure, Result, Status, entry_points, free_functions};
use super::threads::{self, OwnThreads};

/// `w4ax_cpu`.
pub struct Cpu {
    pub(super) cpu: cpu::Cpu,
    threads: usize,
}

/// `w4ax_workspace`. The lock detects two calls at once.
pub struct Workspace(pub(super) Mutex<cpu::Workspace>);

/// Locks what a handle holds. A handle that another call uses is `W4AX_BUSY`.
pub(super) fn exclusive<'a, T>(what: &str, lock: &'a Mutex<T>) -> Result<MutexGuard<'a, T>> {
    match lock.try_lock() {
        Ok(guard) => Ok(guard),
        // Scratch memory and counters: every content is valid.
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Status::Busy,
            format!("{what} is in use by another call"),
        )),
    }
}

/// Returns the backend of a name. Null selects by the environment or the machine.
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

/// The name of an instruction set, NUL-terminated.
fn isa_name(isa: Isa) -> *const c_char {
    let name = match isa {
        Isa::Scalar => c"scalar",
        Isa::Avx2 => c"avx2",
        Isa::Avx512Vnni => c"avx512vnni",
        Isa::Avx512Bf16 => c"avx512bf16",
        _ => c"unknown",
    };
    debug_assert_eq!(name.to_bytes(), isa.name().as_bytes());
    name.as_ptr()
}

entry_points! {
    fn w4ax_cpu_create(isa: *const c_char, threads: u32, cpu: *mut *mut Cpu) {
        raw::create("cpu", cpu, || {
            let cpu = backend(isa)?;
            let threads = threads::count(threads)?;
            let cpu = match threads {
                1 => cpu.with_pool(Serial),
                _ => cpu.with_pool(OwnThreads::new(threads)?),
            };
            Ok(Cpu { cpu, threads })
        })
    }

    fn w4ax_cpu_create_with_pool(
        isa: *const c_char,
        pool: *const CallerTable,
        cpu: *mut *mut Cpu,
    ) {
        raw::create("cpu", cpu, || {
            let (cpu, table) = (backend(isa)?, raw::arguments("pool", pool)?);
            Ok(Cpu {
                cpu: cpu.with_pool(CallerPool::new(table)?),
                threads: table.threads as usize,
            })
        })
    }

    fn w4ax_cpu_isa(cpu: *const Cpu, isa: *mut *const c_char) {
        let (cpu, isa) = (raw::handle("cpu", cpu)?, raw::output("isa", isa)?);
        isa.write(isa_name(cpu.cpu.isa()));
        Ok(())
    }

    fn w4ax_cpu_threads(cpu: *const Cpu, threads: *mut u32) {
        let (cpu, threads) = (raw::handle("cpu", cpu)?, raw::output("threads", threads)?);
        threads.write(cpu.threads as u32);
        Ok(())
    }

    fn w4ax_workspace_create(
        cpu: *const Cpu,
        max_m: usize,
        max_k: usize,
        workspace: *mut *mut Workspace,
    ) {
        raw::create("workspace", workspace, || {
            let made = raw::handle("cpu", cpu)?.cpu.workspace(max_m, max_k)?;
            Ok(Workspace(Mutex::new(made)))
        })
    }

    fn w4ax_workspace_bytes(workspace: *const Workspace, bytes: *mut usize) {
        let workspace = raw::handle("workspace", workspace)?;
        let bytes = raw::output("bytes", bytes)?;
        bytes.write(exclusive("workspace", &workspace.0)?.bytes());
        Ok(())
    }
}

free_functions! {
    w4ax_cpu_free(cpu: Cpu);
    w4ax_workspace_free(workspace: Workspace);
}

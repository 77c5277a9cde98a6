//! The machine code of this build's kernels, as the static model reads it.

use std::collections::HashMap;
use std::path::Path;

use crate::device::{DEVICES, DeviceSpec};
use crate::error::{Error, Result};
use crate::sass::{self, Kernel};
use crate::trace::Trace;

/// Path of the static library with this build's kernels; `None` in a build without kernels.
pub const LIBRARY: Option<&str> = option_env!("W4AX_KERNEL_LIBRARY");

/// The properties of a kernel that predictions need.
#[derive(Debug)]
pub struct KernelCode {
    /// The instructions of a usual call.
    pub trace: Trace,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// The machine code of this build's kernels. Traces are cached.
#[derive(Debug)]
pub struct KernelLibrary {
    kernels: Vec<Kernel>,
    codes: HashMap<(String, String), KernelCode>,
}

impl KernelLibrary {
    /// Reads the kernels of this build.
    ///
    /// # Errors
    /// [`Error::NoKernels`] in a build without kernels, and the errors of [`sass::read`].
    pub fn load() -> Result<Self> {
        let library = LIBRARY.ok_or(Error::NoKernels)?;
        Ok(Self {
            kernels: sass::read(Path::new(library), None)?,
            codes: HashMap::new(),
        })
    }

    /// Reads the kernels of this build if the library and the disassemblers exist on this machine.
    pub fn load_if_available() -> Option<Self> {
        let library = Path::new(LIBRARY?);
        (library.is_file() && sass::tools().is_some()).then(|| Self::load().ok())?
    }

    /// Returns the known devices whose generation this build has code for. Reports the others on
    /// stderr.
    pub fn devices(&self) -> Vec<&'static DeviceSpec<'static>> {
        let supported = |device: &&DeviceSpec<'_>| {
            let supported = self.arch(&device.arch).is_some();
            if !supported {
                eprintln!(
                    "left out: {}: this build has no kernels of its generation",
                    device.name
                );
            }
            supported
        };
        DEVICES.iter().filter(supported).collect()
    }

    /// Returns the architecture of this build whose code runs on `arch`; otherwise one of the same
    /// generation.
    pub fn arch(&self, arch: &str) -> Option<String> {
        let generation = |arch: &str| arch.trim_start_matches("sm_").chars().next();
        let built = || self.kernels.iter().map(|k| k.arch.as_str());
        let same = |built: &&str| built.trim_end_matches('a') == arch;
        (built().find(same))
            .or_else(|| built().find(|b| generation(b) == generation(arch)))
            .map(str::to_owned)
    }

    /// Returns the kernel for `arch` whose demangled name contains `symbol`.
    ///
    /// `multiplies`: whether the kernel has a main loop.
    ///
    /// # Errors
    /// If the kernel does not exist, or has no main loop although it should.
    pub fn code(&mut self, arch: &str, symbol: &str, multiplies: bool) -> Result<&KernelCode> {
        let key = (arch.to_owned(), symbol.to_owned());
        if !self.codes.contains_key(&key) {
            let kernel = (self.kernels.iter())
                .find(|k| k.arch == arch && k.name.contains(symbol))
                .ok_or_else(|| Error::NoSuchKernel {
                    symbol: symbol.to_owned(),
                    arch: arch.to_owned(),
                })?;
            let trace = if multiplies {
                Trace::new(kernel)?
            } else {
                Trace::without_main_loop(kernel)
            };
            let code = KernelCode {
                trace,
                registers: kernel.registers,
                shared: kernel.shared,
            };
            self.codes.insert(key.clone(), code);
        }
        Ok(&self.codes[&key])
    }
}

//! The machine code of this build's kernels, as the static model reads it.

use crate::device::{CHIPS, DeviceProps};
use crate::sass::Kernel;
use crate::trace::Way;
use std::collections::HashMap;
use std::path::Path;

/// What the model reads of a kernel.
pub struct Code {
    pub way: Way,
    /// Of a thread.
    pub registers: u32,
    /// Bytes, static.
    pub shared: u32,
}

/// The machine code of this build's kernels.
pub struct Machine {
    kernels: Vec<Kernel>,
    ways: HashMap<(String, String), Code>,
}

impl Machine {
    /// # Errors
    /// In a build without kernels.
    pub fn load() -> Result<Self, String> {
        let library = option_env!("W4AX_KERNEL_LIBRARY").ok_or("this build has no kernels")?;
        Ok(Self {
            kernels: crate::sass::read(Path::new(library), None),
            ways: HashMap::new(),
        })
    }

    /// None where the library or the disassembler is missing.
    pub fn if_there() -> Option<Self> {
        let library = Path::new(option_env!("W4AX_KERNEL_LIBRARY")?);
        (library.is_file() && crate::sass::tools().is_some()).then(|| Self::load().ok())?
    }

    /// The chips whose generation this build has code for; says which it leaves out.
    pub fn chips(&self) -> Vec<&'static DeviceProps<'static>> {
        let there = |chip: &&DeviceProps<'_>| {
            let there = self.arch(&chip.arch).is_some();
            if !there {
                eprintln!("{}: nothing is built for its generation", chip.name);
            }
            there
        };
        CHIPS.iter().filter(there).collect()
    }

    /// The architecture of this build whose code runs on `arch`, or is nearest to what would: of the same generation.
    pub fn arch(&self, arch: &str) -> Option<String> {
        let generation = |arch: &str| arch.trim_start_matches("sm_").chars().next();
        let built = || self.kernels.iter().map(|k| k.arch.as_str());
        let same = |built: &&str| built.trim_end_matches('a') == arch;
        (built().find(same))
            .or_else(|| built().find(|b| generation(b) == generation(arch)))
            .map(str::to_owned)
    }

    /// The kernel whose name holds `symbol`. `multiplies`: it has a main loop.
    ///
    /// # Errors
    /// If it is not there, or does not multiply.
    pub fn code(&mut self, arch: &str, symbol: &str, multiplies: bool) -> Result<&Code, String> {
        let key = (arch.to_owned(), symbol.to_owned());
        if !self.ways.contains_key(&key) {
            let kernel = (self.kernels.iter())
                .find(|k| k.arch == arch && k.name.contains(symbol))
                .ok_or_else(|| format!("no machine code of {symbol} for {arch} (or no c++filt)"))?;
            let way = if multiplies {
                Way::of(kernel)?
            } else {
                Way::without_main_loop(kernel)
            };
            let code = Code {
                way,
                registers: kernel.registers,
                shared: kernel.shared,
            };
            self.ways.insert(key.clone(), code);
        }
        Ok(&self.ways[&key])
    }
}

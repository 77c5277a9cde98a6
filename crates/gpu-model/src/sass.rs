//! Reads the machine code (SASS) of compiled kernels: their instructions and the resources that
//! they need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The machine code of a kernel for one architecture.
#[derive(Debug, Default, PartialEq)]
pub struct Kernel {
    /// The architecture, such as `sm_90a`.
    pub arch: String,
    /// The mangled name.
    pub symbol: String,
    /// The demangled name.
    pub name: String,
    /// The instructions in order, without predicate and encoding: `LDG.E.128 R4, [R2.64]`.
    pub instructions: Vec<String>,
    /// Whether each instruction has a predicate.
    pub guarded: Vec<bool>,
    /// Clocks that a warp waits after each instruction before its next one, from the encoding.
    pub stalls: Vec<u8>,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of stack of a thread: arrays that are not in registers, and spills.
    pub stack: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

impl Kernel {
    /// Returns the opcodes with their modifiers, in order.
    pub fn opcodes(&self) -> impl Iterator<Item = &str> {
        self.instructions
            .iter()
            .map(|text| text.split_whitespace().next().unwrap_or(""))
    }

    /// Returns how often each opcode occurs.
    pub fn histogram(&self) -> BTreeMap<&str, usize> {
        let mut histogram = BTreeMap::new();
        for opcode in self.opcodes() {
            *histogram.entry(opcode).or_default() += 1;
        }
        histogram
    }

    /// Counts the instructions whose opcode has all of these parts: `["LDG", "128"]` counts
    /// `LDG.E.EF.128.CONSTANT`.
    pub fn count(&self, parts: &[&str]) -> usize {
        let has = |opcode: &str, part: &str| opcode.split('.').any(|have| have == part);
        self.opcodes()
            .filter(|opcode| parts.iter().all(|part| has(opcode, part)))
            .count()
    }

    /// Counts the accesses to local memory: spilled registers, and arrays that are indexed at run
    /// time.
    pub fn spills(&self) -> usize {
        self.count(&["LDL"]) + self.count(&["STL"])
    }
}

/// Reads the kernels in an object file or static library, for all architectures or for one.
///
/// PTX is not read.
///
/// # Errors
/// If the tools are missing or `cuobjdump` fails.
pub fn read(library: &Path, arch: Option<&str>) -> Result<Vec<Kernel>> {
    let listing = cuobjdump("-sass", library, arch)?;
    let usage = cuobjdump("-res-usage", library, arch)?;
    let mut kernels = parse_listing(&listing);
    add_usage(&mut kernels, &usage)?;
    let names = demangle(kernels.iter().map(|kernel| kernel.symbol.as_str()));
    for (kernel, name) in kernels.iter_mut().zip(names) {
        kernel.name = name;
    }
    Ok(kernels)
}

/// Returns the folder of cuobjdump and nvdisasm: `third_party/sass`, otherwise the first one in
/// PATH that has both.
pub fn tools() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../third_party/sass/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(fetched)
        .chain(std::env::split_paths(&path))
        .find(|folder| {
            ["cuobjdump", "nvdisasm"]
                .iter()
                .all(|tool| folder.join(tool).is_file())
        })
}

fn cuobjdump(option: &'static str, library: &Path, arch: Option<&str>) -> Result<String> {
    let tools = tools().ok_or(Error::MissingTools)?;
    let program = tools.join("cuobjdump");
    let mut command = Command::new(&program);
    if let Some(arch) = arch {
        command.args(["-arch", arch]);
    }
    // cuobjdump finds nvdisasm in PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    command.env(
        "PATH",
        std::env::join_paths(folders).expect("the folders of PATH have no separator"),
    );
    let output = command
        .arg(option)
        .arg(library)
        .output()
        .map_err(|source| Error::Start {
            tool: program,
            source,
        })?;
    if !output.status.success() {
        return Err(Error::Cuobjdump {
            option,
            library: library.to_owned(),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses the output of `cuobjdump -sass`.
pub fn parse_listing(text: &str) -> Vec<Kernel> {
    let mut arch = "";
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("code for ") {
            arch = name;
        } else if let Some(symbol) = line.strip_prefix("Function : ") {
            kernels.push(Kernel {
                arch: arch.to_owned(),
                symbol: symbol.to_owned(),
                ..Kernel::default()
            });
        } else if let Some(kernel) = kernels.last_mut() {
            if let Some((text, guarded)) = instruction(line) {
                kernel.instructions.push(text.to_owned());
                kernel.guarded.push(guarded);
            } else if let Some(stall) = stall(line) {
                kernel.stalls.push(stall);
            }
        }
    }
    kernels
}

/// Parses `/*0010*/  @!P0 LDG.E R4, [R2.64] ;  /* encoding */`.
///
/// Returns the instruction without address, predicate and encoding, and whether it has a predicate.
fn instruction(line: &str) -> Option<(&str, bool)> {
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    u64::from_str_radix(address, 16).ok()?;
    let (text, _) = rest.split_once(';')?;
    let text = text.trim().trim_start_matches('{').trim_start();
    match text.strip_prefix('@') {
        Some(predicated) => Some((predicated.split_once(' ')?.1.trim(), true)),
        None => Some((text, false)),
    }
}

/// Parses the second half of an encoding, which is on a line of its own. Bits 105 to 108 of an
/// instruction are its stall count.
fn stall(line: &str) -> Option<u8> {
    let high = line.strip_prefix("/* 0x")?.strip_suffix(" */")?;
    Some((u64::from_str_radix(high, 16).ok()? >> 41 & 15) as u8)
}

/// Adds the resources in the output of `cuobjdump -res-usage` to the kernels.
///
/// # Errors
/// If a line lacks one of the resources.
pub fn add_usage(kernels: &mut [Kernel], text: &str) -> Result<()> {
    let mut arch = "";
    let mut symbol = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            arch = name;
        } else if let Some(name) = line.strip_prefix("Function ") {
            symbol = name.trim_end_matches(':');
        } else if line.starts_with("REG:") {
            let number = |field: &'static str| {
                let value = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix(field)?.strip_prefix(':'));
                value
                    .and_then(|value| value.parse().ok())
                    .ok_or_else(|| Error::Listing {
                        field,
                        line: line.to_owned(),
                    })
            };
            for kernel in kernels
                .iter_mut()
                .filter(|kernel| kernel.arch == arch && kernel.symbol == symbol)
            {
                kernel.registers = number("REG")?;
                kernel.stack = number("STACK")?;
                kernel.shared = number("SHARED")?;
            }
        }
    }
    Ok(())
}

/// Demangles symbols with `c++filt` of binutils. Returns them unchanged if it is missing.
fn demangle<'a>(symbols: impl Iterator<Item = &'a str>) -> Vec<String> {
    let symbols: Vec<&str> = symbols.collect();
    let mut names = Vec::new();
    // In chunks, because names of templates are long and the length of a command line is limited.
    for chunk in symbols.chunks(100) {
        match Command::new("c++filt").args(chunk).output() {
            Ok(output) if output.status.success() => {
                let output = String::from_utf8_lossy(&output.stdout);
                names.extend(output.lines().map(str::to_owned));
            }
            _ => names.extend(chunk.iter().map(|symbol| (*symbol).to_owned())),
        }
    }
    names
}

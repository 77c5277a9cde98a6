//! Reads the machine code of compiled kernels: what instructions they really hold, and what they need to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel as one architecture's machine code.
#[derive(Debug, Default, PartialEq)]
pub struct Kernel {
    /// Such as `sm_90a`.
    pub arch: String,
    /// The mangled name.
    pub symbol: String,
    /// The name as C++ writes it.
    pub name: String,
    /// Each instruction without predicate and encoding, in order: `LDG.E.128 R4, [R2.64]`.
    pub instructions: Vec<String>,
    /// Whether each of them has a predicate.
    pub guarded: Vec<bool>,
    /// Clocks that a warp waits after each before its next one: the compiler writes them into the encoding.
    pub stalls: Vec<u8>,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of stack of a thread: arrays that are no registers, and spills.
    pub stack: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

impl Kernel {
    /// The opcodes with their modifiers, in order.
    pub fn opcodes(&self) -> impl Iterator<Item = &str> {
        self.instructions
            .iter()
            .map(|text| text.split_whitespace().next().unwrap_or(""))
    }

    /// How often each opcode occurs.
    pub fn histogram(&self) -> BTreeMap<&str, usize> {
        let mut histogram = BTreeMap::new();
        for opcode in self.opcodes() {
            *histogram.entry(opcode).or_default() += 1;
        }
        histogram
    }

    /// Instructions whose opcode holds all of these parts: `["LDG", "128"]` counts `LDG.E.EF.128.CONSTANT`.
    pub fn count(&self, parts: &[&str]) -> usize {
        let holds = |opcode: &str, part: &str| opcode.split('.').any(|have| have == part);
        self.opcodes()
            .filter(|opcode| parts.iter().all(|part| holds(opcode, part)))
            .count()
    }

    /// Instructions that access local memory: spilled registers, or arrays that are indexed at run time.
    pub fn spills(&self) -> usize {
        self.count(&["LDL"]) + self.count(&["STL"])
    }
}

/// The kernels in an object or static library, for all architectures or one; PTX has no machine code and counts for none.
pub fn read(library: &Path, arch: Option<&str>) -> Vec<Kernel> {
    let listing = cuobjdump("-sass", library, arch);
    let usage = cuobjdump("-res-usage", library, arch);
    let mut kernels = parse_listing(&listing);
    add_usage(&mut kernels, &usage);
    let names = demangle(kernels.iter().map(|kernel| kernel.symbol.as_str()));
    for (kernel, name) in kernels.iter_mut().zip(names) {
        kernel.name = name;
    }
    kernels
}

/// The folder of cuobjdump and nvdisasm: `third_party/sass`, else one in PATH that holds both.
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

fn cuobjdump(what: &str, library: &Path, arch: Option<&str>) -> String {
    let tools = tools()
        .expect("there is a folder with cuobjdump and nvdisasm: run `third_party/fetch sass`");
    let mut command = Command::new(tools.join("cuobjdump"));
    if let Some(arch) = arch {
        command.args(["-arch", arch]);
    }
    // cuobjdump calls nvdisasm by name.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    command.env(
        "PATH",
        std::env::join_paths(folders).expect("folders come from PATH"),
    );
    let output = command
        .arg(what)
        .arg(library)
        .output()
        .expect("cuobjdump is there");
    assert!(
        output.status.success(),
        "cuobjdump {what} {}: {}",
        library.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `cuobjdump -sass` prints.
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

/// `/*0010*/  @!P0 LDG.E R4, [R2.64] ;  /* encoding */` without address, predicate and encoding; and whether it has a predicate.
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

/// The second half of an encoding, a line of its own: bits 105 to 108 of the instruction are the clocks to wait.
fn stall(line: &str) -> Option<u8> {
    let high = line.strip_prefix("/* 0x")?.strip_suffix(" */")?;
    Some((u64::from_str_radix(high, 16).ok()? >> 41 & 15) as u8)
}

/// Adds what `cuobjdump -res-usage` prints.
pub fn add_usage(kernels: &mut [Kernel], text: &str) {
    let mut arch = "";
    let mut symbol = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            arch = name;
        } else if let Some(name) = line.strip_prefix("Function ") {
            symbol = name.trim_end_matches(':');
        } else if line.starts_with("REG:") {
            let number = |field: &str| {
                let value = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix(field)?.strip_prefix(':'));
                value
                    .and_then(|value| value.parse().ok())
                    .unwrap_or_else(|| panic!("no {field} in {line}"))
            };
            for kernel in kernels
                .iter_mut()
                .filter(|kernel| kernel.arch == arch && kernel.symbol == symbol)
            {
                kernel.registers = number("REG");
                kernel.stack = number("STACK");
                kernel.shared = number("SHARED");
            }
        }
    }
}

/// The names as C++ writes them; unchanged without binutils' c++filt.
fn demangle<'a>(symbols: impl Iterator<Item = &'a str>) -> Vec<String> {
    let symbols: Vec<&str> = symbols.collect();
    let mut names = Vec::new();
    // Names of templates are long, and a command line is not.
    for some in symbols.chunks(100) {
        match Command::new("c++filt").args(some).output() {
            Ok(output) if output.status.success() => {
                names.extend(
                    String::from_utf8_lossy(&output.stdout)
                        .lines()
                        .map(str::to_owned),
                );
            }
            _ => names.extend(some.iter().map(|symbol| (*symbol).to_owned())),
        }
    }
    names
}

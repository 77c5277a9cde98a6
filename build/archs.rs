//! The architectures that kernels are compiled for: `W4AX_CUDA_ARCHS`.

use super::Problem;

/// Machine code for each architecture with a design of its own here, and PTX that newer chips compile for themselves.
/// PTX of compute_90, not 90a: that of 90a is refused by every other chip.
pub const DEFAULT: &str = "80;86;87;89;90a;90-ptx";

/// The architectures that toolkits 12.4 and later know, from sm_80 on: older ones have neither BF16 nor s4 tensor cores.
/// A letter marks code for that chip alone (`a`) or its family (`f`). Which of them the nvcc at hand knows, it says itself.
const KNOWN: &[&str] = &[
    "80", "86", "87", "88", "89", "90", "90a", "100", "100a", "100f", "101", "101a", "101f", "103",
    "103a", "103f", "110", "110a", "110f", "120", "120a", "120f", "121", "121a", "121f",
];

/// One architecture to compile for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arch {
    /// PTX in place of machine code. The first field, so that PTX comes last.
    ptx: bool,
    /// Its place in `KNOWN`, which is in ascending order.
    known: usize,
}

impl Arch {
    /// Reads `90a` or `sm_90a` (machine code), `90-ptx` or `compute_90` (PTX).
    fn parse(entry: &str) -> Result<Self, String> {
        let (name, ptx) = if let Some(name) = entry.strip_suffix("-ptx") {
            (name, true)
        } else if let Some(name) = entry.strip_prefix("compute_") {
            (name, true)
        } else {
            (entry.strip_prefix("sm_").unwrap_or(entry), false)
        };
        let Some(known) = KNOWN.iter().position(|&known| known == name) else {
            return Err(format!(
                "`{entry}` is no architecture that the kernels can be compiled for: entries are such as 80, 90a or 90-ptx \
                 (PTX for newer chips), of {}",
                KNOWN.join(" ")
            ));
        };
        match name.strip_suffix('a') {
            Some(plain) if ptx => Err(format!(
                "`{entry}` asks for PTX that no chip but sm_{name} takes: ask for {plain}-ptx"
            )),
            _ => Ok(Self { known, ptx }),
        }
    }

    /// `90a`, without what it is compiled to.
    fn name(&self) -> &'static str {
        KNOWN[self.known]
    }

    /// Machine code of sm_90a, which has what no other code for sm_90 has.
    pub fn is_sm90a(&self) -> bool {
        !self.ptx && self.name() == "90a"
    }

    /// The option that makes nvcc compile for it.
    pub fn gencode(&self) -> String {
        let name = self.name();
        let code = if self.ptx { "compute" } else { "sm" };
        format!("-gencode=arch=compute_{name},code={code}_{name}")
    }

    /// As nvcc's `--list-gpu-arch` names it, which leaves the letter out.
    fn listed_name(&self) -> String {
        format!(
            "compute_{}",
            self.name().trim_end_matches(char::is_alphabetic)
        )
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        f.write_str(if self.ptx { "-ptx" } else { "" })
    }
}

/// Reads a list separated by `;`, `,` or spaces into ascending order without repetitions; an empty one is the default.
pub fn parse(setting: Option<&str>) -> Result<Vec<Arch>, Problem> {
    let separators = |c: char| c == ';' || c == ',' || c.is_whitespace();
    let setting = setting
        .filter(|list| !list.trim().is_empty())
        .unwrap_or(DEFAULT);
    let mut archs = setting
        .split(separators)
        .filter(|entry| !entry.is_empty())
        .map(Arch::parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|reason| Problem::Wrong(format!("W4AX_CUDA_ARCHS: {reason}")))?;
    if archs.is_empty() {
        return Err(Problem::Wrong(
            "W4AX_CUDA_ARCHS names no architecture".into(),
        ));
    }
    archs.sort();
    archs.dedup();
    Ok(archs)
}

/// The list as `parse` reads it.
pub fn list(archs: &[Arch]) -> String {
    archs
        .iter()
        .map(Arch::to_string)
        .collect::<Vec<_>>()
        .join(";")
}

/// Checks that the nvcc at hand knows them; `known` is what its `--list-gpu-arch` prints.
pub fn check(archs: &[Arch], known: &str, nvcc: &str) -> Result<(), Problem> {
    match archs
        .iter()
        .find(|arch| !known.lines().any(|line| line.trim() == arch.listed_name()))
    {
        None => Ok(()),
        Some(arch) => Err(Problem::Wrong(format!(
            "W4AX_CUDA_ARCHS asks for {arch}, which {nvcc} cannot compile for: take it out of the list, or use a newer toolkit"
        ))),
    }
}

//! The architectures that kernels are compiled for: the setting `W4AX_CUDA_ARCHS`.

use crate::Problem;
use crate::version::Version;

/// Machine code for each architecture that the kernels distinguish and for sm_100 and sm_120, and
/// PTX for other chips. Machine code of 100 also runs on sm_103, and that of 120 on sm_121. The PTX
/// is of compute_90, not 90a: no other chip accepts PTX of 90a.
pub const DEFAULT: &str = "80;86;87;89;90a;100;120;90-ptx";

/// The default of nvcc before 12.8. The driver of sm_100 and sm_120 compiles the PTX.
pub const OLD_DEFAULT: &str = "80;86;87;89;90a;90-ptx";

/// The first nvcc that compiles for sm_100 and sm_120.
const BLACKWELL: Version = Version::new(12, 8);

/// The architectures of toolkit 12.4 and later, from sm_80 on: older chips have no BF16 and s4
/// tensor cores. A suffix limits code to that chip (`a`) or its family (`f`). An older nvcc may
/// support fewer of them, see [`check`].
const KNOWN: &[&str] = &[
    "80", "86", "87", "88", "89", "90", "90a", "100", "100a", "100f", "101", "101a", "101f", "103",
    "103a", "103f", "110", "110a", "110f", "120", "120a", "120f", "121", "121a", "121f",
];

/// One architecture to compile for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arch {
    /// PTX instead of machine code. The first field, so that PTX is sorted last.
    ptx: bool,
    /// Index in `KNOWN`, which is in ascending order.
    known: usize,
}

impl Arch {
    /// Parses `90a` or `sm_90a` (machine code), `90-ptx` or `compute_90` (PTX).
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
                "unsupported architecture `{entry}`: expected entries such as 80, 90a or 90-ptx (PTX for \
                 newer chips), of {}",
                KNOWN.join(" ")
            ));
        };
        match name.strip_suffix('a') {
            Some(plain) if ptx => Err(format!(
                "`{entry}` is PTX for sm_{name} alone: use {plain}-ptx"
            )),
            _ => Ok(Self { known, ptx }),
        }
    }

    /// Returns the name without the kind of code: `90a`.
    fn name(&self) -> &'static str {
        KNOWN[self.known]
    }

    /// Returns whether this is machine code for sm_90a, which alone has wgmma.
    pub fn is_sm90a(&self) -> bool {
        !self.ptx && self.name() == "90a"
    }

    /// Returns nvcc's option for the architecture.
    pub fn gencode(&self) -> String {
        let name = self.name();
        let code = if self.ptx { "compute" } else { "sm" };
        format!("-gencode=arch=compute_{name},code={code}_{name}")
    }

    /// Returns the name in the output of `nvcc --list-gpu-arch`, which omits the suffix.
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

/// Returns the list of architectures that a build with this nvcc has unless one is set.
pub fn default_of(nvcc: &Version) -> &'static str {
    if *nvcc >= BLACKWELL {
        DEFAULT
    } else {
        OLD_DEFAULT
    }
}

/// Parses a list separated by `;`, `,` or spaces into ascending order without duplicates. An empty
/// list means [`default_of`] this nvcc.
pub fn parse(setting: Option<&str>, nvcc: &Version) -> Result<Vec<Arch>, Problem> {
    let separators = |c: char| c == ';' || c == ',' || c.is_whitespace();
    let setting = setting
        .filter(|list| !list.trim().is_empty())
        .unwrap_or(default_of(nvcc));
    let mut archs = setting
        .split(separators)
        .filter(|entry| !entry.is_empty())
        .map(Arch::parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|reason| Problem::Wrong(format!("W4AX_CUDA_ARCHS: {reason}")))?;
    if archs.is_empty() {
        return Err(Problem::Wrong(
            "W4AX_CUDA_ARCHS contains no architecture".into(),
        ));
    }
    archs.sort();
    archs.dedup();
    Ok(archs)
}

/// Formats a list so that [`parse`] reads it.
pub fn list(archs: &[Arch]) -> String {
    archs
        .iter()
        .map(Arch::to_string)
        .collect::<Vec<_>>()
        .join(";")
}

/// Checks that nvcc supports the architectures. `known` is the output of `nvcc --list-gpu-arch`.
pub fn check(archs: &[Arch], known: &str, nvcc: &str) -> Result<(), Problem> {
    match archs
        .iter()
        .find(|arch| !known.lines().any(|line| line.trim() == arch.listed_name()))
    {
        None => Ok(()),
        Some(arch) => Err(Problem::Wrong(format!(
            "W4AX_CUDA_ARCHS contains {arch}, which {nvcc} does not support: remove it from the list, or \
             use a newer toolkit"
        ))),
    }
}

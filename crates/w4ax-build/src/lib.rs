//! The build script of w4ax's CUDA kernels: finds the tools, compiles the `.cu` files of `kernels/`
//! and archives them into a static library.
//!
//! Order of calls: [`kernels::tools`] finds and checks nvcc, CUTLASS and the host compiler on a
//! [`toolchain::Machine`]; [`kernels::plan`] reads the settings that shape the objects;
//! [`kernels::build`] compiles what has changed and archives. [`report`] turns a [`Problem`] into
//! what cargo prints.
//!
//! The crate `cc` finds the host compiler, its flags and the archiver, and archives the objects.
//! nvcc is run directly, one process per unit (see [`units`]): `cc` compiles every file of a
//! library each time, makes relocatable device code of several `.cu` files and takes its options
//! from the cargo profile (`-G` in dev). Kernels compile slowly, so a unit is compiled again only
//! if a file that it includes, the tools or the options have changed.

pub mod archs;
pub mod cache;
pub mod compile;
pub mod depfile;
pub mod host;
pub mod jobs;
pub mod kernels;
pub mod software;
pub mod toolchain;
pub mod units;
pub mod version;

/// Why no kernels were built.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// A tool was not found. The Rust side works without kernels (docs.rs builds it so), so this
    /// need not end the build.
    Missing(String),
    /// An invalid setting or a failed compilation. It always ends the build: falling back to
    /// another tool than the requested one would hide the mistake.
    Wrong(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(sentence) | Self::Wrong(sentence) => f.write_str(sentence),
        }
    }
}

/// The remedy for a missing tool.
pub const REMEDY: &str = "run `third_party/fetch`, which unpacks pinned tools there";

/// Returns the lines for cargo if no kernels were built: a warning and the reason for the typed
/// error of every call, or errors if the problem is serious or kernels are `required`.
pub fn report(problem: &Problem, required: bool) -> Vec<String> {
    match problem {
        Problem::Missing(reason) if !required => vec![
            format!("cargo::rustc-env=W4AX_NO_KERNELS={reason}"),
            format!(
                "cargo::warning=w4ax is built without CUDA kernels, and calls of them return an \
                 error: {reason}"
            ),
        ],
        _ => problem
            .to_string()
            .lines()
            .map(|line| format!("cargo::error={line}"))
            .collect(),
    }
}

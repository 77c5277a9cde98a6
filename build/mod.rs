//! What the build script does with feature `cuda`: finds the tools, compiles the `.cu` files of `kernels/`, links them statically.
//!
//! nvcc is driven directly and not through the `cc` crate: `cc` compiles every file of a library each time, makes
//! relocatable device code of several `.cu` files, takes its options from the cargo profile (`-G` in dev), and knows
//! nothing of dependency files. Kernels take long to compile, so a file is compiled again only if it, a header that it
//! includes, the tools or the options changed.

pub mod archs;
pub mod cache;
pub mod compile;
pub mod depfile;
pub mod jobs;
pub mod kernels;
pub mod toolchain;
pub mod version;

/// Why there are no kernels.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// A tool is nowhere to be found. The Rust side can be built without (docs.rs does), so this need not end the build.
    Missing(String),
    /// A setting that cannot be followed, or a compilation that failed: always ends the build. To fall back to another
    /// tool than the one that was asked for would be worse.
    Wrong(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(sentence) | Self::Wrong(sentence) => f.write_str(sentence),
        }
    }
}

/// The remedy for whatever is missing.
pub const REMEDY: &str = "run `third_party/fetch`, which unpacks pinned tools there";

/// What cargo is told where there are no kernels: a warning, and the reason for the typed error of every call; or errors,
/// for what may not be passed over and where kernels are `required`.
pub fn report(problem: &Problem, required: bool) -> Vec<String> {
    match problem {
        Problem::Missing(reason) if !required => vec![
            format!("cargo::rustc-env=W4AX_NO_KERNELS={reason}"),
            format!(
                "cargo::warning=w4ax is built without CUDA kernels, and calls of them will answer an error: {reason}"
            ),
        ],
        _ => problem
            .to_string()
            .lines()
            .map(|line| format!("cargo::error={line}"))
            .collect(),
    }
}

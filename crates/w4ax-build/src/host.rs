//! The host side of a build, through the crate `cc`: the C++ compiler, its flags and the archive.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Problem;

/// A C++ compiler and the flags of the platform.
pub struct HostCompiler {
    /// The compiler: `CXX`, or the platform's default.
    pub path: PathBuf,
    /// Flags of the platform and of `CXXFLAGS`, position independence and warnings among them.
    pub flags: Vec<OsString>,
}

/// A `cc` build that compiles for this machine, optimized, without debug information.
fn build(target: &str) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .target(target)
        .host(target)
        .opt_level(3)
        .debug(false)
        // Rust links position-independent executables.
        .pic(true)
        .warnings(true)
        .extra_warnings(true)
        .inherit_rustflags(false)
        .emit_rerun_if_env_changed(false)
        .cargo_metadata(false);
    build
}

/// Returns the target that builds for this machine have outside of a build script.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Returns the C++ compiler that `cc` selects, and its flags.
///
/// # Errors
/// `Problem::Missing` if `cc` finds none; `Problem::Wrong` if a flag cannot be passed through nvcc.
pub fn compiler(target: &str) -> Result<HostCompiler, Problem> {
    let tool = build(target)
        .try_get_compiler()
        .map_err(|error| Problem::Missing(format!("no C++ compiler was found: {error}")))?;
    // nvcc splits the value of -Xcompiler at commas.
    if let Some(flag) = (tool.args().iter()).find(|flag| flag.to_string_lossy().contains(',')) {
        return Err(Problem::Wrong(format!(
            "CXXFLAGS contains `{}`: nvcc cannot pass flags with commas to the host compiler",
            flag.display()
        )));
    }
    Ok(HostCompiler {
        path: tool.path().to_path_buf(),
        flags: tool.args().to_vec(),
    })
}

/// Archives objects into the static library `out/lib{name}.a`, replacing a previous one.
///
/// # Errors
/// `Problem::Wrong` if the archiver fails, with its message.
pub fn archive(target: &str, objects: &[PathBuf], out: &Path, name: &str) -> Result<(), Problem> {
    build(target)
        .objects(objects)
        .out_dir(out)
        .try_compile(name)
        .map_err(|error| {
            Problem::Wrong(format!(
                "cannot archive {}/lib{name}.a: {error}",
                out.display()
            ))
        })
}

//! From the machine's settings to a static library of kernels.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archs::{self, Arch};
use super::compile::{self, Built, Compiler};
use super::toolchain::{self, Found, Machine};
use super::version::{self, Version};
use super::{Problem, REMEDY, cache, jobs};

/// The settings that decide what is built; a change of one runs the build script again.
pub const SETTINGS: &[&str] = &[
    "NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVCC_CCBIN",
    "NVCC_APPEND_FLAGS",
    "NVCC_PREPEND_FLAGS",
    "W4AX_CUTLASS_DIR",
    "CUTLASS_DIR",
    "CUTLASS_PATH",
    "W4AX_CUDA_ARCHS",
    "W4AX_LINEINFO",
    "W4AX_REQUIRE_CUDA",
];

/// The tools, all of them found and new enough.
pub struct Tools {
    /// The compiler.
    pub nvcc: Found,
    /// Its version.
    pub nvcc_version: Version,
    /// The folder of `libcudart_static.a`.
    pub runtime: PathBuf,
    /// The folder of CUTLASS's headers.
    pub cutlass: Found,
    /// Its version.
    pub cutlass_version: Version,
    /// The C++ compiler that nvcc calls.
    pub host: PathBuf,
    /// What the compilers say of themselves.
    identity: String,
}

/// Finds the tools and checks their versions.
pub fn tools(machine: &Machine) -> Result<Tools, Problem> {
    let nvcc = machine.nvcc()?;
    let cutlass = machine.cutlass()?;
    let said = run(&nvcc.path, "--version")?;
    let nvcc_version = Version::of_nvcc(&said).ok_or_else(|| {
        nvcc.problem(format!(
            "{} (from {}) does not say which nvcc it is",
            nvcc.path.display(),
            nvcc.by
        ))
    })?;
    too_old(&nvcc, "nvcc", &nvcc_version, &toolchain::OLDEST_TOOLKIT)?;
    let header = cutlass.path.join("cutlass/version.h");
    let cutlass_version = std::fs::read_to_string(&header)
        .ok()
        .and_then(|text| Version::of_cutlass(&text))
        .ok_or_else(|| {
            cutlass.problem(format!(
                "{} (from {}) names no version of CUTLASS",
                header.display(),
                cutlass.by
            ))
        })?;
    too_old(
        &cutlass,
        "CUTLASS",
        &cutlass_version,
        &toolchain::OLDEST_CUTLASS,
    )?;
    let runtime = machine.runtime(&nvcc)?;
    let host = machine.host_compiler()?;
    let host_said = run(&host, "--version")?;
    let gcc = (!host_said.contains("clang"))
        .then(|| run(&host, "-dumpversion").ok())
        .flatten();
    let limits =
        std::fs::read_to_string(runtime.join("../include/crt/host_config.h")).unwrap_or_default();
    toolchain::check_gcc(
        gcc.and_then(|text| Version::parse(&text))
            .map(|gcc| gcc.major),
        version::newest_gcc(&limits),
        &host,
        &nvcc_version,
    )?;
    Ok(Tools {
        nvcc,
        nvcc_version,
        runtime,
        cutlass,
        cutlass_version,
        host,
        identity: said + &host_said,
    })
}

fn too_old(tool: &Found, name: &str, version: &Version, oldest: &Version) -> Result<(), Problem> {
    if version >= oldest {
        return Ok(());
    }
    Err(tool.problem(format!(
        "{name} {version} (from {}) is older than {}.{}, the oldest that the kernels compile with: update it, or unset what \
         leads to it and {REMEDY}",
        tool.by, oldest.major, oldest.minor
    )))
}

/// What a program prints.
fn run(program: &Path, argument: &str) -> Result<String, Problem> {
    let broken =
        |reason: String| Problem::Wrong(format!("{} {argument}: {reason}", program.display()));
    let output = Command::new(program)
        .arg(argument)
        .output()
        .map_err(|error| broken(error.to_string()))?;
    if !output.status.success() {
        return Err(broken(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the sources are compiled for and how.
pub struct Plan {
    /// In ascending order.
    pub archs: Vec<Arch>,
    compiler: Compiler,
}

/// Reads the settings that shape the objects.
pub fn plan(tools: &Tools, setting: &dyn Fn(&str) -> Option<OsString>) -> Result<Plan, Problem> {
    let text = |name: &str| setting(name).map(|value| value.to_string_lossy().into_owned());
    let archs = archs::parse(text("W4AX_CUDA_ARCHS").as_deref())?;
    let known = run(&tools.nvcc.path, "--list-gpu-arch")?;
    archs::check(&archs, &known, &format!("nvcc {}", tools.nvcc_version))?;
    let cores = text("NUM_JOBS")
        .and_then(|jobs| jobs.parse().ok())
        .unwrap_or(1);
    // nvcc reads options of these two itself.
    let added = ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"]
        .map(|name| text(name).unwrap_or_default())
        .join("\n");
    let compiler = Compiler {
        nvcc: tools.nvcc.path.clone(),
        host: tools.host.clone(),
        identity: format!("{}\n{added}", tools.identity),
        options: compile::options(
            &tools.cutlass.path,
            &archs,
            &tools.nvcc_version,
            flag(setting, "W4AX_LINEINFO"),
        ),
        slots: jobs::slots(cores, jobs::available_bytes()),
    };
    Ok(Plan { archs, compiler })
}

/// A setting that is on for any value but an empty one and 0.
pub fn flag(setting: &dyn Fn(&str) -> Option<OsString>, name: &str) -> bool {
    setting(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Compiles every `.cu` of `sources` into `out/libw4ax_kernels.a`.
pub fn build(plan: &Plan, sources: &Path, out: &Path) -> Result<Built, Problem> {
    let mut files = Vec::new();
    find_sources(sources, &mut files)
        .map_err(|error| Problem::Wrong(format!("{}: {error}", sources.display())))?;
    files.sort();
    let built = (plan.compiler).compile(sources, &files, &cache::folder(out))?;
    compile::archive(&built.objects, &out.join(LIBRARY))?;
    Ok(built)
}

/// Appends every `.cu` in a folder and the folders in it.
fn find_sources(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            files.push(path);
        }
    }
    Ok(())
}

/// The library's file name.
pub const LIBRARY: &str = "libw4ax_kernels.a";

//! From the settings of the machine to a static library of kernels.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archs::{self, Arch};
use crate::compile::{self, Built, Compiler};
use crate::toolchain::{self, Found, Machine};
use crate::version::{self, Version};
use crate::{Problem, REMEDY, cache, host, jobs, units};

/// The settings that affect the build. A change of one runs the build script again.
pub const SETTINGS: &[&str] = &[
    "NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVCC_CCBIN",
    "CXX",
    "CXXFLAGS",
    "NVCC_APPEND_FLAGS",
    "NVCC_PREPEND_FLAGS",
    "W4AX_CUTLASS_DIR",
    "CUTLASS_DIR",
    "CUTLASS_PATH",
    "W4AX_CUDA_ARCHS",
    "W4AX_LINEINFO",
    "W4AX_REQUIRE_CUDA",
];

/// The tools of a build, all of them found and new enough.
pub struct Tools {
    /// nvcc.
    pub nvcc: Found,
    /// The version of nvcc.
    pub nvcc_version: Version,
    /// The folder of `libcudart_static.a`.
    pub runtime: PathBuf,
    /// The folder of CUTLASS's headers.
    pub cutlass: Found,
    /// The version of CUTLASS.
    pub cutlass_version: Version,
    /// The C++ compiler that nvcc calls.
    pub host: PathBuf,
    /// The output of both compilers for `--version`.
    identity: String,
}

/// Finds the tools and checks their versions.
///
/// # Errors
/// `Problem::Missing` if a tool is not found; `Problem::Wrong` if a requested one is unusable.
pub fn tools(machine: &Machine) -> Result<Tools, Problem> {
    let nvcc = machine.nvcc()?;
    let cutlass = machine.cutlass()?;
    let nvcc_text = run(&nvcc.path, "--version")?;
    let nvcc_version = Version::of_nvcc(&nvcc_text).ok_or_else(|| {
        nvcc.problem(format!(
            "{} --version (from {}) does not contain a version",
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
                "{} (from {}) does not contain a version of CUTLASS",
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
    let host_version = run(&host, "--version")?;
    let gcc = (!host_version.contains("clang"))
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
        identity: nvcc_text + &host_version,
    })
}

fn too_old(tool: &Found, name: &str, version: &Version, oldest: &Version) -> Result<(), Problem> {
    if version >= oldest {
        return Ok(());
    }
    Err(tool.problem(format!(
        "{name} {version} (from {}) is too old: the kernels need {}.{} or newer; update it, or unset the setting \
         that leads to it and {REMEDY}",
        tool.by, oldest.major, oldest.minor
    )))
}

/// Returns the output of a program.
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
pub struct BuildPlan {
    /// The architectures, in ascending order.
    pub archs: Vec<Arch>,
    /// The cores that the build may use. Unlike the number of compilations at the same time, it
    /// does not depend on the memory that is free at the moment.
    cores: usize,
    compiler: Compiler,
}

/// Reads the settings that affect the objects. `host_flags` are passed to the host compiler.
///
/// # Errors
/// `Problem::Wrong` if a setting is invalid.
pub fn plan(
    tools: &Tools,
    setting: &dyn Fn(&str) -> Option<OsString>,
    host_flags: &[OsString],
) -> Result<BuildPlan, Problem> {
    let text = |name: &str| setting(name).map(|value| value.to_string_lossy().into_owned());
    let archs = archs::parse(text("W4AX_CUDA_ARCHS").as_deref(), &tools.nvcc_version)?;
    let known = run(&tools.nvcc.path, "--list-gpu-arch")?;
    archs::check(&archs, &known, &format!("nvcc {}", tools.nvcc_version))?;
    let cores = text("NUM_JOBS")
        .and_then(|jobs| jobs.parse().ok())
        .unwrap_or(1);
    // nvcc reads these options itself.
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
            host_flags,
            flag(setting, "W4AX_LINEINFO"),
        ),
        slots: jobs::slots(cores, jobs::available_bytes()),
    };
    Ok(BuildPlan {
        archs,
        cores,
        compiler,
    })
}

/// Returns whether a setting is on: any value but an empty one and 0.
pub fn flag(setting: &dyn Fn(&str) -> Option<OsString>, name: &str) -> bool {
    setting(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Compiles every `.cu` file below `sources` into `out/libw4ax_kernels.a`.
///
/// # Errors
/// `Problem::Wrong` if a file cannot be read or compiled, or the archiver fails.
pub fn build(plan: &BuildPlan, target: &str, sources: &Path, out: &Path) -> Result<Built, Problem> {
    let wrong = |error| Problem::Wrong(format!("{}: {error}", sources.display()));
    let mut files = Vec::new();
    find_sources(sources, &mut files).map_err(wrong)?;
    files.sort();
    let cache = cache::folder(out);
    let unit_folder = cache.join("units");
    let starts_with = |file: &Path, text: &str| {
        std::fs::read(file).is_ok_and(|bytes| bytes.starts_with(text.as_bytes()))
    };
    let unit_sources = units::group(&files, plan.cores, starts_with)
        .iter()
        .map(|unit| unit.source(&unit_folder))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(wrong)?;
    let mut built = (plan.compiler).compile(sources, &unit_sources, &cache)?;
    // They are made from the sources, whose folder the caller watches.
    built.files.retain(|file| !file.starts_with(&unit_folder));
    host::archive(target, &built.objects, out, LIBRARY)?;
    Ok(built)
}

/// Appends every `.cu` file of a folder and its subfolders.
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

/// The library's name for the linker.
pub const LIBRARY: &str = "w4ax_kernels";

/// Returns the path of the library in the folder `out`.
pub fn library(out: &Path) -> PathBuf {
    out.join(format!("lib{LIBRARY}.a"))
}

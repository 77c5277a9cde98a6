//! Where nvcc, its runtime and CUTLASS are: explicit settings first, then `third_party`, then what the machine has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::version::Version;
use super::{Problem, REMEDY};

/// The oldest toolkit that compiles the sources, and the oldest CUTLASS.
pub const OLDEST_TOOLKIT: Version = Version::new(12, 4);
/// Older ones lack atoms and headers that the kernels include.
pub const OLDEST_CUTLASS: Version = Version::new(4, 2);

/// What discovery looks at: a value, so that tests can show it trees and settings of their own.
pub struct Machine<'a> {
    /// A setting; an empty one counts as unset.
    pub setting: &'a dyn Fn(&str) -> Option<OsString>,
    /// The folder that `third_party/fetch` fills.
    pub third_party: PathBuf,
    /// Where toolkits usually are.
    pub usual_toolkits: Vec<PathBuf>,
    /// Where CUTLASS's headers usually are.
    pub usual_cutlass: Vec<PathBuf>,
}

/// A tool that was found, and what led there.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// nvcc, or the folder that holds `cutlass/cutlass.h`.
    pub path: PathBuf,
    /// The setting or the place, for messages.
    pub by: String,
    /// A setting asked for this very one.
    pub explicit: bool,
}

impl Found {
    fn setting(path: PathBuf, by: &str) -> Self {
        Self {
            path,
            by: by.to_owned(),
            explicit: true,
        }
    }

    fn place(path: PathBuf, by: impl Into<String>) -> Self {
        Self {
            path,
            by: by.into(),
            explicit: false,
        }
    }

    /// What is wrong with this tool: the build's end if it was asked for, else the same as if there were none.
    pub fn problem(&self, sentence: String) -> Problem {
        if self.explicit {
            Problem::Wrong(sentence)
        } else {
            Problem::Missing(sentence)
        }
    }
}

impl Machine<'_> {
    /// The machine that the build runs on.
    pub fn here<'a>(
        setting: &'a dyn Fn(&str) -> Option<OsString>,
        crate_root: &Path,
    ) -> Machine<'a> {
        Machine {
            setting,
            third_party: crate_root.join("third_party"),
            usual_toolkits: ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).into(),
            usual_cutlass: ["/usr/local/cutlass", "/opt/cutlass", "/usr/local", "/usr"]
                .map(PathBuf::from)
                .into(),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.setting)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// A program of that name in PATH.
    fn in_path(&self, program: &Path) -> Option<PathBuf> {
        let path = (self.setting)("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|file| is_program(file))
    }

    /// nvcc: `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `third_party/cuda`, PATH, the usual places.
    pub fn nvcc(&self) -> Result<Found, Problem> {
        if let Some(nvcc) = self.path("NVCC") {
            // As a shell reads it: a bare name is looked up in PATH.
            let found = if nvcc.components().count() > 1 {
                Some(nvcc.clone())
            } else {
                self.in_path(&nvcc)
            };
            return found.filter(|file| is_program(file)).map(|file| Found::setting(file, "NVCC")).ok_or_else(|| {
                Problem::Wrong(format!(
                    "NVCC is set to {}, which is no program: point it to nvcc, or unset it and {REMEDY}",
                    nvcc.display()
                ))
            });
        }
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            if let Some(root) = self.path(name) {
                let nvcc = root.join("bin/nvcc");
                return if is_program(&nvcc) {
                    Ok(Found::setting(nvcc, name))
                } else {
                    Err(Problem::Wrong(format!(
                        "{name} is set to {}, which holds no bin/nvcc: point it to a CUDA toolkit, or unset it and {REMEDY}",
                        root.display()
                    )))
                };
            }
        }
        let fetched = self.third_party.join("cuda/bin/nvcc");
        if is_program(&fetched) {
            return Ok(Found::place(fetched, "third_party/cuda"));
        }
        if let Some(nvcc) = self.in_path(Path::new("nvcc")) {
            return Ok(Found::place(nvcc, "PATH"));
        }
        self.usual_toolkits
            .iter()
            .map(|root| Found::place(root.join("bin/nvcc"), root.display().to_string()))
            .find(|found| is_program(&found.path))
            .ok_or_else(|| {
                Problem::Missing(format!(
                    "there is no nvcc in third_party/cuda, in PATH or in the usual places: {REMEDY}, or set CUDA_HOME"
                ))
            })
    }

    /// The folder that holds `libcudart_static.a` of that nvcc's toolkit. `CUDA_HOME` helps where `NVCC` is a wrapper that
    /// stands outside of it.
    pub fn runtime(&self, nvcc: &Found) -> Result<PathBuf, Problem> {
        let real = nvcc
            .path
            .canonicalize()
            .unwrap_or_else(|_| nvcc.path.clone());
        let own = real.ancestors().nth(2).map(Path::to_path_buf);
        let roots = own
            .into_iter()
            .chain(self.path("CUDA_HOME"))
            .chain(self.path("CUDA_PATH"));
        let folders = [
            "lib64",
            "lib",
            "targets/x86_64-linux/lib",
            "targets/sbsa-linux/lib",
            "targets/aarch64-linux/lib",
            "lib/x86_64-linux-gnu",
            "lib/aarch64-linux-gnu",
        ];
        roots
            .flat_map(|root| folders.map(|folder| root.join(folder)))
            .find(|folder| folder.join("libcudart_static.a").is_file())
            .ok_or_else(|| {
                nvcc.problem(format!(
                    "{} (from {}) has no libcudart_static.a in its toolkit: install the toolkit's runtime library, or {REMEDY}",
                    nvcc.path.display(),
                    nvcc.by
                ))
            })
    }

    /// The folder that holds `cutlass/cutlass.h`: `W4AX_CUTLASS_DIR`, `third_party/cutlass`, `CUTLASS_DIR`,
    /// `CUTLASS_PATH`, the usual places.
    pub fn cutlass(&self) -> Result<Found, Problem> {
        let explicit = |name: &str| {
            self.path(name).map(|root| {
                headers(&root).map(|path| Found::setting(path, name)).ok_or_else(|| {
                    Problem::Wrong(format!(
                        "{name} is set to {}, which holds no include/cutlass/cutlass.h: point it to CUTLASS, or unset it and \
                         {REMEDY}",
                        root.display()
                    ))
                })
            })
        };
        if let Some(result) = explicit("W4AX_CUTLASS_DIR") {
            return result;
        }
        if let Some(path) = headers(&self.third_party.join("cutlass")) {
            return Ok(Found::place(path, "third_party/cutlass"));
        }
        if let Some(result) = explicit("CUTLASS_DIR").or_else(|| explicit("CUTLASS_PATH")) {
            return result;
        }
        self.usual_cutlass
            .iter()
            .find_map(|root| Some(Found::place(headers(root)?, root.display().to_string())))
            .ok_or_else(|| {
                Problem::Missing(format!(
                    "there are no CUTLASS headers in third_party/cutlass or in the usual places: {REMEDY}, or set \
                     W4AX_CUTLASS_DIR"
                ))
            })
    }

    /// The C++ compiler that nvcc calls: `NVCC_CCBIN`, else `g++` in PATH.
    pub fn host_compiler(&self) -> Result<PathBuf, Problem> {
        let set = self.path("NVCC_CCBIN");
        let asked = set.clone().unwrap_or_else(|| "g++".into());
        let found = if asked.is_dir() {
            Some(asked.join("g++"))
        } else if asked.components().count() > 1 {
            Some(asked.clone())
        } else {
            self.in_path(&asked)
        };
        found.filter(|file| is_program(file)).ok_or_else(|| match set {
            Some(_) => Problem::Wrong(format!(
                "NVCC_CCBIN is set to {}, which is no program: point it to a C++ compiler that nvcc takes",
                asked.display()
            )),
            None => Problem::Missing(
                "there is no g++ in PATH, which nvcc needs: install it (Debian: apt-get install g++), or set NVCC_CCBIN".into(),
            ),
        })
    }
}

/// Where a CUTLASS tree keeps its headers.
fn headers(root: &Path) -> Option<PathBuf> {
    [root.join("include"), root.to_path_buf()]
        .into_iter()
        .find(|folder| folder.join("cutlass/cutlass.h").is_file())
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// The oldest GCC whose C++17 is complete.
pub const OLDEST_GCC: u32 = 9;

/// Checks a host compiler's major version against the newest that the toolkit takes; none for another compiler than GCC,
/// which nvcc judges itself.
pub fn check_gcc(
    gcc: Option<u32>,
    newest: Option<u32>,
    compiler: &Path,
    nvcc: &Version,
) -> Result<(), Problem> {
    let name = compiler.display();
    match (gcc, newest) {
        (Some(gcc), _) if gcc < OLDEST_GCC => Err(Problem::Wrong(format!(
            "{name} is GCC {gcc}, too old for the kernels' C++17: set NVCC_CCBIN to GCC {OLDEST_GCC} or newer"
        ))),
        (Some(gcc), Some(newest)) if gcc > newest => Err(Problem::Wrong(format!(
            "{name} is GCC {gcc}, too new for nvcc {nvcc}: set NVCC_CCBIN to GCC {newest} or older, such as g++-{newest}"
        ))),
        _ => Ok(()),
    }
}

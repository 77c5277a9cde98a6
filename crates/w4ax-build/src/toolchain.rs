//! Discovery of nvcc, its runtime, CUTLASS and the host compiler: explicit settings first, then
//! `third_party`, then the usual places of the machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::version::Version;
use crate::{Problem, REMEDY};

/// The oldest toolkit that compiles the kernels.
pub const OLDEST_TOOLKIT: Version = Version::new(12, 4);
/// The oldest CUTLASS that compiles the kernels: older ones lack atoms and headers.
pub const OLDEST_CUTLASS: Version = Version::new(4, 2);

/// The settings and folders that discovery reads. Tests replace them by their own.
pub struct Machine<'a> {
    /// Returns a setting. An empty one counts as unset.
    pub setting: &'a dyn Fn(&str) -> Option<OsString>,
    /// The folder that `third_party/fetch` fills.
    pub third_party: PathBuf,
    /// The usual folders of toolkits.
    pub usual_toolkits: Vec<PathBuf>,
    /// The usual folders of CUTLASS's headers.
    pub usual_cutlass: Vec<PathBuf>,
    /// The host compiler if `NVCC_CCBIN` is unset, as `cc` selects it.
    pub default_host: PathBuf,
}

/// A tool, and where it was found.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Path of nvcc, or of the folder that contains `cutlass/cutlass.h`.
    pub path: PathBuf,
    /// The setting or the folder that led to it, for messages.
    pub by: String,
    /// Whether a setting requests this tool.
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

    /// Returns a problem with this tool. It is `Wrong` if a setting requests the tool, otherwise
    /// `Missing`.
    pub fn problem(&self, sentence: String) -> Problem {
        if self.explicit {
            Problem::Wrong(sentence)
        } else {
            Problem::Missing(sentence)
        }
    }
}

impl Machine<'_> {
    /// Returns the machine that the build runs on.
    pub fn here<'a>(
        setting: &'a dyn Fn(&str) -> Option<OsString>,
        crate_root: &Path,
        default_host: PathBuf,
    ) -> Machine<'a> {
        Machine {
            setting,
            third_party: crate_root.join("third_party"),
            usual_toolkits: ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).into(),
            usual_cutlass: ["/usr/local/cutlass", "/opt/cutlass", "/usr/local", "/usr"]
                .map(PathBuf::from)
                .into(),
            default_host,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.setting)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// Finds a program in PATH.
    fn in_path(&self, program: &Path) -> Option<PathBuf> {
        let path = (self.setting)("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|file| is_program(file))
    }

    /// Finds nvcc: `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `third_party/cuda`, PATH, the usual places.
    pub fn nvcc(&self) -> Result<Found, Problem> {
        if let Some(nvcc) = self.path("NVCC") {
            // As in a shell, a bare name is looked up in PATH.
            let found = if nvcc.components().count() > 1 {
                Some(nvcc.clone())
            } else {
                self.in_path(&nvcc)
            };
            return found.filter(|file| is_program(file)).map(|file| Found::setting(file, "NVCC")).ok_or_else(|| {
                Problem::Wrong(format!(
                    "NVCC is {}, which is not a program: set it to nvcc, or unset it and {REMEDY}",
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
                        "{name} is {}, which has no bin/nvcc: set it to a CUDA toolkit, or unset it and {REMEDY}",
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
                    "no nvcc was found in third_party/cuda, PATH or the usual folders: {REMEDY}, or set CUDA_HOME"
                ))
            })
    }

    /// Finds the folder of `libcudart_static.a` in nvcc's toolkit. If `NVCC` is a wrapper outside
    /// of the toolkit, `CUDA_HOME` leads to it.
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
                    "the toolkit of {} (from {}) has no libcudart_static.a: install its runtime library, or {REMEDY}",
                    nvcc.path.display(),
                    nvcc.by
                ))
            })
    }

    /// Finds the folder of `cutlass/cutlass.h`: `W4AX_CUTLASS_DIR`, `third_party/cutlass`,
    /// `CUTLASS_DIR`, `CUTLASS_PATH`, the usual places.
    pub fn cutlass(&self) -> Result<Found, Problem> {
        let explicit = |name: &str| {
            self.path(name).map(|root| {
                headers(&root).map(|path| Found::setting(path, name)).ok_or_else(|| {
                    Problem::Wrong(format!(
                        "{name} is {}, which has no include/cutlass/cutlass.h: set it to CUTLASS, or unset it and {REMEDY}",
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
                    "no CUTLASS headers were found in third_party/cutlass or the usual folders: {REMEDY}, or set \
                     W4AX_CUTLASS_DIR"
                ))
            })
    }

    /// Finds the C++ compiler that nvcc calls: `NVCC_CCBIN`, otherwise the default of `cc`.
    pub fn host_compiler(&self) -> Result<PathBuf, Problem> {
        let set = self.path("NVCC_CCBIN");
        let requested = set.clone().unwrap_or_else(|| self.default_host.clone());
        let found = if requested.is_dir() {
            Some(requested.join("g++"))
        } else if requested.components().count() > 1 {
            Some(requested.clone())
        } else {
            self.in_path(&requested)
        };
        found.filter(|file| is_program(file)).ok_or_else(|| match set {
            Some(_) => Problem::Wrong(format!(
                "NVCC_CCBIN is {}, which is not a program: set it to a C++ compiler that nvcc supports",
                requested.display()
            )),
            None => Problem::Missing(format!(
                "no C++ compiler {} was found in PATH, which nvcc needs: install it (Debian: apt-get install \
                 g++), or set NVCC_CCBIN",
                requested.display()
            )),
        })
    }
}

/// Returns the folder of headers in a CUTLASS tree.
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

/// The oldest GCC with complete C++17.
pub const OLDEST_GCC: u32 = 9;

/// Checks the major version of a GCC against the newest one that the toolkit supports. `gcc` is
/// `None` for other compilers, which nvcc checks itself.
pub fn check_gcc(
    gcc: Option<u32>,
    newest: Option<u32>,
    compiler: &Path,
    nvcc: &Version,
) -> Result<(), Problem> {
    let name = compiler.display();
    match (gcc, newest) {
        (Some(gcc), _) if gcc < OLDEST_GCC => Err(Problem::Wrong(format!(
            "{name} is GCC {gcc}, too old for C++17: set NVCC_CCBIN to GCC {OLDEST_GCC} or newer"
        ))),
        (Some(gcc), Some(newest)) if gcc > newest => Err(Problem::Wrong(format!(
            "{name} is GCC {gcc}, too new for nvcc {nvcc}: set NVCC_CCBIN to GCC {newest} or older, such as \
             g++-{newest}"
        ))),
        _ => Ok(()),
    }
}

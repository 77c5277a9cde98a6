//! nvcc's part: its options, and one process a file, as many side by side as the machine bears.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::archs::Arch;
use super::cache::{Hashes, Slot};
use super::version::Version;
use super::{Problem, depfile};

/// The first nvcc that can be told how to compress.
const COMPRESSES: Version = Version::new(12, 8);

/// How a file is compiled.
pub struct Compiler {
    /// The compiler.
    pub nvcc: PathBuf,
    /// The C++ compiler that it calls.
    pub host: PathBuf,
    /// Whatever else decides what comes out: the tools' versions, options from the environment.
    pub identity: String,
    /// Options of every file.
    pub options: Vec<OsString>,
    /// Compilations at the same time.
    pub slots: usize,
}

/// What came of it.
pub struct Built {
    /// One a source, in their order.
    pub objects: Vec<PathBuf>,
    /// Every file that went in.
    pub files: BTreeSet<PathBuf>,
    /// Sources that had to be compiled.
    pub compiled: Vec<PathBuf>,
    /// What nvcc said about them.
    pub warnings: Vec<String>,
}

/// The options of every file. None of them depends on the cargo profile: a debug build of the Rust side wants fast kernels
/// too, and `-G` would change their arithmetic.
pub fn options(cutlass: &Path, archs: &[Arch], nvcc: &Version, line_info: bool) -> Vec<OsString> {
    let mut options: Vec<OsString> = ["-std=c++17", "-O3"].map(Into::into).into();
    // The numerics are bit-exact: nothing contracted, no denormal flushed, division and root rounded to nearest.
    options.extend(
        [
            "-fmad=false",
            "-ftz=false",
            "-prec-div=true",
            "-prec-sqrt=true",
        ]
        .map(Into::into),
    );
    // CuTe calls constexpr host functions from device code.
    options.push("--expt-relaxed-constexpr".into());
    // Rust links position-independent executables.
    options.extend(["-Xcompiler", "-fPIC,-Wall,-Wextra"].map(Into::into));
    // -isystem: CUTLASS's own warnings are not ours to mend.
    options.extend(["-isystem".into(), cutlass.into()]);
    options.extend(archs.iter().map(|arch| arch.gencode().into()));
    if archs.iter().any(Arch::is_sm90a) {
        // The host side may launch what only this code has.
        options.push("-DW4AX_SM90A".into());
    }
    if *nvcc >= COMPRESSES {
        // Drivers older than CUDA 12.4 cannot unpack it, though they run the rest of a 12.x toolkit: context.cu refuses them.
        options.extend(["--compress-mode=size", "-DW4AX_OLDEST_DRIVER=12040"].map(Into::into));
    }
    if line_info {
        options.push("-lineinfo".into());
    }
    options
}

/// What one file needs.
enum Outcome {
    Fresh(Vec<PathBuf>),
    Compiled(Vec<PathBuf>, Vec<String>),
    Failed(String),
}

impl Compiler {
    /// Compiles the sources that are not in the cache as they are now.
    /// Includes are relative to the folder `root`.
    pub fn compile(
        &self,
        root: &Path,
        sources: &[PathBuf],
        cache: &Path,
    ) -> Result<Built, Problem> {
        let hashes = Hashes::default();
        let key = (&self.nvcc, &self.host, &self.identity, &self.options);
        let slots: Vec<Slot> = sources
            .iter()
            .map(|source| Slot::new(cache, source, &key))
            .collect();
        let mut outcomes: Vec<Option<Outcome>> = slots
            .iter()
            .map(|slot| slot.fresh(&hashes).map(Outcome::Fresh))
            .collect();
        let stale: Vec<usize> = (0..sources.len())
            .filter(|&i| outcomes[i].is_none())
            .collect();
        if !stale.is_empty() {
            let workers = self.slots.min(stale.len());
            // What is left over when there are fewer files than slots goes to the architectures within a file.
            let threads = self.slots / workers;
            let next = AtomicUsize::new(0);
            let done = Mutex::new(&mut outcomes);
            std::thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| {
                        while let Some(&i) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let outcome = self
                                .compile_one(root, &sources[i], &slots[i], threads, &hashes)
                                .unwrap_or_else(Outcome::Failed);
                            if matches!(outcome, Outcome::Failed(_)) {
                                // Nothing more is begun after a failure.
                                next.store(stale.len(), Ordering::Relaxed);
                            }
                            done.lock().expect("no worker panics")[i] = Some(outcome);
                        }
                    });
                }
            });
        }
        let mut built = Built {
            objects: slots
                .iter()
                .map(|slot| slot.object().to_path_buf())
                .collect(),
            files: BTreeSet::new(),
            compiled: Vec::new(),
            warnings: Vec::new(),
        };
        let mut failures = Vec::new();
        for (source, outcome) in sources.iter().zip(outcomes) {
            match outcome {
                Some(Outcome::Fresh(files)) => built.files.extend(files),
                Some(Outcome::Compiled(files, warnings)) => {
                    built.files.extend(files);
                    built.compiled.push(source.clone());
                    built.warnings.extend(warnings);
                }
                Some(Outcome::Failed(text)) => failures.push(text),
                None => {}
            }
        }
        if failures.is_empty() {
            Ok(built)
        } else {
            Err(Problem::Wrong(failures.join("\n")))
        }
    }

    fn compile_one(
        &self,
        root: &Path,
        source: &Path,
        slot: &Slot,
        threads: usize,
        hashes: &Hashes,
    ) -> Result<Outcome, String> {
        let io = |error: std::io::Error| format!("{}: {error}", source.display());
        // Of this process alone: another profile's build may be compiling the same file.
        let process = std::process::id();
        let object = slot.object().with_extension(format!("{process}.o"));
        let dependencies = slot.object().with_extension(format!("{process}.d"));
        std::fs::create_dir_all(slot.folder()).map_err(io)?;
        let start = SystemTime::now();
        let output = Command::new(&self.nvcc)
            .arg("-ccbin")
            .arg(&self.host)
            .args(&self.options)
            .arg("-I")
            .arg(root)
            .args(["--threads", &threads.to_string(), "-MD", "-MF"])
            .arg(&dependencies)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(&object)
            .output()
            .map_err(|error| format!("{} cannot be run: {error}", self.nvcc.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let _ = std::fs::remove_file(&object);
            let _ = std::fs::remove_file(&dependencies);
            return Err(format!(
                "{said}nvcc cannot compile {} ({})",
                source.display(),
                output.status
            ));
        }
        let files = depfile::parse(&std::fs::read_to_string(&dependencies).map_err(io)?);
        std::fs::remove_file(&dependencies).map_err(io)?;
        slot.keep(&object, &files, start, hashes).map_err(io)?;
        Ok(Outcome::Compiled(
            files,
            said.lines().map(str::to_owned).collect(),
        ))
    }
}

/// Puts the objects into a static library, made anew.
pub fn archive(objects: &[PathBuf], library: &Path) -> Result<(), Problem> {
    let _ = std::fs::remove_file(library);
    // D leaves times and owners out, so that the same objects make the same library.
    let status = Command::new("ar")
        .arg("rcsD")
        .arg(library)
        .args(objects)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Problem::Wrong(format!(
            "ar cannot write {} ({status})",
            library.display()
        ))),
        Err(error) => Err(Problem::Missing(format!(
            "ar cannot be run: {error}: install binutils"
        ))),
    }
}

//! Compilation by nvcc: its options, and one process per file, as many at a time as the machine
//! allows.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::archs::Arch;
use crate::cache::{Hashes, Slot};
use crate::version::Version;
use crate::{Problem, depfile};

/// The first nvcc with the option that compresses machine code.
const COMPRESSES: Version = Version::new(12, 8);

/// How files are compiled.
pub struct Compiler {
    /// Path of nvcc.
    pub nvcc: PathBuf,
    /// Path of the C++ compiler that nvcc calls.
    pub host: PathBuf,
    /// What else affects the objects: the versions of the tools, options from the environment.
    pub identity: String,
    /// Options of every file.
    pub options: Vec<OsString>,
    /// Compilations that run at the same time.
    pub slots: usize,
}

/// The result of a compilation.
pub struct Built {
    /// One object per source, in the order of the sources.
    pub objects: Vec<PathBuf>,
    /// Every file that the objects were made from.
    pub files: BTreeSet<PathBuf>,
    /// The sources that had to be compiled.
    pub compiled: Vec<PathBuf>,
    /// nvcc's messages about them.
    pub warnings: Vec<String>,
}

/// Returns the options of every file. None of them depends on the cargo profile: a debug build of
/// the Rust side needs fast kernels too, and `-G` would change their arithmetic.
pub fn options(
    cutlass: &Path,
    archs: &[Arch],
    nvcc: &Version,
    host_flags: &[OsString],
    line_info: bool,
) -> Vec<OsString> {
    let mut options: Vec<OsString> = ["-std=c++17", "-O3"].map(Into::into).into();
    // The numerics are bit-exact: no contraction, no flushing of denormals, division and square
    // root rounded to nearest.
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
    options.extend((host_flags.iter()).flat_map(|flag| ["-Xcompiler".into(), flag.clone()]));
    // -isystem suppresses the warnings of CUTLASS's own headers.
    options.extend(["-isystem".into(), cutlass.into()]);
    options.extend(archs.iter().map(|arch| arch.gencode().into()));
    if archs.iter().any(Arch::is_sm90a) {
        // Lets the host side launch the kernels that only this code contains.
        options.push("-DW4AX_SM90A".into());
    }
    if *nvcc >= COMPRESSES {
        // Drivers before CUDA 12.4 cannot decompress it, although they run the rest of a 12.x
        // toolkit. context.cu rejects them.
        options.extend(["--compress-mode=size", "-DW4AX_OLDEST_DRIVER=12040"].map(Into::into));
    }
    if line_info {
        options.push("-lineinfo".into());
    }
    options
}

/// The outcome of one file.
enum Outcome {
    Fresh(Vec<PathBuf>),
    Compiled(Vec<PathBuf>, Vec<String>),
    Failed(String),
}

/// Returns the number of the first message in which ptxas reports that it serialized wgmma or
/// ignored setmaxnreg: `C7510`, of the series C75xx. Such code is correct and several times slower,
/// so nvcc succeeds, and no test of the results would notice.
pub fn lost_overlap(messages: &str) -> Option<&str> {
    (messages.lines())
        .filter(|line| line.starts_with("ptxas"))
        .filter_map(|line| line.split_once('(')?.1.split_once(')'))
        .map(|(number, _)| number)
        .find(|number| {
            let digits = number.strip_prefix("C75").unwrap_or_default();
            digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit())
        })
}

impl Compiler {
    /// Compiles the sources whose objects in the cache are missing or outdated. Includes are
    /// relative to the folder `root`.
    ///
    /// # Errors
    /// `Problem::Wrong` with the messages of nvcc if a file does not compile, or if ptxas reports
    /// that it serialized wgmma, see [`lost_overlap`].
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
            // With fewer files than slots, the other slots compile the architectures of a file in
            // parallel.
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
                                // A failure stops the other workers before their next file.
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
        // Named after this process: the build of another profile may compile the same file.
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
            .map_err(|error| format!("cannot run {}: {error}", self.nvcc.display()))?;
        let messages = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        let discard = |reason: String| {
            let _ = std::fs::remove_file(&object);
            let _ = std::fs::remove_file(&dependencies);
            Err(format!("{messages}{reason}"))
        };
        if !output.status.success() {
            return discard(format!(
                "nvcc cannot compile {} ({})",
                source.display(),
                output.status
            ));
        }
        if let Some(number) = lost_overlap(&messages) {
            return discard(format!(
                "ptxas gave up an overlap that {} depends on ({number}): see its message above",
                source.display()
            ));
        }
        let files = depfile::parse(&std::fs::read_to_string(&dependencies).map_err(io)?);
        std::fs::remove_file(&dependencies).map_err(io)?;
        slot.keep(&object, &files, start, hashes).map_err(io)?;
        Ok(Outcome::Compiled(
            files,
            messages.lines().map(str::to_owned).collect(),
        ))
    }
}

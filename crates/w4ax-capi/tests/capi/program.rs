//! Test programs: linked with the libraries that `scripts/build-capi` builds, by the C and C++
//! compilers of this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use test_support::leave_out;

/// The output of `scripts/build-capi`.
pub struct Libraries {
    pub root: PathBuf,
    /// The system libraries that the static library needs.
    native: Vec<String>,
}

impl Libraries {
    /// Builds the libraries once per process, with the features of this test.
    pub fn get() -> &'static Self {
        static BUILT: OnceLock<Libraries> = OnceLock::new();
        BUILT.get_or_init(|| {
            let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
            let features = if cfg!(feature = "cuda") { "cuda" } else { "" };
            run(Command::new("bash")
                .arg("../../scripts/build-capi")
                .arg(&root)
                .env("FEATURES", features));
            let native = std::fs::read_to_string(root.join("lib/native-static-libs")).unwrap();
            let native = native.split_whitespace().map(str::to_owned).collect();
            Self { root, native }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    C99,
    /// For the comparison with the headers, which needs `_Generic`.
    C11,
    Cpp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Static,
    Shared,
}

/// The combinations that programs are built in: both libraries and both languages.
pub const BUILDS: [(Language, Link); 3] = [
    (Language::C99, Link::Static),
    (Language::C99, Link::Shared),
    (Language::Cpp, Link::Static),
];

impl Language {
    /// The compiler in `CC` or `CXX`, or the first usual one that runs.
    pub fn compiler(self) -> String {
        let (variable, usual) = match self {
            Self::Cpp => ("CXX", ["c++", "g++", "clang++"]),
            _ => ("CC", ["cc", "gcc", "clang"]),
        };
        let named = std::env::var(variable).ok().filter(|name| !name.is_empty());
        let mut candidates = named
            .map(|name| vec![name])
            .unwrap_or(usual.map(String::from).to_vec());
        candidates.retain(|name| {
            let output = Command::new(name).arg("--version").output();
            output.is_ok_and(|output| output.status.success())
        });
        candidates.into_iter().next().unwrap_or_else(|| {
            let language = if self == Self::Cpp { "C++" } else { "C" };
            panic!(
                "no {language} compiler runs: install one (Debian: apt install build-essential) \
                 or name it in {variable}"
            )
        })
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::C99 => &["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-pedantic"],
            Self::C11 => &["-std=c11", "-pedantic"],
            Self::Cpp => &["-x", "c++", "-std=c++11", "-pedantic"],
        }
    }
}

/// Returns whether a tool runs. If not, the test fails or leaves `part` out ([`leave_out`]).
pub fn has_tool(tool: &str, part: &str) -> bool {
    let reason = match Command::new(tool).arg("--version").output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => format!("{tool} --version: {}", output.status),
        Err(error) => format!("{tool}: {error}"),
    };
    leave_out(part, &reason);
    false
}

/// Returns the path of a source file of these tests.
pub fn source(name: &str) -> PathBuf {
    Path::new("tests/capi").join(name)
}

/// A program in a temporary folder of its own, where it may write files.
pub struct Program {
    pub folder: tempfile::TempDir,
    link: Link,
}

impl Program {
    pub fn build(source: &Path, language: Language, link: Link, flags: &[&str]) -> Self {
        let built = Self::try_build(source, language, link, flags);
        built.unwrap_or_else(|errors| panic!("{}: {errors}", source.display()))
    }

    /// # Errors
    /// The error output of the compiler.
    pub fn try_build(
        source: &Path,
        language: Language,
        link: Link,
        flags: &[&str],
    ) -> Result<Self, String> {
        let libraries = Libraries::get();
        let folder = tempfile::tempdir().unwrap();
        let lib = libraries.root.join("lib");
        let mut compiler = Command::new(language.compiler());
        compiler
            .args(["-Wall", "-Wextra", "-Werror", "-g", "-O1"])
            .args(flags)
            .args(language.flags())
            .arg("-I")
            .arg(libraries.root.join("include"))
            .arg(source)
            .args(["-x", "none"])
            .arg("-o")
            .arg(folder.path().join("program"));
        match link {
            Link::Static => compiler.arg(lib.join("libw4ax.a")).args(&libraries.native),
            Link::Shared => compiler.arg("-L").arg(lib).args(["-lw4ax", "-lpthread"]),
        };
        let output = compiler.output().unwrap();
        match output.status.success() {
            true => Ok(Self { folder, link }),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The command that runs the program, under another program if `under` names one.
    pub fn command(&self, under: &[&str]) -> Command {
        let program = self.folder.path().join("program");
        let mut command = match under {
            [] => Command::new(program),
            [other, arguments @ ..] => {
                let mut command = Command::new(other);
                command.args(arguments).arg(program);
                command
            }
        };
        if self.link == Link::Shared {
            let lib = Libraries::get().root.join("lib");
            command
                .env("LD_LIBRARY_PATH", &lib)
                .env("DYLD_LIBRARY_PATH", lib);
        }
        command
    }
}

/// Runs a command.
///
/// # Panics
/// If it fails, with its output.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command that must not write to standard error: no panic message, no failed check.
pub fn run_silently(command: &mut Command) -> Output {
    let output = run(command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
    output
}

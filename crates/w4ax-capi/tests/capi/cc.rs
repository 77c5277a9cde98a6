//! The libraries as `scripts/build-capi` makes them, and this machine's C and C++ compilers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where `scripts/build-capi` put what.
pub struct Libraries {
    pub root: PathBuf,
    /// What the static library needs.
    native: Vec<String>,
}

impl Libraries {
    pub fn get() -> &'static Self {
        static MADE: OnceLock<Libraries> = OnceLock::new();
        MADE.get_or_init(|| {
            let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
            // With the features of this test itself.
            let features = match cfg!(feature = "cuda") {
                true => "cuda",
                false => "",
            };
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
    /// For what only the comparison with the header needs.
    C11,
    Cpp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Static,
    Shared,
}

impl Language {
    /// The compiler that `CC` or `CXX` names, else the first usual one that is there.
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
            let asked = Command::new(name).arg("--version").output();
            asked.is_ok_and(|answer| answer.status.success())
        });
        candidates.into_iter().next().unwrap_or_else(|| {
            panic!(
                "the tests of the C ABI need a {} compiler: install one (Debian: apt install build-essential) or name it in {variable}",
                if self == Self::Cpp { "C++" } else { "C" }
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

/// A program in a folder of its own, which it may write to.
pub struct Program {
    pub folder: tempfile::TempDir,
    link: Link,
}

impl Program {
    pub fn build(source: &Path, language: Language, link: Link, flags: &[&str]) -> Self {
        let made = Self::try_build(source, language, link, flags);
        made.unwrap_or_else(|said| panic!("{}: {said}", source.display()))
    }

    /// # Errors
    /// What the compiler said.
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

    /// The command that starts it, `under` another program if one is named.
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

/// Runs to success, or panics with what was said.
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

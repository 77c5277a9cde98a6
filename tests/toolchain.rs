//! The tools for real: compiles `tests/data/probe` with the build script's code, and reads the machine code.

#[allow(dead_code)]
#[path = "../build/mod.rs"]
mod build;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use build::compile::Built;
use build::kernels::{self, LIBRARY};
use build::toolchain::Machine;
use gpu_model::sass::{self, Kernel};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder of sources, and one for what comes of them.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir_all(bench.out()).unwrap();
        std::fs::create_dir_all(bench.sources()).unwrap();
        bench
    }

    fn sources(&self) -> PathBuf {
        // A space in the name, as it may be in a user's.
        self.folder.path().join("the kernels")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn library(&self) -> PathBuf {
        self.out().join(LIBRARY)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.sources().join(file), text).unwrap();
    }

    /// Builds for these architectures, with the machine's settings for all else.
    fn build(&self, archs: &str) -> Result<Built, build::Problem> {
        let setting = |name: &str| match name {
            "W4AX_CUDA_ARCHS" => Some(OsString::from(archs)),
            "NUM_JOBS" => Some("2".into()),
            _ => std::env::var_os(name),
        };
        let tools = kernels::tools(&Machine::here(&setting, Path::new(ROOT)))?;
        kernels::build(
            &kernels::plan(&tools, &setting)?,
            &self.sources(),
            &self.out(),
        )
    }

    /// The sources that a build compiles.
    fn compiled(&self, archs: &str) -> Vec<String> {
        let built = self
            .build(archs)
            .unwrap_or_else(|problem| panic!("{problem}"));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        built.compiled.iter().map(name).collect()
    }

    /// The kernels in the library, sorted.
    fn kernels(&self) -> Vec<String> {
        let mut names: Vec<_> = sass::read(&self.library(), None)
            .unwrap()
            .into_iter()
            .map(|kernel| kernel.name)
            .collect();
        names.sort();
        names
    }
}

fn kernel<'a>(kernels: &'a [Kernel], arch: &str, name: &str) -> &'a Kernel {
    let found: Vec<_> = kernels
        .iter()
        .filter(|kernel| kernel.arch == arch && kernel.name.starts_with(name))
        .collect();
    assert_eq!(found.len(), 1, "{name} on {arch} among {kernels:#?}");
    found[0]
}

#[test]
fn machine_code_is_what_the_source_and_the_options_say() {
    let bench = Bench::new();
    for file in ["probe.cu", "probe.cuh"] {
        bench.write(
            file,
            &std::fs::read_to_string(Path::new(ROOT).join("tests/data/probe").join(file)).unwrap(),
        );
    }
    let built = bench
        .build("80;90a;90-ptx")
        .unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(
        built.warnings, [""; 0],
        "our options let the probe compile without warnings"
    );
    let kernels = sass::read(&bench.library(), None).unwrap();
    assert_eq!(
        kernels.len(),
        6,
        "three kernels, two architectures, none for PTX"
    );
    for (arch, imma) in [("sm_80", "16864"), ("sm_90a", "16832")] {
        let multiply = kernel(&kernels, arch, "probe::multiply(");
        assert_eq!(multiply.count(&["IMMA"]), 4, "{multiply:#?}");
        assert_eq!(multiply.count(&["IMMA", imma]), 4, "{multiply:#?}");
        assert_eq!(multiply.count(&["LDG", "128"]), 4, "{multiply:#?}");
        assert_eq!((multiply.spills(), multiply.stack), (0, 0), "{multiply:#?}");
        assert!((8..=64).contains(&multiply.registers), "{multiply:#?}");
        assert_eq!(
            multiply.histogram().values().sum::<usize>(),
            multiply.instructions.len()
        );

        let add = kernel(&kernels, arch, "probe::multiply_then_add(");
        assert_eq!(
            (
                add.count(&["FFMA"]),
                add.count(&["FMUL"]),
                add.count(&["FADD"])
            ),
            (0, 1, 1),
            "{add:#?}"
        );

        let spill = kernel(&kernels, arch, "probe::spill(");
        assert!(
            spill.spills() > 0 && spill.stack > 0 && spill.registers == 64,
            "{spill:#?}"
        );
    }
    let one = sass::read(&bench.library(), Some("sm_80")).unwrap();
    assert_eq!(one.len(), 3, "one architecture alone");
}

#[test]
fn exactly_what_changed_is_compiled_again() {
    let bench = Bench::new();
    let (one, two) = (
        "#include \"name.cuh\"\n__global__ void NAME() {}\n",
        "__global__ void two() {}\n",
    );
    bench.write("one.cu", one);
    bench.write("two.cu", two);
    bench.write("name.cuh", "#define NAME first\n");
    assert_eq!(bench.compiled("80"), ["one.cu", "two.cu"]);
    assert_eq!(bench.compiled("80"), [""; 0], "nothing changed");
    assert_eq!(bench.kernels(), ["first()", "two()"]);

    bench.write("two.cu", two);
    assert_eq!(
        bench.compiled("80"),
        [""; 0],
        "the same bytes were written again"
    );

    bench.write("name.cuh", "#define NAME second\n");
    assert_eq!(bench.compiled("80"), ["one.cu"], "a header of one of them");
    assert_eq!(bench.kernels(), ["second()", "two()"]);

    bench.write("two.cu", &two.replace("two", "three"));
    assert_eq!(bench.compiled("80"), ["two.cu"], "one source");
    assert_eq!(
        bench.compiled("86"),
        ["one.cu", "two.cu"],
        "other architectures"
    );
    assert_eq!(bench.compiled("80"), [""; 0], "and back");
    assert_eq!(bench.kernels(), ["second()", "three()"]);

    std::fs::remove_file(bench.sources().join("two.cu")).unwrap();
    assert_eq!(bench.compiled("80"), [""; 0], "a source that is gone");
    assert_eq!(bench.kernels(), ["second()"]);
}

#[test]
fn a_source_with_an_error_names_itself_and_is_no_object() {
    let bench = Bench::new();
    bench.write("broken.cu", "#error planted\n");
    for _ in 0..2 {
        let Err(build::Problem::Wrong(text)) = bench.build("80") else {
            panic!("it compiles")
        };
        assert!(
            text.contains("planted") && text.contains("broken.cu"),
            "{text}"
        );
    }
}

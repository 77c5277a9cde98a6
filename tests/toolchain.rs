//! Compiles `tests/data/probe` by the real tools with the code of the build script, and checks the
//! machine code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gpu_model::sass::{self, Kernel};
use w4ax_build::compile::Built;
use w4ax_build::kernels;
use w4ax_build::toolchain::Machine;
use w4ax_build::{Problem, host};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder of sources and a folder of objects.
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
        // A user's path may contain a space.
        self.folder.path().join("the kernels")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn library(&self) -> PathBuf {
        kernels::library(&self.out())
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.sources().join(file), text).unwrap();
    }

    /// Builds for the architectures, with the machine's other settings.
    fn build(&self, archs: &str) -> Result<Built, Problem> {
        let setting = |name: &str| match name {
            "W4AX_CUDA_ARCHS" => Some(OsString::from(archs)),
            "NUM_JOBS" => Some("2".into()),
            _ => std::env::var_os(name),
        };
        let target = host::target();
        let host = host::compiler(&target)?;
        let machine = Machine::here(&setting, Path::new(ROOT), host.path);
        let tools = kernels::tools(&machine)?;
        let plan = kernels::plan(&tools, &setting, &host.flags)?;
        kernels::build(&plan, &target, &self.sources(), &self.out())
    }

    /// Builds, and returns the sources that were compiled.
    fn compiled(&self, archs: &str) -> Vec<String> {
        let built = self
            .build(archs)
            .unwrap_or_else(|problem| panic!("{problem}"));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        built.compiled.iter().map(name).collect()
    }

    /// Returns the kernels in the library, sorted.
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
fn compiles_the_expected_machine_code() {
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
        "the options compile the probe without warnings"
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
fn recompiles_only_what_has_changed() {
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
    assert_eq!(bench.compiled("80"), ["one.cu"], "a header of one source");
    assert_eq!(bench.kernels(), ["second()", "two()"]);

    bench.write("two.cu", &two.replace("two", "three"));
    assert_eq!(bench.compiled("80"), ["two.cu"], "one source");
    assert_eq!(
        bench.compiled("86"),
        ["one.cu", "two.cu"],
        "other architectures"
    );
    assert_eq!(
        bench.compiled("80"),
        [""; 0],
        "the first architecture again"
    );
    assert_eq!(bench.kernels(), ["second()", "three()"]);

    std::fs::remove_file(bench.sources().join("two.cu")).unwrap();
    assert_eq!(bench.compiled("80"), [""; 0], "a removed source");
    assert_eq!(bench.kernels(), ["second()"]);
}

#[test]
fn reports_the_source_that_does_not_compile() {
    let bench = Bench::new();
    bench.write("broken.cu", "#error planted\n");
    for _ in 0..2 {
        let Err(Problem::Wrong(text)) = bench.build("80") else {
            panic!("broken.cu compiles")
        };
        assert!(
            text.contains("planted") && text.contains("broken.cu"),
            "{text}"
        );
    }
}

//! The logic of the build script, on settings and folders that represent other machines.

mod archs {
    use w4ax_build::Problem;
    use w4ax_build::archs::{self, Arch, check, list};
    use w4ax_build::version::Version;

    fn parse(setting: Option<&str>) -> Result<Vec<Arch>, Problem> {
        archs::parse(setting, &Version::new(13, 0))
    }

    fn error(setting: &str) -> String {
        match parse(Some(setting)) {
            Err(Problem::Wrong(sentence)) => sentence,
            other => panic!("{setting} parses as {other:?}"),
        }
    }

    #[test]
    fn defaults_if_unset_or_empty() {
        for setting in [None, Some(""), Some(" ")] {
            let of = |nvcc| list(&archs::parse(setting, &Version::parse(nvcc).unwrap()).unwrap());
            for nvcc in ["12.8", "12.9.86", "13.0.88"] {
                assert_eq!(of(nvcc), "80;86;87;89;90a;100;120;90-ptx", "{nvcc}");
            }
            // These do not support sm_100 and sm_120.
            for nvcc in ["12.4.131", "12.6.85"] {
                assert_eq!(of(nvcc), "80;86;87;89;90a;90-ptx", "{nvcc}");
            }
        }
    }

    #[test]
    fn accepts_any_separator_prefix_order_and_duplicates() {
        for setting in [
            "80;90a;90-ptx",
            "90a,80 compute_90",
            " sm_90a; sm_80,,90-ptx;80 ",
        ] {
            assert_eq!(
                list(&parse(Some(setting)).unwrap()),
                "80;90a;90-ptx",
                "{setting}"
            );
        }
    }

    #[test]
    fn formats_options_of_machine_code_and_ptx() {
        let options: Vec<_> = parse(Some("90-ptx;120;90a"))
            .unwrap()
            .iter()
            .map(|arch| arch.gencode())
            .collect();
        assert_eq!(
            options,
            [
                "-gencode=arch=compute_90a,code=sm_90a",
                "-gencode=arch=compute_120,code=sm_120",
                "-gencode=arch=compute_90,code=compute_90",
            ]
        );
    }

    #[test]
    fn rejects_unknown_entries_by_name() {
        for entry in ["77", "banana", "75", "90b", "sm_", "-ptx", "9.0"] {
            let sentence = error(&format!("80;{entry}"));
            assert!(
                sentence.starts_with("W4AX_CUDA_ARCHS: ")
                    && sentence.contains(&format!("`{entry}`")),
                "{sentence}"
            );
        }
        assert!(error("90a-ptx").contains("use 90-ptx"));
        assert!(error(";,").contains("no architecture"));
    }

    #[test]
    fn rejects_architectures_that_nvcc_does_not_support() {
        let known = "compute_80\ncompute_90\n";
        assert_eq!(
            check(&parse(Some("80;90a;90-ptx")).unwrap(), known, "nvcc 12.4"),
            Ok(())
        );
        let Err(Problem::Wrong(sentence)) =
            check(&parse(Some("80;120a")).unwrap(), known, "nvcc 12.4")
        else {
            panic!("120a is accepted");
        };
        assert!(
            sentence.contains("120a") && sentence.contains("nvcc 12.4"),
            "{sentence}"
        );
    }
}

mod options {
    use std::path::Path;

    use w4ax_build::archs::parse;
    use w4ax_build::compile::options;
    use w4ax_build::version::Version;

    fn of(nvcc: &str) -> Vec<String> {
        let nvcc = Version::parse(nvcc).unwrap();
        with("80", &nvcc)
    }

    fn with(archs: &str, nvcc: &Version) -> Vec<String> {
        options(
            Path::new("/cutlass"),
            &parse(Some(archs), nvcc).unwrap(),
            nvcc,
            &["-fPIC".into()],
            false,
        )
        .into_iter()
        .map(|option| option.into_string().unwrap())
        .collect()
    }

    /// The host side needs to know whether the build has code for sm_90a. PTX of compute_90 does
    /// not count.
    #[test]
    fn defines_sm_90a_for_its_machine_code_only() {
        let nvcc = Version::parse("13.0").unwrap();
        let defined = |archs| with(archs, &nvcc).contains(&"-DW4AX_SM90A".into());
        assert!(defined("80;90a") && defined("90a"));
        assert!(!defined("80") && !defined("90") && !defined("90-ptx"));
    }

    /// nvcc supports the option since 12.8. Compressed code needs a driver of CUDA 12.4, which the
    /// kernels must check themselves, so the two options are set together.
    #[test]
    fn compresses_machine_code_if_nvcc_supports_it() {
        let counts = |nvcc: &str| {
            ["--compress-mode=size", "-DW4AX_OLDEST_DRIVER=12040"]
                .map(|option| of(nvcc).iter().filter(|&have| have == option).count())
        };
        for nvcc in ["12.4.131", "12.6.85", "12.7"] {
            assert_eq!(counts(nvcc), [0, 0], "{nvcc}");
        }
        for nvcc in ["12.8", "12.8.93", "12.9.86", "13.0.88", "14.1"] {
            assert_eq!(counts(nvcc), [1, 1], "{nvcc}");
        }
    }

    /// The numerics depend on these options.
    #[test]
    fn disables_contraction_and_flushing_for_every_nvcc() {
        for nvcc in ["12.4", "13.0.88"] {
            for option in [
                "-fmad=false",
                "-ftz=false",
                "-prec-div=true",
                "-prec-sqrt=true",
            ] {
                assert!(of(nvcc).iter().any(|have| have == option), "{nvcc}");
            }
            assert!(!of(nvcc).iter().any(|have| have.contains("fast")), "{nvcc}");
        }
    }
}

mod messages {
    use w4ax_build::compile::lost_overlap;

    /// ptxas reports these as notes, so nvcc succeeds.
    #[test]
    fn finds_serialized_wgmma() {
        // The output of nvcc 13.0.88 for a kernel that reads an accumulator between two wgmma.
        let injected = "ptxas info    : (C7519) warpgroup.arrive is injected in around line 43 by \
             compiler to allow use of registers in GMMA in function '_Z3serPfmm'";
        let serialized = "ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async \
             instructions are serialized due to insufficient register resources for the wgmma \
             pipeline in the function '_Z3serPfmm'";
        let ignored = "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; \
             unable to determine register count at entry";
        assert_eq!(
            lost_overlap(&format!("{injected}\n{serialized}\n")),
            Some("C7519")
        );
        assert_eq!(lost_overlap(serialized), Some("C7511"));
        assert_eq!(
            lost_overlap(&format!(
                "wgmma_a8.cu(3): warning #177-D: unused\n{ignored}\n"
            )),
            Some("C7508")
        );
    }

    #[test]
    fn accepts_other_messages() {
        for other in [
            "",
            "nvcc warning : Support for offline compilation will be removed (C7510)",
            "ptxas info    : 0 bytes gmem",
            "ptxas info    : Function properties for f(C7510",
            "ptxas warning : (C7604) Potential Performance Loss: another one",
            "ptxas warning : (C751) too short",
            "ptxas warning : (C75100) too long",
            "ptxas info    : Compiling entry function 'f' for 'sm_90a'",
        ] {
            assert_eq!(lost_overlap(other), None, "{other}");
        }
    }
}

mod depfile {
    use w4ax_build::depfile::parse;

    fn names(text: &str) -> Vec<String> {
        parse(text)
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn parses_continuations_and_escapes() {
        let text = "out.o : /a/kernel.cu \\\n    /a/b\\ c/d.h \\\r\n /x/$$y.h /e\\#f.h\\\n /last.h";
        assert_eq!(
            names(text),
            ["/a/kernel.cu", "/a/b c/d.h", "/x/$y.h", "/e#f.h", "/last.h"]
        );
    }

    #[test]
    fn ends_the_target_at_the_first_colon_before_a_space() {
        assert_eq!(names("/odd:name/out.o: /a:b.h /c.h\n"), ["/a:b.h", "/c.h"]);
        assert_eq!(names("out.o:\\\n a.h\n\nother.o: b.h\n"), ["a.h", "b.h"]);
    }

    #[test]
    fn keeps_backslashes_within_names() {
        assert_eq!(names("o: a\\b.h"), ["a\\b.h"]);
        assert!(names("").is_empty());
    }
}

mod jobs {
    use w4ax_build::jobs::{PEAK_BYTES, group_left, mem_available, slots};

    #[test]
    fn limits_jobs_by_cores_and_memory() {
        assert_eq!(slots(16, Some(3 * PEAK_BYTES)), 3);
        assert_eq!(slots(2, Some(100 * PEAK_BYTES)), 2);
        assert_eq!(slots(4, None), 4);
        assert_eq!(slots(4, Some(1)), 1);
        assert_eq!(slots(0, Some(PEAK_BYTES)), 1);
    }

    #[test]
    fn parses_available_memory_of_linux() {
        let text = "MemTotal:       24000 kB\nMemFree:  1 kB\nMemAvailable:   20000 kB\n";
        assert_eq!(mem_available(text), Some(20000 * 1024));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert_eq!(group_left("1000\n", "400\n"), Some(600));
        assert_eq!(group_left("1000\n", "1400\n"), Some(0));
        assert_eq!(group_left("max\n", "400\n"), None);
    }
}

mod versions {
    use w4ax_build::version::{Version, newest_gcc};

    #[test]
    fn parses_versions_of_the_tools() {
        let nvcc = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\nBuild x\n";
        assert_eq!(Version::of_nvcc(nvcc).unwrap().to_string(), "13.0.88");
        assert_eq!(Version::of_nvcc("gcc 12"), None);
        let header = "#define CUTLASS_MAJOR 4\n# define X\n#define CUTLASS_MINOR 2\n#define CUTLASS_PATCH 0 \n";
        assert_eq!(Version::of_cutlass(header).unwrap().to_string(), "4.2.0");
        assert_eq!(Version::of_cutlass("#define CUTLASS_MAJOR 4\n"), None);
        assert_eq!(Version::parse("12\n").unwrap(), Version::new(12, 0));
    }

    #[test]
    fn compares_versions_by_number() {
        assert!(Version::parse("12.10").unwrap() > Version::new(12, 4));
        assert!(Version::parse("12.4.131").unwrap() >= Version::new(12, 4));
        assert!(Version::parse("11.8").unwrap() < Version::new(12, 4));
    }

    #[test]
    fn parses_the_newest_gcc_of_a_toolkit() {
        assert_eq!(
            newest_gcc("#if defined(__GNUC__)\n\n#if __GNUC__ > 15\n\n#error x\n#endif\n"),
            Some(15)
        );
        assert_eq!(newest_gcc("#error\n"), None);
    }
}

#[cfg(unix)]
mod discovery {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use w4ax_build::Problem;
    use w4ax_build::toolchain::{Found, Machine, check_gcc};
    use w4ax_build::version::Version;

    /// A machine in a folder: trees with tools, and settings.
    struct Fake {
        root: tempfile::TempDir,
        settings: HashMap<String, OsString>,
    }

    impl Fake {
        fn new() -> Self {
            let mut fake = Self {
                root: tempfile::tempdir().unwrap(),
                settings: HashMap::new(),
            };
            fake.file("empty/nothing");
            fake
        }

        fn at(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn file(&mut self, path: &str) -> &mut Self {
            std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            std::fs::write(self.at(path), "").unwrap();
            self
        }

        fn program(&mut self, path: &str) -> &mut Self {
            self.file(path);
            std::fs::set_permissions(self.at(path), PermissionsExt::from_mode(0o755)).unwrap();
            self
        }

        fn set(&mut self, name: &str, path: &str) -> &mut Self {
            let value = self.at(path).into_os_string();
            self.settings.insert(name.into(), value);
            self
        }

        fn raw(&mut self, name: &str, value: &str) -> &mut Self {
            self.settings.insert(name.into(), value.into());
            self
        }

        fn with_machine<T>(&self, f: impl Fn(&Machine) -> T) -> T {
            f(&Machine {
                setting: &|name| self.settings.get(name).cloned(),
                third_party: self.at("third_party"),
                usual_toolkits: vec![self.at("usual/a"), self.at("usual/b")],
                usual_cutlass: vec![self.at("usual/cutlass")],
                default_host: "g++".into(),
            })
        }

        fn nvcc(&self) -> Result<Found, Problem> {
            self.with_machine(|machine| machine.nvcc())
        }

        fn expect(&self, path: &str, by: &str, explicit: bool) {
            let found = self.nvcc().unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(
                (found.path, found.by.as_str(), found.explicit),
                (self.at(path), by, explicit)
            );
        }
    }

    fn wrong<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        match result {
            Err(Problem::Wrong(sentence)) => sentence,
            other => panic!("{other:?} is not an error of a setting"),
        }
    }

    fn missing<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        match result {
            Err(Problem::Missing(sentence)) => sentence,
            other => panic!("{other:?} is not a missing tool"),
        }
    }

    /// With nvcc in every place, each place is found once those before it are removed.
    #[test]
    fn finds_nvcc_in_order() {
        let mut fake = Fake::new();
        for path in [
            "mine/nvcc-x",
            "home/bin/nvcc",
            "path/bin/nvcc",
            "third_party/cuda/bin/nvcc",
            "in/nvcc",
            "usual/b/bin/nvcc",
        ] {
            fake.program(path);
        }
        fake.set("NVCC", "mine/nvcc-x")
            .set("CUDA_HOME", "home")
            .set("CUDA_PATH", "path")
            .set("PATH", "in");
        fake.expect("mine/nvcc-x", "NVCC", true);
        fake.raw("NVCC", "");
        fake.expect("home/bin/nvcc", "CUDA_HOME", true);
        fake.settings.remove("CUDA_HOME");
        fake.expect("path/bin/nvcc", "CUDA_PATH", true);
        fake.settings.remove("CUDA_PATH");
        fake.expect("third_party/cuda/bin/nvcc", "third_party/cuda", false);
        std::fs::remove_dir_all(fake.at("third_party")).unwrap();
        fake.expect("in/nvcc", "PATH", false);
        fake.set("PATH", "empty");
        let usual = fake.at("usual/b").display().to_string();
        fake.expect("usual/b/bin/nvcc", &usual, false);
        std::fs::remove_dir_all(fake.at("usual")).unwrap();
        let sentence = missing(fake.nvcc());
        assert!(sentence.contains("third_party/fetch"), "{sentence}");
    }

    /// An invalid setting is an error, even if a later place has the tool.
    #[test]
    fn rejects_invalid_settings_by_name() {
        for (name, value) in [
            ("NVCC", "gone/nvcc"),
            ("NVCC", "empty/nothing"),
            ("CUDA_HOME", "gone"),
            ("CUDA_PATH", "empty"),
        ] {
            let mut fake = Fake::new();
            fake.program("third_party/cuda/bin/nvcc")
                .program("in/nvcc")
                .set("PATH", "in")
                .set(name, value);
            let sentence = wrong(fake.nvcc());
            let value = fake.at(value).display().to_string();
            assert!(
                sentence.starts_with(name) && sentence.contains(&value),
                "{sentence}"
            );
        }
        let mut fake = Fake::new();
        fake.program("third_party/cuda/bin/nvcc")
            .set("PATH", "empty")
            .raw("NVCC", "nvcc-12.4");
        assert!(wrong(fake.nvcc()).contains("nvcc-12.4"));
        fake.program("empty/nvcc-12.4");
        fake.expect("empty/nvcc-12.4", "NVCC", true);
    }

    #[test]
    fn finds_the_runtime_of_the_compiler() {
        let mut fake = Fake::new();
        fake.program("tk/bin/nvcc")
            .file("tk/lib/libcudart_static.a")
            .file("other/lib64/libcudart_static.a");
        fake.set("NVCC", "tk/bin/nvcc").set("CUDA_HOME", "other");
        let runtime =
            |fake: &Fake| fake.with_machine(|machine| machine.runtime(&machine.nvcc().unwrap()));
        let tk = fake.at("tk/lib").canonicalize().unwrap();
        assert_eq!(runtime(&fake).unwrap().canonicalize().unwrap(), tk);
        // A link from another folder leads to the same toolkit. A wrapper does not, so CUDA_HOME is
        // used.
        std::os::unix::fs::symlink(fake.at("tk/bin/nvcc"), fake.at("empty/nvcc")).unwrap();
        fake.set("NVCC", "empty/nvcc");
        assert_eq!(runtime(&fake).unwrap().canonicalize().unwrap(), tk);
        fake.program("wrapper/bin/nvcc")
            .set("NVCC", "wrapper/bin/nvcc");
        assert_eq!(runtime(&fake).unwrap(), fake.at("other/lib64"));
        fake.settings.remove("CUDA_HOME");
        assert!(wrong(runtime(&fake)).contains("libcudart_static.a"));
    }

    #[test]
    fn finds_cutlass_in_order() {
        let mut fake = Fake::new();
        for tree in [
            "mine/include",
            "third_party/cutlass/include",
            "dir",
            "usual/cutlass/include",
        ] {
            fake.file(&format!("{tree}/cutlass/cutlass.h"));
        }
        let found = |fake: &Fake| fake.with_machine(|machine| machine.cutlass());
        fake.set("W4AX_CUTLASS_DIR", "mine")
            .set("CUTLASS_DIR", "dir");
        assert_eq!(found(&fake).unwrap().path, fake.at("mine/include"));
        fake.settings.remove("W4AX_CUTLASS_DIR");
        assert_eq!(
            found(&fake).unwrap().path,
            fake.at("third_party/cutlass/include")
        );
        std::fs::remove_dir_all(fake.at("third_party")).unwrap();
        assert_eq!(found(&fake).unwrap().path, fake.at("dir"));
        fake.settings.remove("CUTLASS_DIR");
        assert_eq!(found(&fake).unwrap().path, fake.at("usual/cutlass/include"));
        for name in ["W4AX_CUTLASS_DIR", "CUTLASS_DIR", "CUTLASS_PATH"] {
            fake.set(name, "empty");
            assert!(wrong(found(&fake)).starts_with(name));
            fake.settings.remove(name);
        }
        std::fs::remove_dir_all(fake.at("usual")).unwrap();
        assert!(missing(found(&fake)).contains("third_party/fetch"));
    }

    #[test]
    fn finds_the_host_compiler() {
        let mut fake = Fake::new();
        let host = |fake: &Fake| fake.with_machine(|machine| machine.host_compiler());
        fake.set("PATH", "in");
        assert!(missing(host(&fake)).contains("apt-get install g++"));
        fake.program("in/g++")
            .program("old/g++-11")
            .program("folder/g++");
        assert_eq!(host(&fake).unwrap(), fake.at("in/g++"));
        fake.set("NVCC_CCBIN", "old/g++-11");
        assert_eq!(host(&fake).unwrap(), fake.at("old/g++-11"));
        fake.set("NVCC_CCBIN", "folder");
        assert_eq!(host(&fake).unwrap(), fake.at("folder/g++"));
        fake.raw("NVCC_CCBIN", "g++-99");
        assert!(wrong(host(&fake)).contains("g++-99"));
    }

    #[test]
    fn rejects_unsupported_host_compilers() {
        let check = |gcc| check_gcc(gcc, Some(13), Path::new("/bin/g++"), &Version::new(12, 4));
        assert_eq!(check(Some(13)), Ok(()));
        assert_eq!(check(None), Ok(()));
        assert!(wrong(check(Some(14))).contains("g++-13"));
        assert!(wrong(check(Some(8))).contains("too old"));
    }
}

mod reports {
    use w4ax_build::{Problem, report};

    #[test]
    fn a_missing_tool_is_an_error_only_if_kernels_are_required() {
        let missing = Problem::Missing("there is no nvcc".into());
        let lines = report(&missing, false);
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("cargo::warning=")
                    && line.ends_with("there is no nvcc"))
        );
        assert!(!lines.iter().any(|line| line.starts_with("cargo::error=")));
        assert_eq!(report(&missing, true), ["cargo::error=there is no nvcc"]);
    }

    #[test]
    fn an_invalid_setting_is_always_an_error() {
        let wrong = Problem::Wrong("first line\nsecond line".into());
        for required in [false, true] {
            assert_eq!(
                report(&wrong, required),
                ["cargo::error=first line", "cargo::error=second line"]
            );
        }
    }
}

mod cache {
    use std::path::Path;

    use w4ax_build::cache::folder;

    #[test]
    fn all_profiles_of_a_target_folder_share_the_cache() {
        let kept = Path::new("/t/w4ax-kernels");
        assert_eq!(folder(Path::new("/t/debug/build/w4ax-1/out")), kept);
        assert_eq!(folder(Path::new("/t/release/build/w4ax-2/out")), kept);
        assert_eq!(
            folder(Path::new("/elsewhere/out")),
            Path::new("/elsewhere/out/w4ax-kernels")
        );
    }
}

mod units {
    use std::path::{Path, PathBuf};

    use w4ax_build::units::{Unit, group};

    const SOURCES: [&str; 8] = [
        "k/api/decode_api.cu",
        "k/instances/decode_a.cu",
        "k/instances/decode_b.cu",
        "k/instances/gather.cu",
        "k/instances/latch.cu",
        "k/instances/latch_graph.cu",
        "k/instances/routed_decode.cu",
        "k/runtime/graph.cu",
    ];

    fn grouped(cores: usize) -> Vec<Unit> {
        group(&SOURCES.map(PathBuf::from), cores, |file, text| {
            "// A file of its own: some drivers cannot load it.".starts_with(text)
                && file.ends_with("latch_graph.cu")
        })
    }

    fn file(name: &str) -> Unit {
        Unit::File(name.into())
    }

    fn family(name: &str, files: &[&str]) -> Unit {
        Unit::Family(name.into(), files.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn groups_instances_by_family_on_few_cores() {
        let single = [SOURCES[3], SOURCES[4], SOURCES[6]];
        let expected = [
            family("single", &single),
            family("decode", &SOURCES[1..3]),
            file(SOURCES[5]),
            file(SOURCES[0]),
            file(SOURCES[7]),
        ];
        assert_eq!(grouped(1), expected);
        assert_eq!(grouped(4), expected);
    }

    #[test]
    fn compiles_every_file_alone_on_many_cores() {
        let in_order = [1, 2, 3, 4, 5, 6, 0, 7].map(|i| file(SOURCES[i]));
        assert_eq!(grouped(5), in_order);
    }

    #[test]
    fn writes_the_source_of_a_family_once() {
        let folder = tempfile::tempdir().unwrap();
        let unit = family(
            "decode",
            &["/k/instances/decode_a.cu", "/k/instances/decode_b.cu"],
        );
        let source = unit.source(folder.path()).unwrap();
        assert_eq!(source, folder.path().join("decode.cu"));
        assert_eq!(
            std::fs::read_to_string(&source).unwrap(),
            "#include \"/k/instances/decode_a.cu\"\n#include \"/k/instances/decode_b.cu\"\n"
        );
        let written = |file: &Path| file.metadata().unwrap().modified().unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options()
            .write(true)
            .open(&source)
            .unwrap()
            .set_modified(old)
            .unwrap();
        unit.source(folder.path()).unwrap();
        assert_eq!(written(&source), old, "the same text is not written again");
        family("decode", &["/k/instances/decode_b.cu"])
            .source(folder.path())
            .unwrap();
        assert!(written(&source) > old, "another text is written");
        assert_eq!(
            file("/k/api/gemm.cu").source(folder.path()).unwrap(),
            Path::new("/k/api/gemm.cu")
        );
    }
}

#[cfg(unix)]
mod host {
    use w4ax_build::host::{archive, compiler, target};

    #[test]
    fn selects_a_compiler_with_position_independent_code() {
        let host = compiler(&target()).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(!host.path.as_os_str().is_empty());
        assert!(
            host.flags.iter().any(|flag| flag == "-fPIC"),
            "{:?}",
            host.flags
        );
    }

    #[test]
    fn archives_objects_again_without_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["one.o", "two.o"] {
            std::fs::write(at(name), name).unwrap();
        }
        let names = |objects: &[&str]| {
            let objects: Vec<_> = objects.iter().map(|name| at(name)).collect();
            archive(&target(), &objects, folder.path(), "some").unwrap_or_else(|p| panic!("{p}"));
            let bytes = std::fs::read(at("libsome.a")).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            ["one.o", "two.o"].map(|name| text.contains(name))
        };
        assert_eq!(names(&["one.o", "two.o"]), [true, true]);
        assert_eq!(names(&["two.o"]), [false, true]);
    }
}

//! A program outside of this repository, as pkg-config and CMake let it find the libraries.

use std::path::Path;
use std::process::Command;

use crate::cc::{Language, Libraries, run};
use half::bf16;
use test_support::leave_out;
use w4ax::reference;
use w4ax::{Grouping, MatRef, Quantize, Symmetry, Width};

/// What client.cpp must print: the mirror's bits.
fn expected() -> String {
    let (m, n, k) = (3, 20, 100);
    let plain: Vec<f32> = (0..n * k)
        .map(|i| ((i * 7919 % 201) as f32 - 100.0) / 128.0)
        .collect();
    let weight = Quantize::new(Grouping::G64)
        .symmetry(Symmetry::Asymmetric)
        .pack(MatRef::new(&plain, n, k).unwrap())
        .unwrap();
    let x: Vec<bf16> = (0..m * k)
        .map(|i| bf16::from_f32([1.0, 0.5, 0.25][i % 3]))
        .collect();
    let y = reference::gemm(MatRef::new(&x, m, k).unwrap(), &weight, Width::A8, None).unwrap();
    let rows = y.chunks(n).map(|row| {
        let words: Vec<String> = row.iter().map(|v| format!("{:04x}", v.to_bits())).collect();
        words.join(" ") + "\n"
    });
    rows.collect()
}

/// Runs a client with a file of its own; `lib` where the loader must be told of it.
fn check(client: &Path, lib: Option<&Path>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(client);
    command.arg(folder.path().join("weights.safetensors"));
    if let Some(lib) = lib {
        command
            .env("LD_LIBRARY_PATH", lib)
            .env("DYLD_LIBRARY_PATH", lib);
    }
    let said = String::from_utf8(run(&mut command).stdout).unwrap();
    assert_eq!(said, expected(), "{}", client.display());
}

/// The libraries, moved away from where they were made.
fn moved() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("cp")
        .arg("-R")
        .arg(Libraries::get().root.join("."))
        .arg(folder.path()));
    folder
}

/// Whether a tool runs. A missing one fails the test, unless `W4AX_ALLOW_MISSING_TOOLS=1` is set.
fn has(tool: &str) -> bool {
    let runs = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !runs {
        leave_out("a client of the C ABI", &format!("{tool} does not run"));
    }
    runs
}

#[test]
fn pkg_config_finds_both_libraries() {
    if !has("pkg-config") {
        return;
    }
    let prefix = moved();
    let lib = prefix.path().join("lib");
    for (package, loader) in [("w4ax", Some(lib.as_path())), ("w4ax-static", None)] {
        let ask = |what: &[&str]| {
            let mut command = Command::new("pkg-config");
            command
                .args(what)
                .arg(package)
                .env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
            String::from_utf8(run(&mut command).stdout).unwrap()
        };
        assert_eq!(ask(&["--modversion"]).trim(), env!("CARGO_PKG_VERSION"));
        let flags = ask(&["--cflags", "--libs"]);
        let client = prefix.path().join(package);
        run(Command::new(Language::Cpp.compiler())
            .args([
                "-std=c++11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "tests/capi/client/client.cpp",
            ])
            .args(flags.split_whitespace())
            .arg("-o")
            .arg(&client));
        check(&client, loader);
    }
}

#[test]
fn cmake_finds_both_libraries() {
    if !has("cmake") {
        return;
    }
    let (prefix, build) = (moved(), tempfile::tempdir().unwrap());
    let configure = |version: &str| {
        let source = tempfile::tempdir().unwrap();
        for file in ["CMakeLists.txt", "client.cpp"] {
            let text = std::fs::read_to_string(Path::new("tests/capi/client").join(file)).unwrap();
            std::fs::write(
                source.path().join(file),
                text.replace("w4ax 0.1", &format!("w4ax {version}")),
            )
            .unwrap();
        }
        let mut command = Command::new("cmake");
        command
            .arg("-S")
            .arg(source.path())
            .arg("-B")
            .arg(build.path());
        command.arg(format!("-Dw4ax_ROOT={}", prefix.path().display()));
        (command.output().unwrap(), source)
    };
    let (refused, _) = configure("9.1");
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("w4ax"),
        "{refused:?}"
    );
    std::fs::remove_file(build.path().join("CMakeCache.txt")).unwrap();
    let (made, _source) = configure("0.1");
    assert!(made.status.success(), "{made:?}");
    run(Command::new("cmake").arg("--build").arg(build.path()));
    // CMake tells the loader where the library lies.
    check(&build.path().join("client"), None);
    check(&build.path().join("client-static"), None);
}

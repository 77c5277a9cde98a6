//! A program outside of this repository, which finds the libraries by pkg-config and by CMake.

use std::path::Path;
use std::process::Command;

use half::bf16;
use w4ax::{Grouping, MatRef, Quantize, Symmetry, Width, reference};

use crate::program::{Language, Libraries, has_tool, run, source};

/// The expected output of `client.cpp`: the bits of the scalar reference.
fn expected() -> String {
    let (m, n, k) = (3, 20, 100);
    let plain: Vec<f32> = (0..n * k)
        .map(|i| ((i * 7919 % 201) as f32 - 100.0) / 128.0)
        .collect();
    let weight = Quantize::new(Grouping::G64)
        .with_symmetry(Symmetry::Asymmetric)
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

/// Runs a client. `lib` is the folder of the shared library, if the loader needs it.
fn check(client: &Path, lib: Option<&Path>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(client);
    command.arg(folder.path().join("weights.safetensors"));
    if let Some(lib) = lib {
        command
            .env("LD_LIBRARY_PATH", lib)
            .env("DYLD_LIBRARY_PATH", lib);
    }
    let output = String::from_utf8(run(&mut command).stdout).unwrap();
    assert_eq!(output, expected(), "{}", client.display());
}

/// Copies the libraries to another folder, because they are relocatable.
fn relocated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("cp")
        .arg("-R")
        .arg(Libraries::get().root.join("."))
        .arg(folder.path()));
    folder
}

#[test]
fn pkg_config_finds_both_libraries() {
    if !has_tool("pkg-config", "the client that uses pkg-config") {
        return;
    }
    let prefix = relocated();
    let lib = prefix.path().join("lib");
    for (package, loader) in [("w4ax", Some(lib.as_path())), ("w4ax-static", None)] {
        let query = |options: &[&str]| {
            let mut command = Command::new("pkg-config");
            command
                .args(options)
                .arg(package)
                .env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
            String::from_utf8(run(&mut command).stdout).unwrap()
        };
        assert_eq!(query(&["--modversion"]).trim(), env!("CARGO_PKG_VERSION"));
        let flags = query(&["--cflags", "--libs"]);
        let client = prefix.path().join(package);
        run(Command::new(Language::Cpp.compiler())
            .args(["-std=c++11", "-Wall", "-Wextra", "-Werror"])
            .arg(source("client/client.cpp"))
            .args(flags.split_whitespace())
            .arg("-o")
            .arg(&client));
        check(&client, loader);
    }
}

#[test]
fn cmake_finds_both_libraries() {
    if !has_tool("cmake", "the client that uses CMake") {
        return;
    }
    let (prefix, build) = (relocated(), tempfile::tempdir().unwrap());
    let configure = |version: &str| {
        let folder = tempfile::tempdir().unwrap();
        for file in ["CMakeLists.txt", "client.cpp"] {
            let text = std::fs::read_to_string(source("client").join(file)).unwrap();
            let text = text.replace("w4ax 0.1", &format!("w4ax {version}"));
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let mut command = Command::new("cmake");
        command.arg("-S").arg(folder.path());
        command.arg("-B").arg(build.path());
        command.arg(format!("-Dw4ax_ROOT={}", prefix.path().display()));
        (command.output().unwrap(), folder)
    };
    // Another minor version is incompatible.
    let (refused, _) = configure("9.1");
    assert!(!refused.status.success());
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("w4ax"), "{errors}");
    std::fs::remove_file(build.path().join("CMakeCache.txt")).unwrap();
    let (configured, _source) = configure("0.1");
    assert!(configured.status.success(), "{configured:?}");
    run(Command::new("cmake").arg("--build").arg(build.path()));
    // CMake stores the folder of the shared library in the program.
    check(&build.path().join("client"), None);
    check(&build.path().join("client-static"), None);
}

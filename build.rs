//! Compiles the CUDA kernels, with feature `cuda` only: without it this needs nothing but Rust.

#[path = "build/mod.rs"]
mod build;

use std::path::{Path, PathBuf};

use build::kernels::{self, SETTINGS};
use build::toolchain::Machine;
use build::{Problem, archs};

fn setting(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// A folder or text that cargo sets for build scripts.
fn cargo(name: &str) -> PathBuf {
    setting(name)
        .unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
        .into()
}

fn main() {
    println!("cargo::rustc-check-cfg=cfg(w4ax_kernels)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    // Not by RUSTFLAGS, for which everything that the crate depends on would be compiled anew.
    println!("cargo::rerun-if-env-changed=W4AX_PORTABLE");
    if kernels::flag(&setting, "W4AX_PORTABLE") {
        println!("cargo::rustc-cfg=w4ax_portable");
    }
    if setting("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in SETTINGS {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(problem) = with_kernels() {
        for line in build::report(&problem, kernels::flag(&setting, "W4AX_REQUIRE_CUDA")) {
            println!("{line}");
        }
    }
}

fn with_kernels() -> Result<(), Problem> {
    let root = cargo("CARGO_MANIFEST_DIR");
    let out = cargo("OUT_DIR");
    if cargo("HOST") != cargo("TARGET") {
        return Err(Problem::Missing(format!(
            "kernels are compiled on the kind of machine that will run them, and {} is not {}",
            cargo("HOST").display(),
            cargo("TARGET").display()
        )));
    }
    let machine = Machine::here(&setting, &root);
    let tools = kernels::tools(&machine).inspect_err(|_| watch_for_tools(&root))?;
    if !tools.nvcc.explicit && !tools.nvcc.path.starts_with(&root) {
        watch_for_tools(&root);
    }
    watch(&tools.nvcc.path);
    watch(&root.join("kernels"));
    let plan = kernels::plan(&tools, &setting)?;
    let built = kernels::build(&plan, &root.join("kernels"), &out)?;
    built.files.iter().for_each(|file| watch(file));
    for line in &built.warnings {
        println!("cargo::warning={line}");
    }

    println!("cargo::rustc-cfg=w4ax_kernels");
    println!(
        "cargo::rustc-env=W4AX_KERNEL_ARCHS={}",
        archs::list(&plan.archs)
    );
    println!("cargo::rustc-env=W4AX_NVCC_VERSION={}", tools.nvcc_version);
    println!(
        "cargo::rustc-env=W4AX_CUTLASS_VERSION={}",
        tools.cutlass_version
    );
    println!(
        "cargo::rustc-env=W4AX_KERNEL_LIBRARY={}",
        out.join(kernels::LIBRARY).display()
    );
    // For crates/gpu-model, which reads the machine code.
    println!(
        "cargo::metadata=library={}",
        out.join(kernels::LIBRARY).display()
    );
    println!("cargo::rustc-link-search=native={}", out.display());
    println!(
        "cargo::rustc-link-search=native={}",
        tools.runtime.display()
    );
    for library in [
        "static=w4ax_kernels",
        "static=cudart_static",
        "stdc++",
        "dl",
        "rt",
        "pthread",
    ] {
        println!("cargo::rustc-link-lib={library}");
    }
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

/// Runs this again when better tools than those at hand may have come: fetched ones, or others in PATH.
fn watch_for_tools(root: &Path) {
    watch(&root.join("third_party"));
    println!("cargo::rerun-if-env-changed=PATH");
}

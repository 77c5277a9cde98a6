//! Compiles the CUDA kernels with feature `cuda`, by the crate `w4ax-build`. Without the feature
//! this needs nothing but Rust.

use std::ffi::OsString;

fn setting(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn main() {
    println!("cargo::rustc-check-cfg=cfg(w4ax_kernels, w4ax_software_device)");
    println!("cargo::rerun-if-changed=build.rs");
    // A setting instead of RUSTFLAGS, with which all dependencies would be compiled again.
    println!("cargo::rerun-if-env-changed=W4AX_PORTABLE");
    if setting("W4AX_PORTABLE").is_some_and(|value| !value.is_empty() && value != "0") {
        println!("cargo::rustc-cfg=w4ax_portable");
    }
    #[cfg(feature = "cuda")]
    cuda::main();
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::{Path, PathBuf};

    use w4ax_build::kernels::{self, SETTINGS};
    use w4ax_build::toolchain::Machine;
    use w4ax_build::{Problem, archs, host, software};

    use super::setting;

    /// Returns a folder or text that cargo sets for build scripts.
    fn cargo(name: &str) -> PathBuf {
        setting(name)
            .unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
            .into()
    }

    pub fn main() {
        for name in SETTINGS.iter().chain(software::SETTINGS) {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let built = match kernels::flag(&setting, software::SETTING) {
            true => on_software_device(),
            false => with_kernels(),
        };
        if let Err(problem) = built {
            let required = kernels::flag(&setting, "W4AX_REQUIRE_CUDA");
            for line in w4ax_build::report(&problem, required) {
                println!("{line}");
            }
        }
    }

    fn with_kernels() -> Result<(), Problem> {
        let root = cargo("CARGO_MANIFEST_DIR");
        let out = cargo("OUT_DIR");
        let target = cargo("TARGET").display().to_string();
        if cargo("HOST") != cargo("TARGET") {
            return Err(Problem::Missing(format!(
                "kernels cannot be cross-compiled from {} to {target}: compile them on the target",
                cargo("HOST").display(),
            )));
        }
        let host = host::compiler(&target)?;
        let machine = Machine::here(&setting, &root, host.path);
        let tools = kernels::tools(&machine).inspect_err(|_| watch_for_tools(&root))?;
        if !tools.nvcc.explicit && !tools.nvcc.path.starts_with(&root) {
            watch_for_tools(&root);
        }
        watch(&tools.nvcc.path);
        watch(&root.join("kernels"));
        let plan = kernels::plan(&tools, &setting, &host.flags)?;
        let built = kernels::build(&plan, &target, &root.join("kernels"), &out)?;
        built.files.iter().for_each(|file| watch(file));
        for line in &built.warnings {
            println!("cargo::warning={line}");
        }

        println!("cargo::rustc-cfg=w4ax_kernels");
        let library = kernels::library(&out).display().to_string();
        for (name, value) in [
            ("W4AX_KERNEL_ARCHS", archs::list(&plan.archs)),
            ("W4AX_NVCC_VERSION", tools.nvcc_version.to_string()),
            ("W4AX_CUTLASS_VERSION", tools.cutlass_version.to_string()),
            ("W4AX_KERNEL_LIBRARY", library.clone()),
        ] {
            println!("cargo::rustc-env={name}={value}");
        }
        // For crates/gpu-model, which reads the machine code.
        println!("cargo::metadata=library={library}");
        for folder in [&out, &tools.runtime] {
            println!("cargo::rustc-link-search=native={}", folder.display());
        }
        for library in ["static=w4ax_kernels", "static=cudart_static"] {
            println!("cargo::rustc-link-lib={library}");
        }
        for library in ["stdc++", "dl", "rt", "pthread"] {
            println!("cargo::rustc-link-lib={library}");
        }
        Ok(())
    }

    /// A build for tests on a machine without a GPU: kernels, runtime and driver are emulated.
    fn on_software_device() -> Result<(), Problem> {
        let root = cargo("CARGO_MANIFEST_DIR");
        let out = cargo("OUT_DIR");
        watch(&root.join("kernels"));
        software::build(&setting, &root, &out)?;
        println!(
            "cargo::warning={} is set: this build runs its CUDA kernels on an emulated device, for \
             tests only",
            software::SETTING
        );
        println!("cargo::rustc-cfg=w4ax_kernels");
        println!("cargo::rustc-cfg=w4ax_software_device");
        for (name, value) in [
            ("W4AX_KERNEL_ARCHS", software::ARCHS),
            ("W4AX_NVCC_VERSION", "(none: emulated)"),
            ("W4AX_CUTLASS_VERSION", "(emulated)"),
        ] {
            println!("cargo::rustc-env={name}={value}");
        }
        // cargo adds this folder, as one of its own, to the search path of the programs that it
        // runs. The driver's library is found there too.
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=dylib=w4ax_kernels");
        Ok(())
    }

    fn watch(path: &Path) {
        println!("cargo::rerun-if-changed={}", path.display());
    }

    /// Runs the build script again once better tools may be available: fetched ones, or others in
    /// PATH.
    fn watch_for_tools(root: &Path) {
        watch(&root.join("third_party"));
        println!("cargo::rerun-if-env-changed=PATH");
    }
}

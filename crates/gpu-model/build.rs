//! Passes the path of the compiled kernels, which w4ax's build script reports, to the sources of
//! this crate.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_W4AX_KERNELS_LIBRARY");
    if let Ok(library) = std::env::var("DEP_W4AX_KERNELS_LIBRARY") {
        println!("cargo::rustc-env=W4AX_KERNEL_LIBRARY={library}");
    }
}

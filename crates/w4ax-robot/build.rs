//! Sets `W4AX_ROOT`, the folder of the workspace, for the paths of data files.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let root = root.expect("the crate is two folders below the workspace");
    println!("cargo::rustc-env=W4AX_ROOT={}", root.display());
    println!("cargo::rerun-if-changed=build.rs");
}

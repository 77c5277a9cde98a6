//! The built examples.

use std::path::PathBuf;

/// Where cargo put an example: beside the folder of the running test. `cargo test` builds the examples with the tests.
///
/// # Panics
/// If it is not there.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = profile.join("examples").join(file);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo test` without a choice of targets, or `cargo build --examples` of the same profile and features first",
        path.display()
    );
    path
}

//! The software CUDA device, for tests on a machine without a GPU: the kernels' own sources run in
//! the emulator of `kernels/emulate`, below a driver library that stands in for NVIDIA's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Problem;

/// The setting that builds for the software device in place of a GPU.
pub const SETTING: &str = "W4AX_SOFTWARE_DEVICE";

/// Other settings that affect the build.
pub const SETTINGS: &[&str] = &[
    SETTING,
    "W4AX_EMULATE_DIR",
    "W4AX_EMULATE_CXX",
    "W4AX_CUDA_INCLUDE",
    "W4AX_CCCL_INCLUDE",
    "W4AX_CUTLASS_INCLUDE",
];

/// The architectures whose kernels are emulated, as
/// [`BuildPlan::archs`](crate::kernels::BuildPlan) lists those of a GPU.
pub const ARCHS: &str = "80;90a;120";

/// The libraries, in the order of `kernels/emulate/build --help`.
const LIBRARIES: [&str; 5] = [
    "libcuda.so.1",
    "libw4ax_kernels.so",
    "libw4ax_emulated_kernels-800.so",
    "libw4ax_emulated_kernels-900.so",
    "libw4ax_emulated_kernels-1200.so",
];

/// Builds the software device by `kernels/emulate/build`, and links its libraries into the folder
/// `out`, from which cargo lets programs load them.
///
/// # Errors
/// `Problem::Wrong` with the output of the script if it fails.
pub fn build(
    setting: &dyn Fn(&str) -> Option<OsString>,
    root: &Path,
    out: &Path,
) -> Result<(), Problem> {
    let script = root.join("kernels/emulate/build");
    let folder =
        setting("W4AX_EMULATE_DIR").map_or_else(|| root.join("target/emulate"), PathBuf::from);
    let jobs = setting("NUM_JOBS").unwrap_or_else(|| "1".into());
    let built = Command::new(&script)
        .args(["--only", "device", "--jobs"])
        .arg(jobs)
        .arg("--out")
        .arg(&folder)
        .output()
        .map_err(|error| Problem::Wrong(format!("{}: {error}", script.display())))?;
    if !built.status.success() {
        return Err(Problem::Wrong(format!(
            "{} --only device failed:\n{}{}",
            script.display(),
            String::from_utf8_lossy(&built.stdout),
            String::from_utf8_lossy(&built.stderr)
        )));
    }
    for library in LIBRARIES {
        place(&folder.join("device").join(library), &out.join(library))
            .map_err(|error| Problem::Wrong(format!("{library}: {error}")))?;
    }
    Ok(())
}

/// Makes `at` a link to a file: the libraries need not be copied after each build.
fn place(file: &Path, at: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(file.canonicalize()?, at)?;
    #[cfg(not(unix))]
    std::fs::copy(file, at)?;
    Ok(())
}

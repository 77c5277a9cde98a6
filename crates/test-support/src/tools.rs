//! Tools that a test needs besides Rust.

use std::io::Write;

/// Reports that part of a test is left out because a tool is missing.
///
/// The report is on standard error even if the test passes: it is not captured.
///
/// # Panics
/// Unless `W4AX_ALLOW_MISSING_TOOLS=1` is set: a test that cannot run has failed.
pub fn leave_out(part: &str, reason: &str) {
    assert!(
        allows_missing_tools(),
        "{part} cannot run: {reason} (W4AX_ALLOW_MISSING_TOOLS=1 leaves it out)"
    );
    let _ = writeln!(std::io::stderr(), "left out: {part}: {reason}");
}

/// Whether `W4AX_ALLOW_MISSING_TOOLS=1` is set.
fn allows_missing_tools() -> bool {
    std::env::var_os("W4AX_ALLOW_MISSING_TOOLS").is_some_and(|value| value == "1")
}

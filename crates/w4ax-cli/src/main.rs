//! The binary `w4ax`.

use std::process::ExitCode;

fn main() -> ExitCode {
    w4ax_cli::main()
}

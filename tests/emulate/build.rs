//! Builds the emulator's programs with `kernels/emulate/build`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use test_support::leave_out;

/// The sanitizer that the kernels are built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Plain,
    /// ASan and UBSan.
    Address,
    /// TSan.
    Thread,
}

impl Variant {
    pub const ALL: [Variant; 3] = [Variant::Plain, Variant::Address, Variant::Thread];

    pub fn name(self) -> &'static str {
        match self {
            Variant::Plain => "plain",
            Variant::Address => "address",
            Variant::Thread => "thread",
        }
    }

    /// The architectures that the variant is tested for.
    ///
    /// They differ in one of three tensor core instructions, and a build with a sanitizer takes
    /// minutes, so each sanitizer has one architecture.
    pub fn architectures(self) -> &'static [u32] {
        match self {
            Variant::Plain => &[800, 900],
            Variant::Address => &[800],
            Variant::Thread => &[900],
        }
    }
}

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The emulator's own tests.
    SelfTests,
    /// The runners of the kernels.
    Kernels,
    /// The software driver and its tests.
    Driver,
}

/// Returns the folder of the built programs: `W4AX_EMULATE_DIR`, by default `target/emulate`.
pub fn directory() -> PathBuf {
    env::var_os("W4AX_EMULATE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/emulate"),
        PathBuf::from,
    )
}

/// Brings a part up to date for the variant's architectures.
///
/// Returns false if the variant is left out because its sanitizer does not work.
///
/// # Panics
/// If the build fails, with its output. Also if the sanitizer does not work, unless
/// `W4AX_ALLOW_MISSING_TOOLS=1` is set.
pub fn build(part: Part, variant: Variant) -> bool {
    build_for(part, variant, variant.architectures())
}

/// As [`build`], for the given architectures.
pub fn build_for(part: Part, variant: Variant, architectures: &[u32]) -> bool {
    type Key = (Part, Variant, Vec<u32>);
    static BUILT: Mutex<Vec<(Key, bool)>> = Mutex::new(Vec::new());
    let key = (part, variant, architectures.to_vec());
    let mut built = BUILT.lock().expect("an earlier build failed");
    if let Some((_, complete)) = built.iter().find(|(done, _)| *done == key) {
        return *complete;
    }
    let complete = run_script(part, variant, architectures);
    built.push((key, complete));
    complete
}

fn run_script(part: Part, variant: Variant, architectures: &[u32]) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulate/build");
    let architectures: Vec<String> = architectures.iter().map(u32::to_string).collect();
    let only = match part {
        Part::SelfTests => "tests",
        Part::Kernels => "kernels",
        Part::Driver => "driver",
    };
    let output = Command::new(&script)
        .args(["--only", only, "--variants", variant.name(), "--archs"])
        .arg(architectures.join(" "))
        .arg("--out")
        .arg(directory())
        .output()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", script.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "kernels/emulate/build failed:\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut complete = true;
    for reason in text
        .lines()
        .filter_map(|line| line.strip_prefix("left out: "))
    {
        leave_out(&format!("{part:?} of the emulator"), reason);
        complete = false;
    }
    complete
}

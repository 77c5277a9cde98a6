//! The emulator's own tests, `kernels/emulate/tests`: fragment layouts against CuTe's traits,
//! collectives, and planted faults, each of which the builds that can detect it must detect.

use crate::build::{Part, Variant, build, directory};
use std::process::Command;

fn check(variant: Variant) {
    if !build(Part::SelfTests, variant) {
        return;
    }
    for name in ["atoms", "collectives", "faults", "quantize", "warpgroup"] {
        let program = directory().join(format!("{name}-{}", variant.name()));
        let output = Command::new(&program)
            .output()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(
            output.status.success(),
            "{name}-{}:\n{text}{}",
            variant.name(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn pass_without_sanitizer() {
    check(Variant::Plain);
}

#[test]
fn pass_under_asan_and_ubsan() {
    check(Variant::Address);
}

#[test]
fn pass_under_tsan() {
    check(Variant::Thread);
}

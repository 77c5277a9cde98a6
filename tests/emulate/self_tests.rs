//! The emulator's own tests, `kernels/emulate/tests`: fragment layouts against CuTe's traits,
//! collectives, and planted faults, each of which the builds that can detect it must detect. Those
//! of the software driver, `kernels/emulate/driver/tests`.

use crate::build::{Part, Variant, build, directory};
use std::process::Command;

fn check(variant: Variant) {
    if !build(Part::SelfTests, variant) {
        return;
    }
    for name in ["atoms", "collectives", "faults", "quantize", "warpgroup"] {
        let program = format!("{name}-{}", variant.name());
        run(&program, &mut Command::new(directory().join(&program)));
    }
}

fn run(name: &str, program: &mut Command) {
    let output = program
        .output()
        .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success(),
        "{name}:\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs the tests of the software driver. With a sanitizer, also with a driver that is instrumented
/// itself.
fn check_driver(variant: Variant) {
    if !build(Part::Driver, variant) {
        return;
    }
    let name = format!("driver-tests-{}", variant.name());
    let program = directory().join(&name);
    run(&name, &mut Command::new(&program));
    if variant != Variant::Plain {
        let checked = directory().join(format!("checked-{}", variant.name()));
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", checked);
        command.env("W4AX_DRIVER_CHECKED", "1");
        run(&format!("{name} with the checked driver"), &mut command);
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

#[test]
fn driver_passes_without_sanitizer() {
    check_driver(Variant::Plain);
}

#[test]
fn driver_passes_under_asan_and_ubsan() {
    check_driver(Variant::Address);
}

#[test]
fn driver_passes_under_tsan() {
    check_driver(Variant::Thread);
}

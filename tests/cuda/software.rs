//! The software device (`W4AX_SOFTWARE_DEVICE=1`): the tests of this program on other devices and
//! drivers that it plays, each in a process of its own.
//!
//! The tests of this process run on the device that `W4AX_DEVICE_PLAY` names, by default one of
//! sm_80. `kernels/emulate/driver/play.h` lists its settings.

use std::io::Write;
use std::process::Command;

/// What the tests find on the software device, and what only a GPU can show.
const DIFFERENCES: &str = "\
the software device differs from a GPU:
- sizes are smaller (`scaled` and `cases` of tests/cuda/harness.rs), and M is at most 130 but for
  one test; the CPU, not the plain kernels, checks large sums;
- kernels are compiled by clang, run one grid at a time on the thread of their stream, and have the
  registers, spills and times of no GPU; a latch that polls delays the kernels of other streams;
- %globaltimer is 16 times slower than the host's clock, so that a loaded host stores words in time;
- BF16 sums are rounded in the reference's order, which no tensor core does;
- the runtime's functions are this repository's; a driver of CUDA 12 has a runtime of CUDA 12.0;
- sm_120 runs the code for sm_90, without the wgmma family;
- fences order nothing, and loads before griddepcontrol.wait see what the previous grid has written.
";

/// The tests that depend on the driver and the architecture rather than on the kernels, without the
/// longest ones.
const HOST: [&str; 8] = [
    "device::",
    "failing::",
    "graphs::",
    "latch::latch",
    "latch::spin",
    "routing::all_routings",
    "routing::graph_branches",
    "routing::late_decision",
];

#[test]
fn prints_what_differs() {
    // Not by println, which tests capture.
    std::io::stderr().write_all(DIFFERENCES.as_bytes()).unwrap();
}

/// Settings of the device that this process has.
fn played() -> String {
    std::env::var("W4AX_DEVICE_PLAY").unwrap_or_default()
}

/// Runs tests of this program in a process of its own, on another device. Fails unless each of
/// them passes and there is at least one.
fn run(play: &str, arguments: &[&str]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .args(["--skip", "software::"])
        .env("W4AX_DEVICE_PLAY", play)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{play}: {}\n{text}\n{errors}",
        output.status
    );
    let result = (text
        .lines()
        .find(|line| line.starts_with("test result: ok. ")))
    .unwrap_or_else(|| panic!("{play}: no result\n{text}"));
    assert!(
        !result.contains(" ok. 0 passed") && result.contains("; 0 ignored"),
        "{play}: {result}"
    );
    println!("{play}: {result}");
}

/// Runs one test in a process of its own, on the device of this one with further settings. Returns
/// false in that process, where the test itself runs.
pub fn alone(test: &str, settings: &str) -> bool {
    const ALONE: &str = "W4AX_TEST_ALONE";
    if std::env::var(ALONE).is_ok_and(|name| name == test) {
        return false;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("W4AX_DEVICE_PLAY", format!("{},{settings}", played()))
        .env(ALONE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// Everything on sm_90: s8 instructions for 4-bit activations, the wgmma family, overlapping
/// launches.
#[test]
fn all_tests_pass_on_sm_90() {
    run("arch=90", &[]);
}

/// The architectures that differ by their properties, not by their kernels.
#[test]
fn host_tests_pass_on_sm_87_and_sm_120() {
    for play in ["arch=87", "arch=120"] {
        run(play, &HOST);
    }
}

/// Drivers without conditional nodes, and without SWITCH nodes.
#[test]
fn host_tests_pass_on_old_drivers() {
    for play in ["driver=12030", "arch=90,driver=12060"] {
        run(play, &HOST);
    }
}

/// The first and the second call of each function fail: every test that meets the error panics with
/// it, and the process ends as usual. It does not crash, hang, or report a success.
#[test]
fn failing_calls_become_errors() {
    for function in [
        "cuMemAllocAsync",
        "cuMemHostAlloc",
        "cuStreamBeginCaptureToGraph",
        "cuStreamEndCapture",
        "cuStreamGetCaptureInfo_v3",
        "cuGraphAddNode_v2",
        "cuGraphConditionalHandleCreate",
        "cuGraphInstantiateWithFlags",
        "cuGraphLaunch",
        "cuLaunchKernelEx",
        "cuStreamSynchronize",
        "cuFuncGetAttribute",
        "cuDevicePrimaryCtxRetain",
        "launch",
    ] {
        for call in 1..=2 {
            let play = format!("fail={function}:{call}");
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--test-threads=1",
                    "latch::latch_accepts",
                    "skip::step_without",
                ])
                .env("W4AX_DEVICE_PLAY", &play)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            // One graph is instantiated. 86: the driver reports what a failed call has left behind.
            let passes = function == "cuGraphInstantiateWithFlags" && call == 2;
            let expected: &[i32] = if passes { &[0] } else { &[101, 86] };
            assert!(
                (output.status.code()).is_some_and(|code| expected.contains(&code)),
                "{play}: {}\n{text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(text.contains("FAILED"), !passes, "{play}: {text}");
        }
    }
}

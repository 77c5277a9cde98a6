//! The size of a kit that scripts/gpu-kit gathers, with fake build tools.

use super::*;

/// Prints two programs of tests and a bench, as cargo's JSON does.
const CARGO: &str = r#"#!/usr/bin/env bash
here=$(dirname "$0")
for target in test:cuda test:gpu bench:cuda; do
    echo "{\"target\":{\"kind\":[\"${target%:*}\"],\"name\":\"${target#*:}\"},\"executable\":\"$here/program\"}"
done
"#;
const PROGRAM: &str = "#!/usr/bin/env bash\necho 90a\nexit\n";
const STRIP: &str = "#!/usr/bin/env bash\ncp \"$4\" \"$3\"\n";
const OBJDUMP: &str = "#!/usr/bin/env bash\necho GLIBC_2.34\n";

/// Returns the output of gpu-kit with programs of `mib` MiB each, and its folder.
fn gather(mib: usize, options: &[&str]) -> (std::process::Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [
        ("cargo", CARGO),
        ("program", PROGRAM),
        ("strip", STRIP),
        ("objdump", OBJDUMP),
        (
            "g++",
            "#!/usr/bin/env bash\necho \"$(dirname \"$0\")/library\"\n",
        ),
        ("library", ""),
    ] {
        write_program(&at(name), text);
    }
    let mut program = PROGRAM.as_bytes().to_vec();
    program.resize(mib << 20, b'\n');
    fs::write(at("program"), program).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::iter::once(folder.path().to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new(script("gpu-kit"))
        .args(["--archs", "90a", "--out"])
        .arg(at("kit"))
        .args(options)
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap();
    println!("{}", text_of(&output));
    (output, folder)
}

#[test]
fn kit_above_the_limit_is_an_error() {
    // Three programs.
    let (output, _) = gather(10, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = text_of(&output);
    assert!(
        text.contains("the kit has 31 MiB: expected at most 30"),
        "{text}"
    );
    let (output, _) = gather(10, &["--limit", "31"]);
    assert!(output.status.success());
    let (output, _) = gather(1, &["--limit", "3"]);
    assert!(!output.status.success());
}

/// A gathered kit is complete: its `run` finds its package, its programs and its description.
#[test]
fn gathered_kit_runs() {
    let Some(mut python) = python3("gathered_kit_runs") else {
        return;
    };
    let (output, folder) = gather(1, &[]);
    assert!(output.status.success());
    let kit = folder.path().join("kit");
    assert_eq!(
        entries(&kit),
        ["bin", "gpu-peers", "gpu_kit", "kit.json", "lib", "run"]
    );
    assert_eq!(entries(&kit.join("bin")), ["bench", "test", "test-capi"]);
    assert_eq!(read_json(&kit.join("kit.json"))["built_for"], "90a");
    let output = python.arg(kit.join("run")).arg("--list").output().unwrap();
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("bench::decode"), "{text}");
    assert!(!entries(&kit).contains(&"out".to_owned()));
    assert!(!kit.join("gpu_kit/__pycache__").exists());
}

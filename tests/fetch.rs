//! Runs `third_party/fetch` on wheels made here: its messages, and that no failure leaves an
//! incomplete tree that counts as complete.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MAKE_WHEEL: &str = r#"
import sys, zipfile
path, text = sys.argv[1:]
info = "libclang-1.0.dist-info"
with zipfile.ZipFile(path, "w") as wheel:
    wheel.writestr("libclang-1.0.data/platlib/clang/native/libclang.so", text)
    wheel.writestr("clang/cindex.py", "not wanted")
    wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\nName: libclang\nVersion: 1.0\n")
    wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "/RECORD", "")
"#;

/// A copy of the script with pins of one wheel, which pip finds in a local folder only.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let copy = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(copy.at("third_party")).unwrap();
        std::fs::create_dir(copy.at("index")).unwrap();
        for file in ["fetch", "fetch.py"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("third_party")
                .join(file);
            std::fs::copy(source, copy.at("third_party").join(file)).unwrap();
        }
        copy.publish("first");
        copy
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn wheel(&self) -> PathBuf {
        self.at("index/libclang-1.0-py3-none-any.whl")
    }

    fn library(&self) -> Option<String> {
        std::fs::read_to_string(self.at("third_party/libclang/lib/libclang.so")).ok()
    }

    /// Publishes a wheel with this content in the index, and pins it.
    fn publish(&self, text: &str) {
        let made = Command::new("python3")
            .args(["-c", MAKE_WHEEL])
            .arg(self.wheel())
            .arg(text)
            .status();
        assert!(made.expect("python3 is there").success());
        let sum = Command::new("sha256sum")
            .arg(self.wheel())
            .output()
            .expect("sha256sum is there");
        let sum = String::from_utf8(sum.stdout).unwrap();
        self.pin(sum.split_whitespace().next().unwrap());
    }

    fn pin(&self, hash: &str) {
        let pins = format!("# [libclang]  one wheel\nlibclang==1.0 \\\n    --hash=sha256:{hash}\n");
        std::fs::write(self.at("third_party/wheels.txt"), pins).unwrap();
    }

    fn fetch(&self, arguments: &[&str]) -> Output {
        Command::new(self.at("third_party/fetch"))
            .args(arguments)
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", self.at("index"))
            .output()
            .expect("the script runs")
    }

    fn succeeds(&self) -> String {
        let output = self.fetch(&[]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.fetch(arguments);
        assert!(
            !output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn fetches_again_only_if_the_pin_changes() {
    let copy = Copy::new();
    assert_eq!(
        copy.succeeds(),
        "libclang: libclang 1.0 fetched and unpacked in third_party/libclang\n"
    );
    assert_eq!(copy.library().as_deref(), Some("first"));
    assert!(
        !copy.at("third_party/libclang/clang/cindex.py").exists(),
        "only the selected files are unpacked"
    );
    // Present needs neither pip nor the index.
    std::fs::remove_file(copy.wheel()).unwrap();
    assert_eq!(copy.succeeds(), "libclang: libclang 1.0 present\n");
    copy.publish("second");
    assert!(copy.succeeds().contains("fetched"));
    assert_eq!(copy.library().as_deref(), Some("second"));
    let mut left: Vec<_> = std::fs::read_dir(copy.at("third_party"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [".lock", "fetch", "fetch.py", "libclang", "wheels.txt"]
    );
}

#[test]
fn ignores_the_remains_of_a_killed_run() {
    let copy = Copy::new();
    // Killed while pip wrote the wheel, and while the tree was unpacked.
    std::fs::create_dir_all(copy.at("third_party/.wheels")).unwrap();
    let half = &std::fs::read(copy.wheel()).unwrap()[..100];
    std::fs::write(
        copy.at("third_party/.wheels/libclang-1.0-py3-none-any.whl"),
        half,
    )
    .unwrap();
    std::fs::create_dir_all(copy.at("third_party/.unpacking-libclang/lib")).unwrap();
    std::fs::write(copy.at("third_party/.unpacking-libclang/lib/half"), "half").unwrap();
    // A tree without a stamp, from another source.
    std::fs::create_dir_all(copy.at("third_party/libclang/lib")).unwrap();
    std::fs::write(copy.at("third_party/libclang/lib/foreign"), "").unwrap();
    assert!(copy.succeeds().contains("fetched"));
    assert_eq!(copy.library().as_deref(), Some("first"));
    for gone in [
        ".wheels",
        ".unpacking-libclang",
        "libclang/lib/half",
        "libclang/lib/foreign",
    ] {
        assert!(
            !copy.at("third_party").join(gone).exists(),
            "{gone} is left"
        );
    }
}

#[test]
fn reuses_a_complete_wheel() {
    let copy = Copy::new();
    std::fs::create_dir_all(copy.at("third_party/.wheels")).unwrap();
    std::fs::rename(
        copy.wheel(),
        copy.at("third_party/.wheels/libclang-1.0-py3-none-any.whl"),
    )
    .unwrap();
    assert!(copy.succeeds().contains("fetched"));
}

#[test]
fn rejects_a_wrong_hash_and_keeps_the_old_tree() {
    let copy = Copy::new();
    copy.succeeds();
    copy.pin(&"0".repeat(64));
    let message = copy.fails(&[]);
    assert!(
        message.contains("libclang 1.0") && message.contains("HASHES"),
        "{message}"
    );
    assert_eq!(copy.library().as_deref(), Some("first"));
}

#[test]
fn failures_contain_the_remedy() {
    let copy = Copy::new();
    std::fs::remove_file(copy.wheel()).unwrap();
    let message = copy.fails(&["libclang"]);
    assert!(
        message.contains("check the network") && message.contains("run this again"),
        "{message}"
    );
    let message = copy.fails(&["cude"]);
    assert!(
        message.contains("unknown component cude") && message.contains("libclang"),
        "{message}"
    );
    std::fs::write(
        copy.at("third_party/wheels.txt"),
        "# [libclang]\nlibclang==1.0\n",
    )
    .unwrap();
    let message = copy.fails(&[]);
    assert!(message.contains("not a pinned, hashed wheel"), "{message}");
    let output = Command::new(copy.at("third_party/fetch"))
        .env("PYTHON", "python-that-does-not-exist")
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && message.contains("install Python"),
        "{message}"
    );
}

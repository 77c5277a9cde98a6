//! `w4ax distill`: its files, its options, and what it rejects.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use w4ax::skip::{Layers, SkipFile};

use test_support::TensorFile;
use w4ax_robot::shapes::OBS;

/// A folder with a policy of 16 blocks and 64 rows, of which a quarter is for validation.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        const ROWS: usize = 64;
        let folder = tempfile::tempdir().unwrap();
        let mut rows = TensorFile::new();
        let floats = (0..ROWS * OBS).map(|i| (i * 29 % 97) as f32 / 48.0 - 1.0);
        let floats = floats.flat_map(f32::to_le_bytes).collect();
        rows.set("obs", Dtype::F32, &[ROWS, OBS], floats);
        let column = |of: fn(usize) -> usize| (0..ROWS).map(of);
        for (name, of) in [
            ("task", (|i| i / 32) as fn(usize) -> usize),
            ("phase", |i| i % 8),
            ("noisy", |_| 0),
            ("val", |i| usize::from(i % 4 == 3)),
        ] {
            let bytes = column(of).map(|x| x as u8).collect();
            rows.set(name, Dtype::U8, &[ROWS], bytes);
        }
        rows.set("tokens", Dtype::U8, &[ROWS, 7], vec![3; 7 * ROWS]);
        for (name, of) in [
            ("episode", (|i| i / 16) as fn(usize) -> usize),
            ("t", |i| i % 16),
        ] {
            let words = column(of).flat_map(|x| (x as i32).to_le_bytes());
            rows.set(name, Dtype::I32, &[ROWS], words.collect());
        }
        let bench = Self(folder);
        std::fs::write(bench.at("rows"), rows.bytes()).unwrap();
        std::fs::write(bench.at("policy"), TensorFile::policy(16, 32, 48).bytes()).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Two steps of each stage, with a checkpoint at each step.
    fn distill(&self, out: &str, options: &[&str]) -> Output {
        let usual = [
            ["--policy", "policy"],
            ["--batch", "8"],
            ["--checkpoint-every", "1"],
        ];
        Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .arg("distill")
            .current_dir(self.0.path())
            .args(["--dataset", "rows", "--out", out])
            .args(["--steps-1", "2", "--steps-2", "2", "--adapter-hidden", "12"])
            .args(
                usual
                    .iter()
                    .filter(|[name, _]| !options.contains(name))
                    .flatten(),
            )
            .args(options)
            .output()
            .unwrap()
    }

    /// Returns the networks that were written. There is no other file.
    fn trained(&self, out: &str, options: &[&str]) -> SkipFile {
        let output = self.distill(out, options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{options:?}: {error}");
        let file = SkipFile::load(self.at(out)).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let parameters = format!("{} parameters, ", file.parameters());
        assert!(said.contains(&parameters), "{said}");
        assert!(said.contains(&format!("written to {out}")), "{said}");
        assert!(!self.at(&format!("{out}.training")).exists(), "{out}");
        assert_eq!(file.metrics["parameters"], json!(file.parameters()));
        assert_eq!(file.metrics["val_rows"], json!(16));
        file
    }

    fn refused(&self, options: &[&str], code: i32, words: &str) {
        let output = self.distill("refused", options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {error}");
        assert!(error.contains(words), "{options:?}: {error}");
        assert!(!self.at("refused").exists());
    }
}

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(Value::as_f64)
        .collect()
}

/// Returns the thresholds, shares and errors of the curve.
fn curve(file: &SkipFile) -> Vec<[f64; 3]> {
    let point = |point: &Value| ["threshold", "share", "error"].map(|x| point[x].as_f64().unwrap());
    file.metrics["val"]
        .as_array()
        .unwrap()
        .iter()
        .map(point)
        .collect()
}

#[test]
fn trains_two_stages_identically_for_any_thread_count() {
    let bench = Bench::new();
    let file = bench.trained("skip", &[]);
    let (config, metrics) = (&file.config, &file.metrics);
    let layers = Layers::by_similarity(&config.similarity, 0.2).unwrap();
    assert_eq!((config.layers, config.width, config.exit), (16, 32, None));
    assert_eq!(config.static_ratio, Some(0.2));
    assert_eq!(
        config.static_layers,
        layers.static_layers().collect::<Vec<_>>()
    );
    assert_eq!((config.adapter_hidden, file.adapters.len()), (12, 13));
    assert_eq!(metrics["plan"]["steps"], json!([2, 2]));
    assert_eq!(metrics["samples"], json!([16, 16]));
    for field in ["seconds", "losses"] {
        let values = numbers(&metrics[field]);
        assert!(values.len() == 2 && values.iter().all(|x| x.is_some_and(|x| x > 0.0)));
    }
    let curve = curve(&file);
    assert!(curve.len() == 24 && curve.is_sorted_by(|a, b| a[0] < b[0]));
    assert_eq!((curve[0][0], curve[0][1]), (0.0, 3.0 / 16.0));
    assert_eq!(curve[23], [1.0, 1.0, 0.0]);
    assert!(curve.iter().any(|point| point[0] == 0.5));

    let again = bench.trained("again", &["--threads", "1"]);
    let timeless = |file: &SkipFile| -> Map<String, Value> {
        let mut metrics = file.metrics.clone();
        metrics.remove("seconds").unwrap();
        metrics
    };
    assert_eq!(timeless(&file), timeless(&again));
    let other = bench.trained("other", &["--seed", "1"]);
    let of = |file: &SkipFile| (file.adapters.clone(), file.controllers.clone());
    assert_eq!(of(&file), of(&again));
    assert_ne!(of(&file), of(&other));
    assert_eq!((again.config.seed, other.config.seed), (0, 1));
}

#[test]
fn options_reach_the_training_plan() {
    let bench = Bench::new();
    let joint = bench.trained("joint", &["--joint"]).metrics;
    assert_eq!(joint["plan"]["steps"], json!([0, 4]));
    assert_eq!(joint["samples"], json!([0, 32]));
    let [first, second] = numbers(&joint["losses"])[..] else {
        panic!("{joint:?}")
    };
    assert!(first.is_none() && second.is_some());
    assert_eq!(numbers(&joint["seconds"])[0], Some(0.0));

    let none = bench.trained("none", &["--no-static"]);
    assert_eq!((none.config.static_ratio, none.adapters.len()), (None, 16));
    assert_eq!(none.config.static_layers, [0; 0]);
    assert_eq!(curve(&none)[0][1], 0.0);

    let exit = bench.trained("exit", &["--exit", "8"]);
    assert_eq!(exit.config.exit, Some(8));
    assert!(exit.adapters.is_empty() && exit.controllers.is_empty());
    assert_eq!(exit.parameters(), 32 + 2 * 12 * 32);
    let [[threshold, share, error]] = curve(&exit)[..] else {
        panic!("{:?}", exit.metrics)
    };
    assert!((threshold, share) == (0.0, 0.5) && error > 0.0);
}

#[test]
fn rejects_invalid_options_without_writing() {
    let bench = Bench::new();
    let conflict = "cannot be used with";
    for option in [
        ["--static-ratio", "0.3"],
        ["--lambda", "0.1"],
        ["--risk", "0"],
        ["--whole", "0"],
        ["--controller-hidden", "8"],
    ] {
        bench.refused(&[&["--exit", "8"], &option[..]].concat(), 2, conflict);
    }
    bench.refused(&["--exit", "8", "--no-static"], 2, conflict);
    bench.refused(&["--exit", "8", "--joint"], 2, conflict);
    bench.refused(&["--no-static", "--static-ratio", "0.3"], 2, conflict);
    bench.refused(&["--exit", "16"], 1, "exit");
    bench.refused(&["--batch", "7"], 1, "batch");
    bench.refused(&["--checkpoint-every", "0"], 1, "checkpoint-every");
    bench.refused(&["--policy", "rows"], 1, "rows");
    // The checkpoint of another training is neither used nor lost.
    let kept: &Path = &bench.at("refused.training");
    std::fs::write(kept, "no training").unwrap();
    bench.refused(&[], 1, "refused.training");
    assert_eq!(std::fs::read(kept).unwrap(), b"no training");
}

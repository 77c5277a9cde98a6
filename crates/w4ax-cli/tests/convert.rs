//! `w4ax convert`: its output and its exit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::{openvla_folder, plain_checkpoint, write_checkpoint};
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax::{Clipping, Grouping, PackedFile, Quantize, Scheme};

const W4AX: &str = env!("CARGO_BIN_EXE_w4ax");
const QUANTIZE: Quantize = Quantize::new(Grouping::G64);

fn fixtures() -> PathBuf {
    Path::new(w4ax_robot::paths::CHECKPOINTS).into()
}

/// The command prints each layer, and its file loads.
#[test]
fn prints_each_layer_and_writes_a_file_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("packed.safetensors");
    let (ok, out, err) = convert(&fixtures().join("gptq_v2_desc_act"), &output, &[]);
    assert!(ok, "{err}");
    for expected in [
        "model.a: [20, 136] repacked, g32, with zero points, F16 scales, activation order",
        "lm_head.weight: copied, 256 bytes",
        "2 weights repacked, 0 quantized, 5 other tensors",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in: {out}");
    }
    let file = PackedFile::load(&output).unwrap();
    let ordered = file.weights.values().filter(|w| w.order().is_some());
    assert_eq!(ordered.count(), 2);
    let input = write_checkpoint(folder.path(), &plain_checkpoint(33, 100, 2));
    let keep = [
        "--keep",
        "router",
        "--group",
        "32",
        "--asymmetric",
        "--scales",
        "f16",
    ];
    let (ok, out, err) = convert(&input, &output, &keep);
    assert!(ok, "{err}");
    assert!(
        out.contains("layers.0.up: [33, 100] quantized, error "),
        "{out}"
    );
    let packed = PackedFile::load(&output).unwrap();
    let weight = packed.get("layers.0.up").unwrap();
    assert_eq!(weight.grouping(), Grouping::G32);
    assert!(!weight.is_symmetric());
    assert_eq!(weight.tiled_scales().scale_type(), w4ax::ScaleType::F16);
    // A rejected checkpoint is named, and no file is written.
    std::fs::remove_file(&output).unwrap();
    let quantized = fixtures().join("gptq_v2_asym/model.safetensors");
    std::fs::copy(quantized, folder.path().join("model.safetensors")).unwrap();
    let (ok, _, err) = convert(&input, &output, &[]);
    assert!(
        !ok && err.contains("model.a.qweight") && !output.exists(),
        "{err}"
    );
}

/// Runs `w4ax convert`. Returns whether it succeeded, its standard output and its standard error.
fn convert(input: &Path, output: &Path, more: &[&str]) -> (bool, String, String) {
    let run = Command::new(W4AX)
        .arg("convert")
        .args([input, output])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (run.status.success(), text(&run.stdout), text(&run.stderr))
}

/// Plain checkpoints are quantized with a search unless the extremes are to be covered, in both
/// schemes.
#[test]
fn searches_clipping_of_plain_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let input = write_checkpoint(folder.path(), &plain_checkpoint(33, 100, 2));
    let output = folder.path().join("packed.safetensors");
    for (options, scheme, clipping) in [
        (&[][..], Scheme::Grouped, Clipping::SquaredError),
        (&["--clipping", "absmax"], Scheme::Grouped, Clipping::AbsMax),
        (
            &["--scheme", "two-level"],
            Scheme::TwoLevel,
            Clipping::SquaredError,
        ),
    ] {
        let options = [&["--group", "64"], options].concat();
        let (ok, out, err) = convert(&input, &output, &options);
        assert!(ok, "{err}");
        assert!(
            out.contains("layers.0.up: [33, 100] quantized, error "),
            "{out}"
        );
        let expected = folder.path().join("expected.safetensors");
        let quantize = QUANTIZE.with_scheme(scheme).with_clipping(clipping);
        Convert::new(quantize)
            .run(&Checkpoint::open(&input).unwrap(), &expected, |_| ())
            .unwrap();
        let packed = PackedFile::load(&output).unwrap();
        assert_eq!(packed, PackedFile::load(&expected).unwrap(), "{options:?}");
        assert_eq!(packed.get("layers.0.up").unwrap().scheme(), scheme);
    }
    let channel = ["--scheme", "two-level", "--group", "channel"];
    let (ok, _, err) = convert(&input, &output, &channel);
    assert!(!ok, "a two-level weight has groups");
    let expected = "grouping of a two-level weight is channel: expected g32, g64, g128";
    assert!(err.contains(expected), "{err}");
}

/// Quantized weights become two-level ones on request alone, and the added error is printed.
#[test]
fn requantizes_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("packed.safetensors");
    let input = fixtures().join("gptq_v2_desc_act");
    let two_level = ["--scheme", "two-level", "--group", "32", "--asymmetric"];
    let (ok, _, err) = convert(&input, &output, &two_level);
    assert!(!ok && !output.exists());
    let expected = "error: invalid configuration: scheme is two-level, which cannot hold the \
                    floating-point group scales of `model.a` without loss: expected grouped, or \
                    --requantize to quantize the values again\n";
    assert_eq!(err, expected);
    let options = [&two_level[..], &["--requantize"]].concat();
    let (ok, out, err) = convert(&input, &output, &options);
    assert!(ok, "{err}");
    for expected in [
        "model.a: [20, 136] quantized again, added error ",
        "0 weights repacked, 0 quantized, 5 other tensors",
        "2 quantized weights quantized again",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in: {out}");
    }
    let packed = PackedFile::load(&output).unwrap();
    let weight = packed.get("model.a").unwrap();
    assert_eq!(weight.scheme(), Scheme::TwoLevel);
    assert!(weight.order().is_some() && !weight.is_symmetric());
}

/// A closed standard output does not end the conversion.
#[test]
fn continues_after_stdout_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let input = write_checkpoint(folder.path(), &plain_checkpoint(512, 512, 9));
    let output = folder.path().join("out.safetensors");
    let mut run = Command::new(W4AX)
        .arg("convert")
        .args([&input, &output])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert_eq!(PackedFile::load(&output).unwrap().weights.len(), 10);
}

/// A killed run leaves a whole file or none.
#[test]
fn killed_run_leaves_no_partial_file() {
    let folder = tempfile::tempdir().unwrap();
    let input = write_checkpoint(folder.path(), &plain_checkpoint(512, 512, 60));
    let output = folder.path().join("out.safetensors");
    let whole = Convert::new(QUANTIZE)
        .run(&Checkpoint::open(&input).unwrap(), &output, |_| ())
        .map(|_| PackedFile::load(&output).unwrap())
        .unwrap();
    std::fs::remove_file(&output).unwrap();
    let mut killed = 0;
    for lines in [1, 10, 40] {
        let mut run = Command::new(W4AX)
            .arg("convert")
            .args(["--group", "64", "--clipping", "absmax"])
            .args([&input, &output])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The number of lines shows the progress.
        let stdout = run.stdout.take().unwrap();
        let mut reader = std::io::BufReader::new(stdout);
        for _ in 0..lines {
            std::io::BufRead::read_line(&mut reader, &mut String::new()).unwrap();
        }
        run.kill().unwrap();
        let ended = run.wait().unwrap();
        if output.exists() {
            assert_eq!(PackedFile::load(&output).unwrap(), whole);
            std::fs::remove_file(&output).unwrap();
        } else {
            assert!(!ended.success());
            killed += 1;
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path != input {
                assert!(PackedFile::load(&path).is_err(), "{path:?} loads");
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    println!("{killed} runs ended before their file was there");
}

/// A folder of OpenVLA becomes a folder: only the language model's layers are packed.
#[test]
fn converts_a_model_to_a_folder() {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("packed");
    let run = |more: &[&str]| convert(&openvla_folder(), &output, more);
    let (ok, out, err) = run(&[]);
    assert!(ok, "{err}");
    for expected in [
        "openvla: quantizes language_model.model.layers, keeps the rest plain\n",
        "0 weights repacked, 28 quantized",
        "copied added_tokens.json, config.json, dataset_statistics.json",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in: {out}");
    }
    let packed = PackedFile::load(output.join("model.safetensors")).unwrap();
    assert_eq!(packed.weights.len(), 28);
    // An earlier conversion is replaced.
    let (ok, out, err) = run(&["--also", "projector"]);
    assert!(ok, "{err}");
    assert!(
        out.contains("keeps the rest plain except projector"),
        "{out}"
    );
    let packed = PackedFile::load(output.join("model.safetensors")).unwrap();
    assert_eq!(packed.weights.len(), 28 + 3);
    // Other files are not.
    std::fs::write(output.join("notes.txt"), "mine").unwrap();
    let (ok, _, err) = run(&[]);
    assert!(!ok && err.contains("notes.txt"), "{err}");
    assert!(output.join("notes.txt").exists());
}

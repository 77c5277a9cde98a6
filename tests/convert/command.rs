//! The command: what it says, and how it ends.

use super::*;

/// The command: what it prints of each layer, and that what it writes loads.
#[test]
fn the_command_says_what_it_did() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let run = |input: &Path, output: &Path, more: &[&str]| {
        let run = Command::new(example::example("convert"))
            .args([input, output])
            .args(more)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (run.status.success(), text(&run.stdout), text(&run.stderr))
    };
    let output = folder.path().join("packed.safetensors");
    let (ok, out, err) = run(&fixtures().join("gptq_v2_desc_act"), &output, &[]);
    assert!(ok, "{err}");
    for expected in [
        "model.a: [20, 136] packed as it was, g32, with zero points, F16 scales, activation order",
        "lm_head.weight: carried over, 256 bytes",
        "2 weights packed as they were, 0 quantized, 5 other tensors",
    ] {
        assert!(out.contains(expected), "`{expected}` is not in: {out}");
    }
    assert_eq!(PackedFile::load(&output).unwrap().act_order.len(), 2);
    let input = written(folder.path(), &plain(33, 100, 2));
    let keep = [
        "--keep",
        "router",
        "--group",
        "32",
        "--asymmetric",
        "--scales",
        "f16",
    ];
    let (ok, out, err) = run(&input, &output, &keep);
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
    // Refused: the name of what is wrong, and no file.
    std::fs::remove_file(&output).unwrap();
    let quantized = fixtures().join("gptq_v2_asym/model.safetensors");
    std::fs::copy(quantized, folder.path().join("model.safetensors")).unwrap();
    let (ok, _, err) = run(&input, &output, &[]);
    assert!(
        !ok && err.contains("model.a.qweight") && !output.exists(),
        "{err}"
    );
}

/// Nobody who reads its lines: it goes on.
#[test]
fn the_command_outlives_its_reader() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let input = written(folder.path(), &plain(512, 512, 9));
    let output = folder.path().join("out.safetensors");
    let mut run = Command::new(example::example("convert"))
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

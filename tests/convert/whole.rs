//! The output is complete or absent. Requests that would lose or ignore something are errors.

use super::*;

/// A failed conversion names the tensor and leaves neither an output nor a temporary file. An
/// existing output stays.
#[test]
fn failed_conversion_leaves_no_file() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let mut file = plain_checkpoint(20, 40, 3);
    let mut bad = vec![0u8; 20 * 40 * 4];
    bad[4 * 77..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    file.set("layers.2.up.weight", Dtype::F32, &[20, 40], bad);
    let input = write_checkpoint(folder.path(), &file);
    let output = folder.path().join("out.safetensors");
    let checkpoint = Checkpoint::open(&input).unwrap();
    let error = Convert::new(QUANTIZE)
        .run(&checkpoint, &output, |_| ())
        .unwrap_err();
    assert!(
        matches!(&error, Error::Tensor { tensor, reason, .. }
        if tensor == "layers.2.up.weight" && reason.contains("element 77")),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::write(&output, "before").unwrap();
    assert!(
        Convert::new(QUANTIZE)
            .run(&checkpoint, &output, |_| ())
            .is_err()
    );
    assert_eq!(std::fs::read(&output).unwrap(), b"before");
    // The output is the checkpoint itself.
    let error = Convert::new(QUANTIZE)
        .run(&checkpoint, &input, |_| ())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Config {
                field: "output",
                ..
            }
        ),
        "{error}"
    );
    let nowhere = folder.path().join("nowhere/out.safetensors");
    let error = Convert::new(QUANTIZE)
        .run(&checkpoint, &nowhere, |_| ())
        .unwrap_err();
    assert!(
        matches!(&error, Error::Io { file, .. } if file.contains("nowhere")),
        "{error}"
    );
    // Two tensors with one name: a bias with the name of a weight's scales.
    let mut file = plain_checkpoint(20, 40, 1);
    file.copy("layers.0.up.bias", "layers.0.up.scales");
    let checkpoint = Checkpoint::open(write_checkpoint(folder.path(), &file)).unwrap();
    let error = Convert::new(QUANTIZE)
        .run(&checkpoint, &output, |_| ())
        .unwrap_err();
    assert!(
        matches!(&error, Error::Tensor { tensor, .. } if tensor == "layers.0.up.scales"),
        "{error}"
    );
}

/// A request that would lose or ignore something is an error before anything is read.
#[test]
fn rejects_lossy_or_contradictory_requests() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let input = write_checkpoint(folder.path(), &plain_checkpoint(20, 40, 1));
    let checkpoint = Checkpoint::open(&input).unwrap();
    let convert = Convert::new(QUANTIZE);
    // The output is a folder, a device or a socket.
    let mut odd = vec![folder.path().to_owned()];
    #[cfg(unix)]
    {
        let socket = folder.path().join("socket");
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        odd.push(socket);
    }
    for output in odd {
        let error = convert
            .run(&checkpoint, &output, |_| panic!("nothing is done"))
            .unwrap_err();
        assert!(
            matches!(&error, Error::Io { file, source }
                if Path::new(file) == output && source.to_string().contains("expected a file")),
            "{error}"
        );
        assert!(output.exists() && !output.is_file());
    }
    // The module to keep does not exist: the intended one would be quantized.
    let output = folder.path().join("out.safetensors");
    let keeps = |convert: &Convert, checkpoint: &Checkpoint, expected: &str| {
        let error = convert.run(checkpoint, &output, |_| ()).unwrap_err();
        assert!(
            matches!(&error, Error::Config { field: "keep", reason } if reason.contains(expected)),
            "{error}"
        );
        assert!(!output.exists());
    };
    let convert = convert.keep(["router", "layers.0.down"]);
    keeps(&convert, &checkpoint, "`layers.0.down`");
    let quantized = Checkpoint::open(fixtures().join("awq_gemm")).unwrap();
    let convert = convert.keep(["model.a"]);
    keeps(&convert, &quantized, "packed already");
    let convert = convert.keep(["layers.0", "lm_head"]);
    let summary = convert.run(&checkpoint, &output, |_| ()).unwrap();
    assert_eq!(summary.quantized, 1, "the router alone");
    // The input is a packed file already.
    let error = Checkpoint::open(&output).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { file, what, .. }
            if Path::new(file) == output && what.contains("w4ax")),
        "{error}"
    );
    // The configuration files are part of the checkpoint.
    let convert = Convert::new(QUANTIZE);
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(fixtures().join("gptq_v2_desc_act")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let checkpoint = Checkpoint::open(model.join("model.safetensors.index.json")).unwrap();
    for name in ["model.safetensors.index.json", "config.json"] {
        let file = model.join(name);
        let before = std::fs::read(&file).unwrap();
        let error = convert.run(&checkpoint, &file, |_| ()).unwrap_err();
        assert!(
            error.to_string().contains("a file of the checkpoint"),
            "{name}: {error}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

/// The output appears only when it is complete. An old one stays until then.
#[test]
fn output_is_never_incomplete() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let input = write_checkpoint(folder.path(), &plain_checkpoint(20, 40, 3));
    let output = folder.path().join("out.safetensors");
    let before = PackedFile::default();
    before.save(&output).unwrap();
    let checkpoint = Checkpoint::open(&input).unwrap();
    let mut looked = 0;
    Convert::new(QUANTIZE)
        .run(&checkpoint, &output, |_| {
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                let path = entry.unwrap().path();
                if path == output {
                    assert_eq!(PackedFile::load(&path).unwrap(), before);
                } else if path != input {
                    assert!(PackedFile::load(&path).is_err(), "{path:?} loads");
                    looked += 1;
                }
            }
        })
        .unwrap();
    assert!(looked > 3, "the temporary file was there to see");
    assert_eq!(PackedFile::load(&output).unwrap().weights.len(), 4);
}

/// Values with a floating-point scale per group become two-level weights only if they may be
/// quantized again. The error that this adds is reported, and the activation order stays.
#[test]
fn requantizes_only_on_request() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let two_level = Quantize::new(Grouping::G32)
        .with_scheme(Scheme::TwoLevel)
        .with_symmetry(Symmetry::Asymmetric)
        .with_clipping(Clipping::SquaredError);
    for case in ["awq_gemm", "gptq_v2_desc_act", "compressed_tensors_asym"] {
        let checkpoint = Checkpoint::open(fixtures().join(case)).unwrap();
        let convert = Convert::new(two_level);
        let error = convert.run(&checkpoint, &output, |_| ()).unwrap_err();
        assert!(
            matches!(&error, Error::Config { field: "scheme", reason }
                if reason.contains("without loss") && reason.contains("--requantize")),
            "{error}"
        );
        assert!(!output.exists());
        let mut errors = Vec::new();
        let convert = convert.requantize(true);
        let summary = convert
            .run(&checkpoint, &output, |step| match step.outcome {
                ConvertOutcome::Requantized(error) => errors.push((step.name.to_owned(), error)),
                outcome => assert!(matches!(outcome, ConvertOutcome::Copied(_)), "{outcome:?}"),
            })
            .unwrap();
        let quantized = checkpoint.quantized().count();
        assert_eq!(
            (summary.requantized, summary.repacked, summary.quantized),
            (quantized, 0, 0)
        );
        let packed = PackedFile::load(&output).unwrap();
        assert_eq!(errors.len(), quantized);
        for (module, error) in errors {
            let (before, after) = (
                checkpoint.weight(&module).unwrap(),
                packed.get(&module).unwrap(),
            );
            assert_eq!(after.scheme(), Scheme::TwoLevel);
            assert_eq!(after.order(), before.order());
            let pairs = before.dequantize().into_iter().zip(after.dequantize());
            let (mut errors, mut squares) = (0f64, 0f64);
            for (before, after) in pairs {
                errors += f64::from(before - after).powi(2);
                squares += f64::from(before).powi(2);
            }
            let expected = (errors / squares).sqrt();
            let difference = (error.relative_error - expected).abs();
            assert!(
                difference <= 1e-6 * expected,
                "{module}: {error:?} {expected}"
            );
            assert!(
                expected > 0.0 && expected < 0.1,
                "{case} {module}: {expected}"
            );
        }
        std::fs::remove_file(&output).unwrap();
    }
}

//! The conversion of checkpoints to packed files: no loss, memory of one weight, atomic output.

mod folder;
mod whole;

use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use test_support::{MeasuringAllocator, TensorFile, heap_of, plain_checkpoint, write_checkpoint};
use w4ax::checkpoint::{Checkpoint, Convert, ConvertOutcome, ConvertSummary};
use w4ax::{Clipping, Error, Grouping, MatRef, PackedFile, Quantize, Scheme, Symmetry};

/// All tests share the heap: a test that measures it holds this lock.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static MEASURING: MeasuringAllocator = MeasuringAllocator;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints")
}

const QUANTIZE: Quantize = Quantize::new(Grouping::G64);

/// The tensors of a file, by name: type, shape, bytes.
type Named = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn tensors_of(path: &Path) -> Named {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |name: &str| {
        let view = file.tensor(name).unwrap();
        // Programs that map the file rely on this alignment.
        let offset = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(
            offset % (view.dtype().bitsize() / 8),
            0,
            "{name} is aligned"
        );
        let shape = view.shape().to_vec();
        (name.to_owned(), view.dtype(), shape, view.data().to_vec())
    };
    let mut names = file.names();
    names.sort_unstable();
    names.into_iter().map(owned).collect()
}

/// The packed file of every fixture has the weights of the checkpoint, and its other tensors
/// unchanged.
#[test]
fn keeps_all_of_a_quantized_checkpoint() {
    let _alone = ALONE.lock();
    let out = tempfile::tempdir().unwrap();
    let mut cases = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let case = entry.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        cases += 1;
        let path = out.path().join("packed.safetensors");
        let checkpoint = Checkpoint::open(&case).unwrap();
        let mut steps = Vec::new();
        let summary = Convert::new(QUANTIZE)
            .run(&checkpoint, &path, |step| {
                assert!(!path.exists(), "no file before all is done");
                steps.push((step.name.to_owned(), step.outcome, step.done, step.total));
            })
            .unwrap();
        let packed = PackedFile::load(&path).unwrap();
        assert_eq!(
            PackedFile::from_bytes(&std::fs::read(&path).unwrap(), "bytes").unwrap(),
            packed
        );
        for module in checkpoint.quantized() {
            let weight = checkpoint.weight(module).unwrap();
            assert_eq!(packed.get(module).unwrap(), &weight);
        }
        let converted = tensors_of(&path);
        let mut carried = 0;
        for shard in std::fs::read_dir(&case).unwrap() {
            let shard = shard.unwrap().path();
            let name = shard.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".safetensors") || name == "expected.safetensors" {
                continue;
            }
            for tensor in tensors_of(&shard) {
                if checkpoint.plain().any(|name| name == tensor.0) {
                    assert!(converted.contains(&tensor), "{} of {case:?}", tensor.0);
                    carried += 1;
                }
            }
        }
        assert!(carried >= 4);
        let quantized = checkpoint.quantized().count();
        assert_eq!(
            (summary.repacked, summary.quantized, summary.copied),
            (quantized, 0, carried)
        );
        assert_eq!(steps.len(), quantized + carried);
        let (.., done, all) = *steps.last().unwrap();
        assert_eq!((done, all), (summary.bytes_read, summary.bytes_read));
        assert!(steps.windows(2).all(|w| w[0].2 < w[1].2));
        // Quantized weights keep their grouping, whatever that of plain weights is.
        assert!(
            steps
                .iter()
                .all(|s| !matches!(s.1, ConvertOutcome::Quantized(_)))
        );
        std::fs::remove_file(&path).unwrap();
    }
    assert!(cases > 10);
    assert_eq!(
        std::fs::read_dir(out.path()).unwrap().count(),
        0,
        "no temporary file stays"
    );
}

/// Matrices are quantized and their errors are reported. All other tensors, and those to keep, are
/// copied.
#[test]
fn quantizes_plain_checkpoints() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let (n, k) = (33, 100);
    let input = write_checkpoint(folder.path(), &plain_checkpoint(n, k, 3));
    let output = folder.path().join("out.safetensors");
    for quantize in [
        QUANTIZE,
        Quantize::new(Grouping::PerChannel).with_symmetry(Symmetry::Asymmetric),
    ] {
        let checkpoint = Checkpoint::open(&input).unwrap();
        let convert = Convert::new(quantize).keep(["router"]);
        let mut errors = Vec::new();
        let summary = convert
            .run(&checkpoint, &output, |step| {
                if let ConvertOutcome::Quantized(q) = step.outcome {
                    errors.push((step.name.to_owned(), q));
                }
            })
            .unwrap();
        let expected = ConvertSummary {
            repacked: 0,
            requantized: 0,
            quantized: 3,
            copied: 13,
            bytes_read: summary.bytes_read,
        };
        assert_eq!(summary, expected);
        let packed = PackedFile::load(&output).unwrap();
        let source = tensors_of(&input);
        for (name, q) in errors {
            let (_, dtype, _, bytes) = source
                .iter()
                .find(|t| t.0 == format!("{name}.weight"))
                .unwrap();
            let words = bytes.chunks(dtype.bitsize() / 8);
            let w: Vec<f32> = match dtype {
                Dtype::F32 => words
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                Dtype::F16 => words
                    .map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32())
                    .collect(),
                _ => words
                    .map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32())
                    .collect(),
            };
            let direct = quantize.pack(MatRef::new(&w, n, k).unwrap()).unwrap();
            assert_eq!(packed.get(&name).unwrap(), &direct);
            let back = direct.dequantize();
            let norm = |v: &mut dyn Iterator<Item = f32>| {
                v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
            };
            let mut differences = w.iter().zip(&back).map(|(a, b)| a - b);
            let relative = norm(&mut differences) / norm(&mut w.iter().copied());
            assert!(
                (q.relative_error / relative - 1.0).abs() < 1e-5,
                "{name}: {q:?} {relative}"
            );
            let largest = w
                .iter()
                .zip(&back)
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            assert!((q.largest_error / f64::from(largest) - 1.0).abs() < 1e-5);
            assert!(q.relative_error > 0.02 && q.relative_error < 0.2, "{q:?}");
        }
        let converted = tensors_of(&output);
        for tensor in &source {
            let quantized = tensor.0.starts_with("layers.") && tensor.0.ends_with(".weight");
            assert_eq!(converted.contains(tensor), !quantized, "{}", tensor.0);
        }
    }
}

/// The peak of memory is that of one weight, not of the file.
#[test]
fn needs_memory_for_one_weight() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let (n, k, layers) = (512, 512, 60);
    let input = write_checkpoint(folder.path(), &plain_checkpoint(n, k, layers));
    let output = folder.path().join("out.safetensors");
    let size = std::fs::metadata(&input).unwrap().len() as usize;
    let peak = |run: &mut dyn FnMut()| heap_of(run).1.peak;
    // The f32 values of one weight, its codes, its packed form, and the buffers of files.
    let bound = 3 * (4 * n * k) + (4 << 20);
    assert!(bound < size / 3, "the file is large enough to tell");
    let converting = peak(&mut || {
        let checkpoint = Checkpoint::open(&input).unwrap();
        Convert::new(QUANTIZE)
            .run(&checkpoint, &output, |_| ())
            .unwrap();
    });
    assert!(converting < bound, "{converting} of {size}");
    // A checkpoint with quantized weights and a large plain tensor.
    let mut file = TensorFile::read(
        fixtures()
            .join("gptq_v2_g256/model.safetensors")
            .to_str()
            .unwrap(),
    );
    for layer in 0..40 {
        for part in ["qweight", "qzeros", "scales", "g_idx"] {
            file.copy(
                &format!("model.a.{part}"),
                &format!("layers.{layer}.{part}"),
            );
        }
    }
    file.set(
        "embed_tokens.weight",
        Dtype::U8,
        &[24 << 20],
        vec![0; 24 << 20],
    );
    let input = write_checkpoint(folder.path(), &file);
    std::fs::copy(
        fixtures().join("gptq_v2_g256/config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    drop(file);
    let repacking = peak(&mut || {
        let checkpoint = Checkpoint::open(&input).unwrap();
        Convert::new(QUANTIZE)
            .run(&checkpoint, &output, |_| ())
            .unwrap();
    });
    assert!(repacking < 6 << 20, "{repacking}");
    let loading = peak(&mut || {
        assert_eq!(PackedFile::load(&output).unwrap().weights.len(), 41);
    });
    assert!(loading < 6 << 20, "{loading}: the large tensor is not read");
    let all = PackedFile::load(&output).unwrap();
    let one = PackedFile::load_only(&output, |name| name == "layers.7").unwrap();
    assert_eq!(one.weights.len(), 1);
    assert_eq!(one.get("layers.7").unwrap(), all.get("layers.7").unwrap());
}

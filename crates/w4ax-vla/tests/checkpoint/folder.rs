//! Each kind of folder gives the tensors of its files.

use std::path::Path;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use tempfile::TempDir;
use test_support::{TensorFile, oft_folder, openvla_folder, vla_data};
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax::{Grouping, MatRef, PackedWeight, Quantize};
use w4ax_vla::checkpoint::{StoredWeight, VlaFolder, WeightSource, pack};

const QUANTIZE: Quantize = Quantize::new(Grouping::G64);

/// Returns the bytes of a tensor in its own type.
fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::BF16 => bytemuck::cast_slice(&flat.to_vec1::<bf16>().unwrap()).to_vec(),
        _ => bytemuck::cast_slice(&flat.to_vec1::<f32>().unwrap()).to_vec(),
    }
}

/// Calls `check(name, dtype, shape, bytes)` for each tensor of a file. Returns their number.
fn each(file: &Path, mut check: impl FnMut(&str, Dtype, &[usize], &[u8])) -> usize {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in tensors.tensors() {
        check(&name, view.dtype(), view.shape(), view.data());
    }
    tensors.len()
}

fn shards() -> [std::path::PathBuf; 2] {
    [1, 2].map(|i| openvla_folder().join(format!("model-0000{i}-of-00002.safetensors")))
}

fn packed(weight: StoredWeight) -> PackedWeight {
    match weight {
        StoredWeight::Packed(weight) => weight,
        StoredWeight::Plain(_) => panic!("a packed weight"),
    }
}

/// Converts a folder to a folder of its own.
fn converted(folder: &Path) -> (TempDir, VlaFolder) {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("packed");
    (Convert::new(QUANTIZE).run_to_folder(&checkpoint, &output, |_| ())).unwrap();
    let source = VlaFolder::open(output).unwrap();
    (out, source)
}

/// All tensors of both shards, with the bits of the files.
#[test]
fn reads_each_tensor_of_a_sharded_checkpoint() {
    let folder = VlaFolder::open(openvla_folder()).unwrap();
    assert!(!folder.is_packed() && !folder.has_component("action_head"));
    let mut tensors = 0;
    for shard in shards() {
        tensors += each(&shard, |name, dtype, shape, bytes| {
            assert_eq!(dtype, Dtype::BF16);
            assert_eq!(folder.shape(name).as_deref(), Some(shape), "{name}");
            let tensor = folder.tensor(name, shape).unwrap();
            assert_eq!(tensor.dtype(), DType::BF16);
            assert!(bytes_of(&tensor) == bytes, "{name}");
        });
    }
    assert_eq!(tensors, folder.tensor_names().len());
    assert!(tensors > 100);
}

/// One file, with F32 and F16 tensors: F16 is widened to the same values.
#[test]
fn reads_f32_and_f16_from_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = TensorFile::new();
    let values = [1.5f32, -0.25, 65504.0, 6e-8];
    let narrow = values.map(f16::from_f32);
    let bytes = bytemuck::cast_slice(&values).to_vec();
    file.set("wide.weight", Dtype::F32, &[2, 2], bytes);
    let bytes = bytemuck::cast_slice(&narrow).to_vec();
    file.set("narrow", Dtype::F16, &[4], bytes);
    std::fs::write(folder.path().join("model.safetensors"), file.bytes()).unwrap();
    let folder = VlaFolder::open(folder.path()).unwrap();
    let StoredWeight::Plain(wide) = folder.weight("wide", 2, 2).unwrap() else {
        panic!("a plain weight");
    };
    assert_eq!(wide.to_vec2::<f32>().unwrap().concat(), values);
    let read = folder.tensor("narrow", &[4]).unwrap();
    let expected = narrow.map(f16::to_f32);
    assert_eq!(read.to_vec1::<f32>().unwrap(), expected);
}

/// Plain tensors keep their bits, and a packed weight equals the quantized plain one.
#[test]
fn converted_checkpoint_equals_the_plain_one() {
    let (_out, folder) = converted(&openvla_folder());
    let plain = VlaFolder::open(openvla_folder()).unwrap();
    assert_eq!(folder.packed_names().count(), 4 * 7);
    for shard in shards() {
        each(&shard, |name, _, shape, bytes| {
            assert_eq!(folder.shape(name).as_deref(), Some(shape), "{name}");
            let module = name.strip_suffix(".weight").unwrap_or(name);
            if !folder.packed_names().any(|packed| packed == module) {
                let tensor = folder.tensor(name, shape).unwrap();
                assert!(bytes_of(&tensor) == bytes, "{name}");
                return;
            }
            let &[n, k] = shape else {
                panic!("a matrix");
            };
            let read = packed(folder.weight(module, n, k).unwrap());
            let values: &[bf16] = bytemuck::cast_slice(bytes);
            let expected = QUANTIZE.pack(MatRef::new(values, n, k).unwrap()).unwrap();
            assert!(read == expected, "{name}");
            // Quantizing at load gives the same weight.
            let at_load = plain.weight(module, n, k).unwrap();
            assert!(pack(module, at_load, &QUANTIZE).unwrap() == expected);
        });
    }
}

/// The quantized checkpoint of another tool gives its packed weights.
#[test]
fn reads_quantized_weights_of_other_tools() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/awq_gemm");
    let checkpoint = Checkpoint::open(&case).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(case.join(name), folder.path().join(name)).unwrap();
    }
    let source = VlaFolder::open(folder.path()).unwrap();
    assert!(source.is_packed());
    for module in checkpoint.quantized() {
        let expected = checkpoint.weight(module).unwrap();
        let (n, k) = (expected.n(), expected.k());
        let tensor = format!("{module}.weight");
        assert_eq!(source.shape(&tensor), Some(vec![n, k]), "{module}");
        assert!(packed(source.weight(module, n, k).unwrap()) == expected);
    }
}

/// The components of OpenVLA-OFT appear under their prefix, without `module.`.
#[test]
fn reads_components_without_the_prefix_of_training() {
    for convert in [false, true] {
        let copy = oft_folder();
        let (_out, folder) = match convert {
            true => converted(copy.path()),
            false => (
                tempfile::tempdir().unwrap(),
                VlaFolder::open(copy.path()).unwrap(),
            ),
        };
        for part in ["action_head", "proprio_projector"] {
            assert!(folder.has_component(part));
            let twin = format!("oft-tiny/{part}--150000_checkpoint.safetensors");
            let tensors = each(&vla_data().join(twin), |name, dtype, shape, bytes| {
                let rest = name.strip_prefix("module.").unwrap();
                let name = format!("{part}.{rest}");
                assert!(folder.tensor_names().contains(&name));
                assert_eq!(folder.shape(&name).as_deref(), Some(shape), "{name}");
                let tensor = folder.tensor(&name, shape).unwrap();
                assert_eq!(tensor.dtype() == DType::BF16, dtype == Dtype::BF16);
                assert!(bytes_of(&tensor) == bytes, "{name}");
                if let (Some(module), &[n, k]) = (name.strip_suffix(".weight"), shape) {
                    folder.weight(module, n, k).unwrap();
                }
            });
            assert!(tensors >= 4);
        }
    }
}

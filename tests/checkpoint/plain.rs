//! Plain tensors and single weights, read one at a time.

use safetensors::tensor::{Dtype, SafeTensors};
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax::tensors::{PlainTensor, PlainValues};
use w4ax::weights::PackedReader;
use w4ax::{Error, Grouping, Quantize};

use crate::case::folder;

/// The cases of all formats.
const CASES: [&str; 6] = [
    "awq_gemm",
    "gptq_v1_sym",
    "gptq_v2_desc_act",
    "compressed_tensors_sym",
    "compressed_tensors_channel",
    "compressed_tensors_act_order",
];

fn bytes_of(tensor: &PlainTensor) -> &[u8] {
    match &tensor.values {
        PlainValues::Bf16(values) => bytemuck::cast_slice(values),
        PlainValues::F16(values) => bytemuck::cast_slice(values),
        PlainValues::F32(values) => bytemuck::cast_slice(values),
        PlainValues::Other(_, bytes) => bytes,
        _ => panic!("no other values"),
    }
}

/// Each tensor has the type, the shape and the bits of the file.
#[test]
fn reads_each_tensor_in_its_type() {
    let mut types = Vec::new();
    for case in CASES {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        let files = std::fs::read_dir(folder(case)).unwrap();
        let files = files.map(|file| file.unwrap().path()).filter(|path| {
            let safetensors = path.extension().is_some_and(|e| e == "safetensors");
            safetensors && !path.ends_with("expected.safetensors")
        });
        let bytes: Vec<Vec<u8>> = files.map(|file| std::fs::read(file).unwrap()).collect();
        let files = bytes.iter().map(|b| SafeTensors::deserialize(b).unwrap());
        for (name, view) in files.flat_map(|file| file.tensors()) {
            let tensor = checkpoint.tensor(&name).unwrap();
            assert_eq!(
                checkpoint.tensor_info(&name),
                Some((view.dtype(), view.shape()))
            );
            assert_eq!(
                (tensor.dtype(), &*tensor.shape),
                (view.dtype(), view.shape())
            );
            assert_eq!(bytes_of(&tensor), view.data(), "{name}");
            types.push(view.dtype());
        }
        assert_eq!(checkpoint.tensor_info("nowhere"), None);
        let error = checkpoint.tensor("nowhere").unwrap_err();
        assert!(matches!(error, Error::MissingTensor { name, .. } if name == "nowhere"));
    }
    assert!(types.contains(&Dtype::F16) && types.contains(&Dtype::I32));
}

/// The shape of a weight is known without reading its values.
#[test]
fn reports_the_shape_of_each_weight() {
    for case in CASES {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        for module in checkpoint.quantized() {
            let weight = checkpoint.weight(module).unwrap();
            let shape = checkpoint.weight_shape(module).unwrap();
            assert_eq!(shape, [weight.n(), weight.k()], "{case}: {module}");
        }
        assert!(checkpoint.weight_shape("nowhere").is_err());
    }
}

/// A packed file gives its weights and its plain tensors one at a time.
#[test]
fn reads_a_packed_file_one_tensor_at_a_time() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("packed.safetensors");
    let convert = Convert::new(Quantize::new(Grouping::G64));
    for case in CASES {
        let checkpoint = Checkpoint::open(folder(case)).unwrap();
        convert.run(&checkpoint, &path, |_| ()).unwrap();
        let reader = PackedReader::open(&path).unwrap();
        assert!(PackedReader::recognizes(&path).unwrap());
        assert!(reader.names().eq(checkpoint.quantized()));
        for name in reader.names() {
            let weight = reader.weight(name).unwrap();
            assert_eq!(reader.weight_shape(name), Some([weight.n(), weight.k()]));
            assert!(weight == checkpoint.weight(name).unwrap(), "{name}");
            // The parts of a weight are no plain tensors.
            let part = format!("{name}.tiles");
            assert!(reader.tensor(&part).is_err() && reader.tensor_info(&part).is_none());
        }
        assert!(reader.tensor_names().eq(checkpoint.plain()));
        for name in reader.tensor_names() {
            let tensor = checkpoint.tensor(name).unwrap();
            assert_eq!(reader.tensor(name).unwrap(), tensor);
            let info = Some((tensor.dtype(), &*tensor.shape));
            assert_eq!(reader.tensor_info(name), info);
            let error = reader.weight(name).unwrap_err();
            assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
        }
    }
    let plain = folder("awq_gemm").join("model.safetensors");
    assert!(!PackedReader::recognizes(&plain).unwrap());
    let error = PackedReader::open(&plain).unwrap_err();
    assert!(error.to_string().contains("not a w4ax file"), "{error}");
}

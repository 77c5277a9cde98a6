//! The memory of loading: what the model keeps, and at most one tensor more.

use half::bf16;
use safetensors::Dtype;
use test_support::{HeapBytes, MeasuringAllocator, TensorFile, heap_of};
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax::{Grouping, PackedWeight, Quantize};
use w4ax_vla::checkpoint::{StoredWeight, VlaFolder, WeightSource, pack};

#[global_allocator]
static MEASURING: MeasuringAllocator = MeasuringAllocator;

const QUANTIZE: Quantize = Quantize::new(Grouping::G64);
/// Each layer is a matrix `[SIDE, SIDE]`.
const SIDE: usize = 1024;
const LAYERS: usize = 12;
/// A matrix in BF16.
const MATRIX: usize = 2 * SIDE * SIDE;
/// Room for headers, names and the buffers of threads.
const ROOM: usize = 512 << 10;

fn module(layer: usize) -> String {
    format!("language_model.model.layers.{layer}.up")
}

fn checkpoint() -> TensorFile {
    let mut file = TensorFile::new();
    let values: Vec<bf16> = (0..SIDE * SIDE)
        .map(|i| bf16::from_f32((i * 37 % 101) as f32 / 50.0 - 1.0))
        .collect();
    for layer in 0..LAYERS {
        let name = format!("{}.weight", module(layer));
        let bytes = bytemuck::cast_slice(&values).to_vec();
        file.set(&name, Dtype::BF16, &[SIDE, SIDE], bytes);
    }
    file
}

/// Loads all matrices, quantized at load unless they are packed.
fn load(folder: &std::path::Path) -> (Vec<PackedWeight>, HeapBytes) {
    heap_of(|| {
        let source = VlaFolder::open(folder).unwrap();
        let weight = |layer| {
            let module = module(layer);
            let stored = source.weight(&module, SIDE, SIDE).unwrap();
            pack(&module, stored, &QUANTIZE).unwrap()
        };
        let mut weights = Vec::with_capacity(LAYERS);
        weights.extend((0..LAYERS).map(weight));
        weights
    })
}

#[test]
fn holds_one_tensor_beyond_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, checkpoint().bytes()).unwrap();
    let config = r#"{"model_type": "openvla"}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    // The threads of the pool, and what they keep, are not part of the measurement.
    load(folder.path());
    // Plain tensors: the values are read to where they stay.
    let (tensors, plain) = heap_of(|| {
        let source = VlaFolder::open(folder.path()).unwrap();
        let plain = |layer| match source.weight(&module(layer), SIDE, SIDE).unwrap() {
            StoredWeight::Plain(tensor) => tensor,
            StoredWeight::Packed(_) => panic!("a plain checkpoint"),
        };
        (0..LAYERS).map(plain).collect::<Vec<_>>()
    });
    println!("plain: {plain:?}");
    assert!(plain.kept >= LAYERS * MATRIX && plain.kept <= LAYERS * MATRIX + ROOM);
    assert!(plain.peak <= plain.kept + ROOM, "{plain:?}");
    drop(tensors);
    // Quantized at load: one matrix in BF16 beside the packed ones.
    let (at_load, bytes) = load(folder.path());
    println!("quantized at load: {bytes:?}");
    assert!(bytes.kept < LAYERS * MATRIX / 2);
    assert!(bytes.peak <= bytes.kept + MATRIX + ROOM, "{bytes:?}");
    // Converting: one matrix in BF16 and packed.
    let output = folder.path().join("packed");
    let ((), bytes) = heap_of(|| {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let convert = Convert::new(QUANTIZE);
        convert.run_to_folder(&checkpoint, &output, |_| ()).unwrap();
    });
    println!("converting: {bytes:?}");
    // The writer buffers 1 MiB.
    assert!(bytes.peak <= 2 * MATRIX + (1 << 20) + ROOM, "{bytes:?}");
    // Converted: the bytes of one packed weight beside the weights.
    let (converted, bytes) = load(&output);
    println!("converted: {bytes:?}");
    assert!(bytes.peak <= bytes.kept + MATRIX / 3 + ROOM, "{bytes:?}");
    assert!(converted == at_load);
}

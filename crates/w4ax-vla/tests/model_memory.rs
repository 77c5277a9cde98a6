//! The memory of a loaded model: what it reports is what it keeps.

use test_support::{MeasuringAllocator, heap_of, vla_data};
use w4ax_vla::model::{LoadOptions, Numerics, Vla};

#[global_allocator]
static MEASURING: MeasuringAllocator = MeasuringAllocator;

/// Names, tables, statistics, and the buffers of threads.
const ROOM: u64 = 600 << 10;

#[test]
fn model_keeps_the_bytes_that_it_reports() {
    let folder = vla_data().join("openvla-tiny");
    let quantized = LoadOptions::default();
    let plain = LoadOptions::default().with_numerics(Numerics::Bf16);
    let load = |options: &LoadOptions| {
        heap_of(|| Vla::load(&folder, options, &mut |_| ()).expect("the checkpoint loads"))
    };
    // The threads of the pool, and what they keep, are not part of the measurement.
    load(&quantized);
    for options in [
        quantized.clone(),
        quantized.clone().with_action_rows_only(true),
        quantized.with_packed_vision(true).with_tokens(2048),
        plain,
    ] {
        let (model, heap) = load(&options);
        let (kept, reported) = (heap.kept as u64, model.bytes().iter().map(|(_, b)| b).sum());
        println!("kept {kept}, reported {reported}: {options:?}");
        assert!(
            kept >= reported && kept <= reported + ROOM,
            "{kept}, {reported}"
        );
    }
}

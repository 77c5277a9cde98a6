//! Reads an AutoAWQ checkpoint, saves its layers in w4ax's format and loads one of them again.
//!
//! ```sh
//! cargo run --release --example 2_convert_checkpoint -- [CHECKPOINT [OUT]]
//! ```
//!
//! The command `w4ax convert` does the same for whole models, tensor by tensor.

use std::path::PathBuf;
use w4ax::PackedFile;
use w4ax::checkpoint::Checkpoint;

fn main() -> w4ax::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let input = args.next().unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints/awq_gemm")
    });
    let output = args
        .next()
        .unwrap_or_else(|| std::env::temp_dir().join("w4ax-example.safetensors"));

    // 1. Open the checkpoint. Its configuration decides the format; an unsupported one is an error.
    let checkpoint = Checkpoint::open(&input)?;

    // 2. Read each quantized layer. Values and scales are kept exactly.
    let mut file = PackedFile::default();
    for module in checkpoint.quantized() {
        let weight = checkpoint.weight(module)?;
        println!(
            "{module}: [{}, {}], {}, {}",
            weight.n(),
            weight.k(),
            weight.grouping(),
            if weight.is_symmetric() {
                "symmetric"
            } else {
                "with zero points"
            }
        );
        file.weights.insert(module.to_owned(), weight);
    }

    // 3. Save, and load without packing again.
    file.save(&output)?;
    let loaded = PackedFile::load(&output)?;
    assert_eq!(loaded.weights, file.weights);
    println!(
        "{} layers saved in {}",
        loaded.weights.len(),
        output.display()
    );
    Ok(())
}

//! Quantizes a weight to INT4, packs it once and multiplies at every activation width.
//!
//! ```sh
//! cargo run --release --example 1_quantize_and_gemm
//! ```

use half::bf16;
use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, Width, cpu::Cpu, reference};

fn main() -> w4ax::Result<()> {
    let (m, n, k) = (4, 1000, 2048); // tokens, output channels, inputs
    let plain: Vec<f32> = (0..n * k)
        .map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5)
        .collect(); // [n, k]
    let x: Vec<bf16> = (0..m * k)
        .map(|i| bf16::from_f32(((i * 104_729) % 997) as f32 / 997.0 - 0.3))
        .collect(); // [m, k]

    // 1. Quantize and pack. Every width reads this one copy.
    let weight = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
    println!(
        "{n} x {k}: {} bytes in f32, {} packed with scales",
        plain.len() * 4,
        weight.packed_bytes()
    );

    // 2. Choose a backend and allocate its workspace once.
    let cpu = Cpu::new()?;
    let mut workspace = cpu.workspace(m, k)?;
    println!("instruction set: {}", cpu.isa().name());

    // 3. Multiply. The f64 product of the dequantized weight is the yardstick.
    let x = MatRef::new(&x, m, k)?;
    let exact = reference::matmul_f64(x, &weight)?; // [m, n], of the dequantized weight
    let norm = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
    for width in Width::ALL {
        let mut y = vec![bf16::ZERO; m * n]; // [m, n]
        cpu.run(
            &Gemm::new(x, &weight, width),
            MatMut::new(&mut y, m, n)?,
            &mut workspace,
        )?;
        let error: f64 = (y.iter().zip(&exact))
            .map(|(y, e)| (f64::from(y.to_f32()) - e).powi(2))
            .sum();
        println!("{width:>5}: relative error {:.5}", error.sqrt() / norm);
    }
    Ok(())
}

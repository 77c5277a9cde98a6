//! One GEMM on a GPU: the same packed weight, the same bits as on the CPU.
//!
//! ```sh
//! cargo run --release --features cuda --example 5_cuda_gemm
//! ```
//!
//! Without a GPU, a driver or compiled kernels the example prints what is missing.

use half::bf16;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Gemm, Gpu};
use w4ax::{Grouping, MatRef, Quantize, Width, reference};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (m, n, k) = (7, 1000, 2048); // tokens, output channels, inputs
    let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect(); // [n, k]
    let packed = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
    let host_x: Vec<bf16> = (0..m * k)
        .map(|i| bf16::from_f32((i % 13) as f32 / 13.0))
        .collect(); // [m, k]

    // 1. Open the device and upload the weight, in the layout that it has.
    let gpu = Gpu::new(0)?;
    let weight = gpu.upload(&packed)?;

    // 2. The caller owns the stream and the memory. A workspace serves one stream.
    let stream = gpu.context().new_stream()?;
    let x = stream.clone_htod(&host_x)?; // [m, k]
    let mut y = stream.alloc_zeros::<bf16>(m * n)?; // [m, n]
    let mut workspace = gpu.workspace(&stream, m, k)?;

    // 3. Launch at each width and compare: A2, A4 and A8 have the bits of the reference.
    for width in Width::ALL {
        {
            let x = DeviceMatRef::new(x.as_view(), m, k)?;
            let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
            let gemm = Gemm::new(&x, &weight, width);
            println!("{width}: {}", gpu.plan(&gemm, &y)?);
            gpu.run(&stream, &gemm, &mut y, &mut workspace)?;
        }
        let got: Vec<bf16> = stream.clone_dtoh(&y)?;
        let expected = reference::gemm(MatRef::new(&host_x, m, k)?, &packed, width, None)?;
        let equal = got
            .iter()
            .zip(&expected)
            .filter(|(a, b)| a.to_bits() == b.to_bits())
            .count();
        println!(
            "{width}: {equal} of {} results have the reference's bits",
            m * n
        );
    }
    Ok(())
}

//! A control loop: the robot's motion decides the activation width of the next step (DyQ-VLA).
//!
//! ```sh
//! cargo run --release --example 3_dispatch_loop
//! ```

use half::bf16;
use std::time::Duration;
use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
use w4ax::step::{HostLatch, StepFlag};
use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, cpu::Cpu};

fn main() -> w4ax::Result<()> {
    let (n, k) = (256, 512);
    let plain: Vec<f32> = (0..n * k)
        .map(|i| ((i % 23) as f32 - 11.0) / 64.0)
        .collect(); // [n, k]
    let layer = Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)?;
    let cpu = Cpu::new()?;
    let mut workspace = cpu.workspace(1, k)?;
    let (x, mut y) = (vec![bf16::ONE; k], vec![bf16::ZERO; n]); // [1, k], [1, n]

    // 1. The dispatcher. A calibration provides its parameters (`w4ax calibrate`).
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.3,
        theta_48: 0.45,
        theta_fp: 0.6,
    };
    let mut dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;

    // 2. The flag carries a decision to the code that runs the step; its latch reads it once.
    let (flag, mut latch) = (StepFlag::new(), HostLatch::new(0));
    for step in 0..60u32 {
        let decision = dispatcher.decide();
        if step != 30 {
            flag.requested().store(step, decision.active); // Step 30 has no decision: it runs at BF16.
        }
        let executed = latch.latch(&flag, Duration::ZERO);
        let gemm = Gemm::new(MatRef::new(&x, 1, k)?, &layer, executed.width);
        cpu.run(&gemm, MatMut::new(&mut y, 1, n)?, &mut workspace)?;

        // 3. Report the executed action. This robot moves fast, then slows down to grasp.
        let speed = if step < 35 { 0.8 } else { 0.05 };
        dispatcher.observe(&[speed, 0.0, 0.0, 0.0, 0.0, 0.02, 1.0])?;
        if step % 6 == 0 {
            println!("step {step:2}: {} ({})", executed.width, executed.outcome);
        }
    }
    Ok(())
}

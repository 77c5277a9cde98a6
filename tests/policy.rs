//! scratch
#[path = "../examples/robot/mod.rs"]
mod robot;
use robot::{checkpoint::*, policy::*, rollouts::*};
use w4ax::{cpu::Cpu, *};
#[test]
fn measure() {
    let ckpt = Checkpoint::load(TRAINED).unwrap();
    let r = Rollouts::load(RECORDED).unwrap();
    for st in [ScaleType::Bf16, ScaleType::F16, ScaleType::F32] {
        let mut p = Policy::new(
            &ckpt,
            Quantize::new(Grouping::G64).scale_type(st),
            Cpu::new().unwrap(),
            r.len(),
        )
        .unwrap();
        println!(
            "{st:?} packed {} bf16 {}",
            p.packed_bytes(),
            ckpt.bf16_bytes()
        );
        for w in Precision::ALL {
            let mut t = vec![Tokens::default(); r.len()];
            p.forward_rows(&r.input, w, &mut t).unwrap();
            let e: f64 = t
                .iter()
                .zip(&r.bf16)
                .map(|(a, b)| {
                    action(a)
                        .iter()
                        .zip(action(b))
                        .map(|(a, b)| (a - b) * (a - b))
                        .sum::<f64>()
                        .sqrt()
                })
                .sum::<f64>()
                / r.len() as f64;
            let agree = |x: &[Tokens], y: &[Tokens]| {
                x.as_flattened()
                    .iter()
                    .zip(y.as_flattened())
                    .filter(|(a, b)| a == b)
                    .count() as f64
                    / (7 * r.len()) as f64
            };
            println!(
                "  {w} err {e:.5} agree bf16 {:.4} agree recorded at width {:.4}",
                agree(&t, &r.bf16),
                agree(&t, r.tokens(w))
            );
        }
    }
}

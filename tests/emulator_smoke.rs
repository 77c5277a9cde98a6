//! The way from a test to the emulated kernels and back: one small GEMM for each runner that was built.

#[path = "support/emulator.rs"]
mod emulator;
mod support;

use emulator::{Case, Runner, Variant};
use half::bf16;
use support::{Kind, PlainWeight, bits, rng};
use w4ax::reference::mirror;
use w4ax::{Grouping, MatRef, PackedWeight, Precision, ScaleType};

/// y = x * W^T at 8 bits, groups of 64, the family and mode that the kernels pick themselves.
fn gemm_case(w: &PackedWeight, x: &[bf16], m: usize) -> Case {
    let q = w.unpack();
    let (n, k) = (w.n(), w.k());
    let mut sums = vec![0i16; n.div_ceil(16) * w.groups() * 16];
    for row in 0..n {
        for g in 0..w.groups() {
            let zero = i16::from(w.zero(row, g));
            let range = w.grouping().range(g, k);
            let sum = q[row * k..][range].iter().map(|q| i16::from(*q) - zero);
            sums[(row / 16 * w.groups() + g) * 16 + row % 16] = sum.sum();
        }
    }
    Case::new("gemm")
        .arg("m", m)
        .arg("n", n)
        .arg("k", k)
        .arg("width", 8)
        .arg("group", 64)
        .arg("scale_type", 0)
        .arg("x_stride", k)
        .arg("y_stride", n)
        .input("tiles", w.tiles(), 128)
        .input("scales", w.tiled_scales().bytes(), 16)
        .input("zeros", w.tiled_zeros().expect("asymmetric"), 16)
        .input("sums", &sums, 16)
        .input("x", x, 16)
        .output("y", &vec![bf16::from_bits(0x7F7F); m * n], 16)
}

#[test]
#[ignore = "needs the runners of kernels/emulate/build"]
fn a_small_gemm_comes_back_with_the_mirrors_bits() {
    let mut rng = rng(1);
    let (m, n, k) = (1, 100, 100);
    let plain = PlainWeight::random(&mut rng, (n, k), Grouping::G64, ScaleType::F32, false);
    let w = plain.pack();
    let x = Kind::Normal.fill(&mut rng, m * k);
    let want = mirror(MatRef::new(&x, m, k).unwrap(), &w, Precision::A8, None).unwrap();
    let mut ran = 0;
    for (variant, architecture) in Variant::ALL.iter().flat_map(|v| [(*v, 800), (*v, 900)]) {
        let Some(mut runner) = Runner::new(variant, architecture) else {
            println!("left out: {} {architecture}", variant.name());
            continue;
        };
        for seed in 0..4 {
            let case = gemm_case(&w, &x, m).set("seed", seed);
            let answer = runner.run(&case).unwrap();
            assert_eq!(answer.status, 0, "{variant:?} {architecture}");
            assert_eq!(bits(&answer.output::<bf16>("y")), bits(&want));
            assert!(answer.counters["mma"] > 0);
        }
        ran += 1;
    }
    assert!(ran > 0, "no runner was built: kernels/emulate/build");
}

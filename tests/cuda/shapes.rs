//! The shapes of real models, and shapes that other libraries reject.

use crate::harness::{Call, Device, Inputs, Layer, check, compare, run, scaled};
use crate::kernels::weights;
use crate::support::{WIDTHS, bits, rng};
use w4ax::cuda::{Family, GemmOptions};
use w4ax::{Grouping, ScaleType, Scheme, Width};

const MS: [usize; 11] = match cfg!(w4ax_software_device) {
    false => [1, 2, 3, 7, 8, 9, 16, 17, 33, 290, 1024],
    true => [1, 2, 3, 7, 8, 9, 16, 17, 33, 70, 130],
};
const QUANTIZED: [Width; 3] = [Width::A2, Width::A4, Width::A8];

fn options(family: Family) -> GemmOptions {
    GemmOptions::default().with_family(family)
}

/// N and K of 100, 7392 and 10944, M from 1 to 1024, each grouping and width: the kernel that the
/// table selects, compared with the plain kernels too.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn matches_reference_on_model_shapes() {
    let device = Device::new();
    let mut turn = 0;
    for n in scaled([100, 7392, 10944], [20, 100, 200]) {
        for k in scaled([100, 7392, 10944], [100, 264, 1368]) {
            for weights in weights(turn as usize) {
                turn += 1;
                let symmetric = turn % 2 == 0;
                let rng = &mut rng(turn);
                let layer =
                    Layer::of_scheme(&device, rng, (n, k), weights, ScaleType::F16, symmetric);
                for width in QUANTIZED {
                    for m in MS {
                        // A large shape runs at one width, in rotation: the sizes differ, not the
                        // code.
                        let large = m * n * k > 5_000_000_000;
                        if large && (turn as usize + m) % 3 != width.index() {
                            continue;
                        }
                        let call = Call {
                            seed: turn,
                            bias: m == 33,
                            ..Call::new(m, width)
                        };
                        let inputs = Inputs::new(&call, (n, k));
                        let (got, plan) = run(&device, &layer, &call, &inputs);
                        compare(&device, &layer, &call, &inputs, &got, &plan);
                        if m >= scaled(290, 70) && !large {
                            let oracle = Call {
                                options: options(Family::Plain),
                                ..call
                            };
                            let (plain, _) = run(&device, &layer, &oracle, &inputs);
                            assert_eq!(bits(&got), bits(&plain), "{call:?}: {plan}");
                        }
                    }
                }
            }
        }
    }
}

/// The largest number of tokens.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn matches_reference_with_4096_tokens() {
    let device = Device::new();
    let layer = Layer::new(
        &device,
        &mut rng(3),
        scaled((4096, 4096), (48, 192)),
        Grouping::G128,
        ScaleType::F16,
        false,
    );
    for width in QUANTIZED {
        for packed in [false, true] {
            check(
                &device,
                &layer,
                &Call {
                    packed,
                    ..Call::new(4096, width)
                },
            );
        }
    }
}

/// Rows of x and y at every alignment and with every small gap, in both families. The plan reports
/// slow paths.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn matches_reference_at_any_alignment_and_stride() {
    let device = Device::new();
    for (n, k) in scaled([(100, 392), (131, 331)], [(36, 136), (51, 139)]) {
        for weights in [
            (Scheme::Grouped, Grouping::G64),
            (Scheme::Grouped, Grouping::PerChannel),
            (Scheme::TwoLevel, Grouping::G64),
        ] {
            let layer = Layer::of_scheme(
                &device,
                &mut rng(4),
                (n, k),
                weights,
                ScaleType::Bf16,
                false,
            );
            for width in QUANTIZED {
                for (m, family) in [
                    (2, Family::Decode),
                    (9, Family::Decode),
                    (33, Family::Prefill),
                ] {
                    for shift in 0..8 {
                        for gap in [0, 1, 2, 4, 5, 8] {
                            let call = Call {
                                options: options(family),
                                gaps: (gap, (gap + shift) % 9),
                                shifts: (shift, (shift * 3) % 8),
                                ..Call::new(m, width)
                            };
                            let plan = check(&device, &layer, &call);
                            let aligned = shift == 0 && (k + gap) % 8 == 0;
                            assert!(!(aligned && plan.slow_x), "{call:?}: {plan}");
                        }
                    }
                }
            }
        }
    }
}

/// Each width has the same bits in every run, also while another stream uses the device.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn runs_are_repeatable() {
    let device = Device::new();
    let other = device.fork();
    let (n, k) = scaled((1000, 2048), (100, 520));
    let layer = Layer::new(
        &device,
        &mut rng(6),
        (n, k),
        Grouping::G128,
        ScaleType::F16,
        false,
    );
    for width in WIDTHS {
        for m in [1, 5, 16, 100] {
            let call = Call::new(m, width);
            let inputs = Inputs::new(&call, (n, k));
            let (first, plan) = run(&device, &layer, &call, &inputs);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for seed in 0..scaled(10, 3) {
                        let call = Call {
                            seed,
                            ..Call::new(64, Width::A8)
                        };
                        run(&other, &layer, &call, &Inputs::new(&call, (n, k)));
                    }
                });
                for _ in 0..scaled(20, 3) {
                    let (again, _) = run(&device, &layer, &call, &inputs);
                    assert_eq!(bits(&again), bits(&first), "{call:?}: {plan}");
                }
            });
        }
    }
}

//! The calls that are predicted and measured.

use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Width};

/// `[N, K]`: attention's projections, q, k and v in one, gate and up in one, down.
pub const SHAPES: [(usize, usize); 4] = [(4096, 4096), (12288, 4096), (22016, 4096), (4096, 11008)];

/// The cases of one shape and grouping: what the table picks, or everything.
pub fn cases(
    tokens: &[usize],
    all: bool,
    (n, k): (usize, usize),
    grouping: Grouping,
) -> Vec<Problem> {
    let mut cases = Vec::new();
    for &m in tokens {
        for width in Width::ALL {
            let quantized = width != Width::Bf16;
            let mut put = |packed, options| {
                let case = Problem {
                    m,
                    n,
                    k,
                    width,
                    latched: false,
                    grouping,
                    packed,
                    options,
                };
                if case.plan().is_ok() {
                    cases.push(case);
                }
            };
            put(false, GemmOptions::default());
            // As it is for k and v when q has paid for the packing.
            if quantized && m > 2 {
                put(true, GemmOptions::default());
            }
            if !all {
                continue;
            }
            for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
                for tile in 1..=family.tiles() {
                    for packed in [false, true] {
                        if quantized || !packed {
                            let options = GemmOptions {
                                family: Some(family),
                                // That one packs first.
                                fused: Some(family != Family::Wgmma),
                                tile: Some(tile),
                                pdl: false,
                            };
                            put(packed, options);
                        }
                    }
                }
            }
        }
    }
    cases
}

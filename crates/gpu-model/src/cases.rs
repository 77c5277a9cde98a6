//! The calls that are predicted and measured: the linear layers of Llama-2-7B (OpenVLA's backbone).

use w4ax::cuda::{Family, GemmOptions, Problem};
use w4ax::{Grouping, Scheme, Width};

/// `[N, K]` of the attention's output projection; q, k and v in one; gate and up in one; down.
pub const SHAPES: [(usize, usize); 4] = [(4096, 4096), (12288, 4096), (22016, 4096), (4096, 11008)];

/// Returns the calls of one shape and kind of weights, for all widths.
///
/// `all`: with every family, mode and tile that supports the call, not only with the table's
/// choice.
pub fn cases(
    tokens: &[usize],
    all: bool,
    (n, k): (usize, usize),
    (scheme, grouping): (Scheme, Grouping),
) -> Vec<Problem> {
    let mut cases = Vec::new();
    for &m in tokens {
        for width in Width::ALL {
            let quantized = width != Width::Bf16;
            let mut add = |quantized_ahead, options| {
                let case = Problem::new((m, n, k), width, grouping)
                    .with_scheme(scheme)
                    .with_quantized(quantized_ahead)
                    .with_options(options);
                if case.plan().is_ok() {
                    cases.push(case);
                }
            };
            add(false, GemmOptions::default());
            // On activations that were quantized for an earlier GEMM, as k and v are after q.
            if quantized && m > 2 {
                add(true, GemmOptions::default());
            }
            if !all {
                continue;
            }
            for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
                for tile in 1..=family.tiles() {
                    for quantized_ahead in [false, true] {
                        if quantized || !quantized_ahead {
                            // The wgmma family reads quantized activations only.
                            let options = GemmOptions::default()
                                .with_family(family)
                                .with_fused(family != Family::Wgmma)
                                .with_tile(tile);
                            add(quantized_ahead, options);
                        }
                    }
                }
            }
        }
    }
    cases
}

//! Bytes that a call moves between device memory and the multiprocessors.

use w4ax::cuda::{LaunchPlan, Mode, Problem, QuantizedActivations};
use w4ax::{Grouping, Result, Scheme, Width};

use crate::tile::Tile;

/// Returns the bytes of a symmetric weight `[n, k]` with 16-bit scales, including its sums and its
/// group steps.
pub fn weight_bytes((n, k): (usize, usize), scheme: Scheme, grouping: Grouping) -> f64 {
    let rows = n.next_multiple_of(16);
    let scale_groups = scheme.activation_grouping(grouping);
    let sum_bytes = if scale_groups == Grouping::PerChannel {
        4
    } else {
        2
    };
    let params = scale_groups.groups(k) * (2 + sum_bytes);
    let steps = match scheme {
        Scheme::TwoLevel => 2 * grouping.groups(k),
        _ => 0,
    };
    (rows / 16 * k.div_ceil(64) * 512 + rows * (params + steps)) as f64
}

/// Returns the grouping by which a call's activations are quantized.
pub fn activation_grouping(case: &Problem) -> Grouping {
    case.scheme().activation_grouping(case.grouping())
}

/// Returns the width of a call.
///
/// # Panics
/// For a latched width, which the model does not cover.
pub fn width(case: &Problem) -> Width {
    case.width().expect("the model covers fixed widths")
}

/// Returns the bytes of quantized activations in the layout of the plan's kernel.
///
/// # Errors
/// If the layout does not support the call.
///
/// # Panics
/// If the kernel's family has no such layout.
pub fn quantized_bytes(case: &Problem, plan: &LaunchPlan) -> Result<f64> {
    let layout =
        (plan.family.activation_layout()).expect("the plan's family reads quantized activations");
    let (m, k) = (case.m(), case.k());
    Ok(
        QuantizedActivations::bytes_for(m, k, width(case), activation_grouping(case), layout)?
            as f64,
    )
}

/// Returns the bytes that `quantize_pack` reads and writes.
///
/// # Errors
/// As [`quantized_bytes`].
pub fn quantize_pack_bytes(case: &Problem, plan: &LaunchPlan) -> Result<f64> {
    Ok((2 * case.m() * case.k()) as f64 + quantized_bytes(case, plan)?)
}

/// Returns the bytes that a call must move: weight, x and y once, quantized activations written and
/// read once.
///
/// # Errors
/// As [`quantized_bytes`].
pub fn call_bytes(case: &Problem, plan: &LaunchPlan) -> Result<f64> {
    let (m, n, k) = (case.m(), case.n(), case.k());
    let mut bytes = weight_bytes((n, k), case.scheme(), case.grouping()) + (2 * m * n) as f64;
    if plan.mode == Mode::Quantized {
        bytes += quantized_bytes(case, plan)? * f64::from(plan.launches);
    }
    if plan.mode == Mode::Fused || plan.launches > 1 {
        bytes += (2 * m * k) as f64;
    }
    Ok(bytes)
}

/// Returns the bytes that a block reads: its weights and their scales, and x or its codes for its
/// tokens.
pub fn block_bytes(tile: &Tile, case: &Problem, plan: &LaunchPlan) -> f64 {
    let k = case.k() as f64;
    let bits = match plan.mode {
        Mode::Quantized if tile.wgmma => 8.0,
        Mode::Quantized => f64::from(width(case).bits()),
        _ => 16.0,
    };
    let tokens = if tile.decode { case.m() } else { tile.tokens() } as f64;
    let groups = if tile.group == 0 {
        1.0
    } else {
        k / tile.group as f64
    };
    let steps = match (tile.two_level, case.grouping().size()) {
        (true, Some(group)) => 2.0 * k / group as f64,
        _ => 0.0,
    };
    // Per channel, a row is read a second time after its range is known.
    let passes = if tile.fused && tile.group == 0 && tile.bits != 16 {
        2.0
    } else {
        1.0
    };
    tile.rows() as f64 * (k / 2.0 + groups * 4.0 + steps) + tokens * k * bits / 8.0 * passes
}

/// Returns the bits of an activation in the kernels: A2 runs on the kernels of A4.
pub fn kernel_bits(width: Width) -> usize {
    match width {
        Width::A2 | Width::A4 => 4,
        Width::A8 => 8,
        Width::Bf16 => 16,
    }
}

/// Returns the weights of a group along k, with 0 for per channel.
pub fn group_size(grouping: Grouping) -> usize {
    match grouping {
        Grouping::PerChannel => 0,
        Grouping::G32 => 32,
        Grouping::G64 => 64,
        Grouping::G128 => 128,
    }
}

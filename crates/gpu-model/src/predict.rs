//! A call's time from its bytes and from the machine code of its kernel.
//!
//! ```text
//! GEMM  = max(memory, in flight, l2, tensor, issue, shared, stalls) + one memory latency
//! call  = GEMM [+ quantize_pack] + 1.5 us a launch
//! limit = max(bytes / bandwidth, operations / densest rate)      share = limit / call
//! ```
//! - memory: bytes once over the bus, at the sheet's bandwidth;
//! - in flight: a memory latency for as many bytes of weights as all resident blocks ask for ahead (Little's law);
//! - l2: what a multiprocessor's blocks read, at 47 bytes a clock;
//! - tensor, issue, shared: clocks of a multiprocessor, for the block counts below;
//! - stalls: clocks that the busiest warp takes for itself, by the waits that the compiler encoded, for each wave of
//!   resident blocks.
//!
//! The multiprocessor with the most blocks decides: ceil(blocks / SMs) of them, as many at a time as registers, shared memory
//! and warps allow. Instructions are those of the usual way through the machine code (code.rs).
//!
//! Assumptions, none of them measured here:
//! - a launch costs 1.5 us, the second of two as well (programmatic dependent launch would hide a part);
//! - a read from memory takes 700 ns;
//! - L2 gives each multiprocessor 47 bytes a clock: the A100's 5120 bytes a clock for 108 of them, as NVIDIA's white paper has
//!   it, and the same for the others;
//! - nothing else waits: no bank conflict, no wait at a barrier or for a load beyond the encoded stalls. So a prediction is a
//!   bound that a kernel may miss, not a time that it will take.

use crate::device::{DeviceProps, call_bytes, mma, packed_bytes, weight_bytes};
use crate::kernels::Machine;
use crate::occupancy::{Limits, Need, blocks_per_sm};
use crate::pipes::Tally;
use crate::tile::Tile;
use w4ax::cuda::{Family, GemmOptions, Mode, Plan, Problem};
use w4ax::{Grouping, Width};

const LAUNCH_US: f64 = 1.5;
const LATENCY_US: f64 = 0.7;
const L2_BYTES_A_CLOCK: f64 = 47.0;

#[derive(Clone, Debug, serde::Serialize)]
pub struct Prediction {
    pub us: f64,
    /// Which of the parts takes the time; `launch` where launches and latency take more than any of them.
    pub bound: &'static str,
    /// `limit_us / us`.
    pub share: f64,
    /// What no kernel can beat: bytes at the sheet's bandwidth, or operations at the densest rate.
    pub limit_us: f64,
    /// The GEMM's bytes at the sheet's bandwidth.
    pub memory_us: f64,
    /// Its weights at what is in flight at once.
    pub in_flight_us: f64,
    pub l2_us: f64,
    pub tensor_us: f64,
    pub issue_us: f64,
    pub shared_us: f64,
    pub stalls_us: f64,
    /// Of `quantize_pack`, its launch aside.
    pub pack_us: f64,
    pub blocks: usize,
    pub blocks_per_sm: u32,
    pub waves: f64,
    pub registers: u32,
    /// Instructions of a warp in an iteration of the main loop, and the multiplications among them.
    pub loop_instructions: f64,
    pub loop_mma: f64,
    /// Warp instructions of a call for each weight tile of 16 x 64.
    pub instructions_a_tile: f64,
    /// The architecture whose machine code was read.
    pub machine: String,
}

/// # Errors
/// If there is no such kernel, or the chip's architecture is unknown.
pub fn predict(
    machine: &mut Machine,
    chip: &DeviceProps<'_>,
    case: &Problem,
) -> Result<Prediction, Box<dyn std::error::Error>> {
    let plan = case.plan()?;
    let group = group(case.grouping);
    let bits = bits(case.width);
    let fused = plan.mode == Mode::Fused;
    let tile = match plan.family {
        Family::Wgmma => Tile::wgmma(bits, group, plan.tile),
        family => Tile::of(family == Family::Decode, bits, group, fused, plan.tile),
    }
    .ok_or("an unknown tile")?;
    let arch = machine
        .arch(&chip.arch)
        .ok_or_else(|| format!("nothing is built for {}'s generation", chip.arch))?;
    let limits =
        Limits::of(&chip.arch).ok_or_else(|| format!("no limits are known of {}", chip.arch))?;

    let clocks_a_us = chip.ghz * 1e3;
    let pack_us = if plan.launches > 1 {
        pack_us(machine, chip, (case, &plan), &arch)?
    } else {
        0.0
    };

    let code = machine.code(&arch, &tile.symbol(), true)?;
    let iteration = code.way.iteration();
    if iteration.mma != tile.multiplications(arch.starts_with("sm_8")) as f64 {
        return Err(format!("{}: its tile and its machine code differ", plan.kernel).into());
    }
    let (warps, blocks) = (tile.warps() as f64, plan.blocks as f64);
    let resident = blocks_per_sm(
        limits,
        Need {
            warps: tile.launched_warps() as u32,
            registers: code.registers,
            shared: code.shared + tile.shared_bytes(case.m) as u32,
        },
    );
    if resident == 0 {
        return Err(format!("{} does not fit on {}", plan.kernel, chip.name).into());
    }
    let resident_everywhere = f64::from(resident) * chip.sms;
    let tally = (code.way.pieces.iter()).fold(Tally::default(), |sum, piece| {
        sum + piece.tally * tile.repetitions(piece.times, case.m, case.k)
    });
    // Its block waits for the warp that has the most to do: with one token, the one that adds the sums of groups.
    let stalls: f64 = (code.way.pieces.iter())
        .map(|piece| {
            piece.tally.stalls * tile.repetitions_of_the_busiest(piece.times, case.m, case.k)
        })
        .sum();
    // The multiprocessor that has the most to do.
    let most = (blocks / chip.sms).ceil();
    let waves = (blocks / resident_everywhere).ceil();
    // Of wgmma, and of this kernel.
    let densest = chip.rate(mma(chip, case.width)) / chip.mma_share;
    let rate = densest * if tile.wgmma { 1.0 } else { chip.mma_share };
    let in_flight = tile.bytes_in_flight() as f64 * blocks.min(resident_everywhere);
    let bytes = call_bytes(case, &plan)?;
    let weights = weight_bytes(case.n, case.k, case.grouping);
    let pack_traffic = if plan.launches > 1 {
        pack_bytes(case, &plan)?
    } else {
        0.0
    };
    let parts = [
        ("memory", (bytes - pack_traffic) / (chip.gb_per_s * 1e3)),
        ("in flight", weights / in_flight * LATENCY_US),
        (
            "l2",
            most * block_bytes(&tile, case, &plan) / L2_BYTES_A_CLOCK / clocks_a_us,
        ),
        ("tensor", most * tally.tensor * warps / rate / clocks_a_us),
        (
            "issue",
            most * tally.issue_clocks(warps, chip.f32_lanes()) / clocks_a_us,
        ),
        ("shared", most * tally.shared * warps / clocks_a_us),
        ("stalls", waves * stalls / clocks_a_us),
    ];
    let (bound, gemm_us) = parts
        .into_iter()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("seven of them");
    let overhead_us = LATENCY_US + LAUNCH_US * f64::from(plan.launches);
    let us = gemm_us + pack_us + overhead_us;
    let operations = 2.0 * (case.n * case.k * case.m) as f64;
    let limit_us =
        (bytes / (chip.gb_per_s * 1e3)).max(operations / (densest * chip.sms * clocks_a_us));
    Ok(Prediction {
        us,
        bound: if overhead_us > gemm_us + pack_us {
            "launch"
        } else {
            bound
        },
        share: limit_us / us,
        limit_us,
        memory_us: parts[0].1,
        in_flight_us: parts[1].1,
        l2_us: parts[2].1,
        tensor_us: parts[3].1,
        issue_us: parts[4].1,
        shared_us: parts[5].1,
        stalls_us: parts[6].1,
        pack_us,
        blocks: plan.blocks,
        blocks_per_sm: resident,
        waves: blocks / resident_everywhere,
        registers: code.registers,
        loop_instructions: iteration.instructions,
        loop_mma: iteration.mma,
        instructions_a_tile: tally.instructions * warps * blocks
            / (case.n.div_ceil(16) * case.k.div_ceil(64)) as f64,
        machine: arch,
    })
}

/// `quantize_pack` by its bytes and its instructions, its launch aside.
fn pack_us(
    machine: &mut Machine,
    chip: &DeviceProps<'_>,
    (case, plan): (&Problem, &Plan),
    arch: &str,
) -> Result<f64, String> {
    const WARPS: f64 = 8.0;
    let group = group(case.grouping);
    let symbol = if group == 0 {
        "::quantize_pack_rows(".to_owned()
    } else {
        format!("::quantize_pack_groups<{group}>")
    };
    let code = machine.code(arch, &symbol, false)?;
    let (blocks, passes) = if group == 0 {
        (case.m.next_multiple_of(8), case.k.div_ceil(256 * 8))
    } else {
        (case.m.div_ceil(8) * case.k.div_ceil(256), 1)
    };
    let tally = (code.way.pieces.iter()).fold(Tally::default(), |sum, piece| {
        let times = if piece.times == crate::trace::Times::Once {
            1
        } else {
            passes
        };
        sum + piece.tally * times as f64
    });
    let most = (blocks as f64 / chip.sms).ceil();
    let issue = most * tally.issue_clocks(WARPS, chip.f32_lanes());
    let memory = pack_bytes(case, plan).map_err(|error| error.to_string())? / (chip.gb_per_s * 1e3);
    Ok((issue.max(tally.stalls) / (chip.ghz * 1e3)).max(memory) + LATENCY_US)
}

/// The chip as the library's table knows it.
pub fn device(chip: &DeviceProps<'_>, wgmma: bool) -> w4ax::cuda::DeviceProps {
    let number = chip.arch.trim_start_matches("sm_").parse().unwrap_or(80);
    w4ax::cuda::DeviceProps {
        capability: (number / 10, number % 10),
        wgmma: wgmma && number == 90,
        multiprocessors: chip.sms as u32,
    }
}

/// The call with the kernel named that the library's table has for the chip.
pub fn planned_on(chip: &DeviceProps<'_>, case: &Problem) -> w4ax::Result<Problem> {
    Ok(named(case, &case.plan_for(&device(chip, true))?))
}

/// The call with the plan's kernel named.
pub fn named(case: &Problem, plan: &Plan) -> Problem {
    let options = GemmOptions {
        family: Some(plan.family),
        fused: Some(plan.launches == 1),
        tile: Some(plan.tile),
        ..case.options
    };
    Problem { options, ..*case }
}

/// Of the kernel's activations.
fn bits(width: Width) -> usize {
    match width {
        Width::A2 | Width::A4 => 4,
        Width::A8 => 8,
        Width::Bf16 => 16,
    }
}

/// What `quantize_pack` reads and writes.
fn pack_bytes(case: &Problem, plan: &Plan) -> w4ax::Result<f64> {
    Ok((2 * case.m * case.k) as f64 + packed_bytes(case, plan)?)
}

fn group(grouping: Grouping) -> usize {
    match grouping {
        Grouping::PerChannel => 0,
        Grouping::G32 => 32,
        Grouping::G64 => 64,
        Grouping::G128 => 128,
    }
}

/// Bytes that a block reads: its weights and their scales, and x or its codes for its tokens.
fn block_bytes(tile: &Tile, case: &Problem, plan: &Plan) -> f64 {
    let k = case.k as f64;
    let bits = match plan.mode {
        Mode::Packed if tile.wgmma => 8.0,
        Mode::Packed => f64::from(case.width.bits()),
        Mode::Fused => 16.0,
    };
    let tokens = if tile.decode { case.m } else { tile.tokens() } as f64;
    let groups = if tile.group == 0 {
        1.0
    } else {
        k / tile.group as f64
    };
    // Whole rows are read once more for their range.
    let twice = if tile.fused && tile.group == 0 && tile.bits != 16 {
        2.0
    } else {
        1.0
    };
    tile.rows() as f64 * (k / 2.0 + groups * 4.0) + tokens * k * bits / 8.0 * twice
}

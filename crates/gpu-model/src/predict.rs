//! The predicted time of a call, from its bytes and from the machine code of its kernel.
//!
//! ```text
//! GEMM  = max(memory, in flight, l2, tensor, issue, shared, stalls) + memory latency
//! call  = GEMM [+ quantize_pack] + 1.5 us per launch
//! limit = max(bytes / bandwidth, operations / densest rate)      share = limit / call
//! ```
//! - memory: bytes that must move, at the bandwidth of the data sheet;
//! - in flight: one memory latency for as many bytes of weights as all resident blocks request
//!   ahead (Little's law);
//! - l2: bytes that the blocks of a multiprocessor read, at the device's bytes per clock;
//! - tensor, issue, shared: clocks of a multiprocessor;
//! - stalls: clocks that the busiest warp stalls by the encoded stall counts, for each wave of
//!   resident blocks.
//!
//! The multiprocessor with the most blocks decides: ceil(blocks / SMs), as many at a time as
//! registers, shared memory and warps allow. Instructions are those of the usual trace through the
//! machine code ([`crate::trace`]).
//!
//! Assumptions, none of them measured:
//! - a launch costs 1.5 us; programmatic dependent launch, which hides a part, is ignored;
//! - a read from memory takes 700 ns;
//! - L2 delivers to each multiprocessor what [`crate::device`] has for the device: 47 bytes per
//!   clock for the A100, 28 for the H100;
//! - there are no bank conflicts, and no waits at barriers or for loads beyond the encoded stalls.
//!
//! A prediction is therefore a lower bound on the time of a kernel.

use w4ax::Scheme;
use w4ax::cuda::{Family, LaunchPlan, Mode, Problem};

use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::kernels::KernelLibrary;
use crate::occupancy::{BlockResources, SmLimits, blocks_per_sm};
use crate::pipes::Tally;
use crate::tile::Tile;
use crate::trace::Repeat;
use crate::traffic::{
    activation_grouping, block_bytes, call_bytes, group_size, kernel_bits, quantize_pack_bytes,
    weight_bytes, width,
};

const LAUNCH_US: f64 = 1.5;
const LATENCY_US: f64 = 0.7;

/// The predicted time of a call and its parts. Times are in microseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Prediction {
    /// Time of the call.
    pub us: f64,
    /// The part that takes the most time; `launch` if launches and latency take more than any part.
    pub bound: &'static str,
    /// `limit_us / us`.
    pub share: f64,
    /// The time that no kernel can beat: bytes at the data sheet's bandwidth, or operations at the
    /// densest rate.
    pub limit_us: f64,
    /// The GEMM's bytes at the data sheet's bandwidth.
    pub memory_us: f64,
    /// The GEMM's weights at the bytes that are in flight at once.
    pub in_flight_us: f64,
    /// Reads from L2.
    pub l2_us: f64,
    /// Matrix multiplications.
    pub tensor_us: f64,
    /// Issue slots and arithmetic lanes.
    pub issue_us: f64,
    /// Shared memory.
    pub shared_us: f64,
    /// Encoded stalls.
    pub stalls_us: f64,
    /// `quantize_pack` without its launch.
    pub pack_us: f64,
    /// Blocks of the GEMM.
    pub blocks: usize,
    /// Blocks that are resident on a multiprocessor.
    pub blocks_per_sm: u32,
    /// Blocks divided by the blocks that are resident on the device.
    pub waves: f64,
    /// Registers of a thread.
    pub registers: u32,
    /// Instructions of a warp in an iteration of the main loop.
    pub loop_instructions: f64,
    /// Matrix multiplications of a warp in an iteration of the main loop.
    pub loop_mma: f64,
    /// Warp instructions of a call for each weight tile of 16 x 64.
    pub instructions_a_tile: f64,
    /// The architecture whose machine code was read.
    pub machine: String,
}

/// A kernel of a call as it runs on a device.
struct Launch {
    tile: Tile,
    /// Resources and instructions of a warp in an iteration of the main loop.
    registers: u32,
    iteration: Tally,
    /// Instructions of a block's warp, averaged over its warps.
    tally: Tally,
    /// Clocks that the busiest warp of a block stalls.
    stalls: f64,
    /// Blocks of the grid.
    blocks: f64,
    /// Blocks that are resident on a multiprocessor, and on the device.
    resident: u32,
    resident_on_device: f64,
}

impl Launch {
    fn new(
        kernels: &mut KernelLibrary,
        device: &DeviceSpec<'_>,
        (case, plan): (&Problem, &LaunchPlan),
        arch: &str,
    ) -> Result<Self> {
        let tile = tile(case, plan)?;
        let limits = SmLimits::of(&device.arch)
            .ok_or_else(|| Error::UnsupportedArch(device.arch.to_string()))?;
        let code = kernels.code(arch, &tile.symbol(), true)?;
        let iteration = code.trace.iteration();
        let expected = tile.multiplications(arch.starts_with("sm_8"));
        if iteration.mma != expected as f64 {
            return Err(Error::TileMismatch {
                kernel: plan.kernel.to_owned(),
                found: iteration.mma,
                expected,
            });
        }
        let block = BlockResources {
            warps: tile.launched_warps() as u32,
            registers: code.registers,
            shared: code.shared + tile.shared_bytes(case.m()) as u32,
        };
        let resident = blocks_per_sm(limits, block);
        if resident == 0 {
            return Err(Error::DoesNotFit {
                kernel: plan.kernel.to_owned(),
                device: device.name.to_owned(),
            });
        }
        let sections = || code.trace.sections.iter();
        let tally = sections()
            .map(|section| section.tally * tile.repetitions(section.repeat, case.m(), case.k()))
            .sum();
        // A block waits for its busiest warp: with one token, the warp that adds the sums of
        // groups.
        let stalls = sections()
            .map(|section| {
                section.tally.stalls
                    * tile.repetitions_of_the_busiest(section.repeat, case.m(), case.k())
            })
            .sum();
        Ok(Self {
            tile,
            registers: code.registers,
            iteration,
            tally,
            stalls,
            blocks: plan.blocks as f64,
            resident,
            resident_on_device: f64::from(resident) * device.sms,
        })
    }
}

/// Predicts the time of a call on a device.
///
/// # Errors
/// If the kernel does not exist or does not fit, or the device's architecture is not supported.
pub fn predict(
    kernels: &mut KernelLibrary,
    device: &DeviceSpec<'_>,
    case: &Problem,
) -> Result<Prediction> {
    let plan = case.plan()?;
    let arch = (kernels.arch(&device.arch))
        .ok_or_else(|| Error::UnsupportedArch(device.arch.to_string()))?;
    let quantizes_first = plan.launches > 1;
    let (pack_us, pack_bytes) = if quantizes_first {
        (
            quantize_pack_us(kernels, device, (case, &plan), &arch)?,
            quantize_pack_bytes(case, &plan)?,
        )
    } else {
        (0.0, 0.0)
    };
    let launch = Launch::new(kernels, device, (case, &plan), &arch)?;
    let (tile, tally) = (&launch.tile, &launch.tally);

    let clocks_per_us = device.ghz * 1e3;
    let bytes_per_us = device.gb_per_s * 1e3;
    let warps = tile.warps() as f64;
    // Blocks of the multiprocessor that has the most.
    let most = (launch.blocks / device.sms).ceil();
    let waves = (launch.blocks / launch.resident_on_device).ceil();
    // The rate of wgmma, and that of this kernel's instructions.
    let densest = device.rate(device.mma(width(case))) / device.mma_share;
    let rate = densest * if tile.wgmma { 1.0 } else { device.mma_share };
    let in_flight = tile.bytes_in_flight() as f64 * launch.blocks.min(launch.resident_on_device);
    let bytes = call_bytes(case, &plan)?;
    let weights = weight_bytes((case.n(), case.k()), case.scheme(), case.grouping());
    let l2_clocks = most * block_bytes(tile, case, &plan) / device.l2_bytes_per_clock;
    let issue_clocks = most * tally.issue_clocks(warps, device.f32_lanes());
    let parts = [
        ("memory", (bytes - pack_bytes) / bytes_per_us),
        ("in flight", weights / in_flight * LATENCY_US),
        ("l2", l2_clocks / clocks_per_us),
        ("tensor", most * tally.tensor * warps / rate / clocks_per_us),
        ("issue", issue_clocks / clocks_per_us),
        ("shared", most * tally.shared * warps / clocks_per_us),
        ("stalls", waves * launch.stalls / clocks_per_us),
    ];
    let (bound, gemm_us) = parts
        .into_iter()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("the array has seven elements");
    let overhead_us = LATENCY_US + LAUNCH_US * f64::from(plan.launches);
    let us = gemm_us + pack_us + overhead_us;
    let operations = 2.0 * (case.n() * case.k() * case.m()) as f64;
    let limit_us = (bytes / bytes_per_us).max(operations / (densest * device.sms * clocks_per_us));
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
        blocks_per_sm: launch.resident,
        waves: launch.blocks / launch.resident_on_device,
        registers: launch.registers,
        loop_instructions: launch.iteration.instructions,
        loop_mma: launch.iteration.mma,
        instructions_a_tile: tally.instructions * warps * launch.blocks
            / (case.n().div_ceil(16) * case.k().div_ceil(64)) as f64,
        machine: arch,
    })
}

fn tile(case: &Problem, plan: &LaunchPlan) -> Result<Tile> {
    let group = group_size(activation_grouping(case));
    let bits = kernel_bits(width(case));
    let fused = plan.mode == Mode::Fused;
    let tile = match plan.family {
        Family::Wgmma => Tile::wgmma(bits, group, plan.tile),
        family => Tile::of(family == Family::Decode, bits, group, fused, plan.tile),
    };
    let tile = match case.scheme() {
        Scheme::TwoLevel => tile.map(Tile::for_two_level),
        _ => tile,
    };
    tile.ok_or_else(|| Error::UnknownTile {
        family: plan.family.to_string(),
        tile: plan.tile,
    })
}

/// Predicts the time of `quantize_pack` by its bytes and its instructions, without its launch.
fn quantize_pack_us(
    kernels: &mut KernelLibrary,
    device: &DeviceSpec<'_>,
    (case, plan): (&Problem, &LaunchPlan),
    arch: &str,
) -> Result<f64> {
    const WARPS: f64 = 8.0;
    let group = group_size(activation_grouping(case));
    let symbol = if group == 0 {
        "::quantize_pack_rows<".to_owned()
    } else {
        format!("::quantize_pack_groups<w4ax::QuantizeGroupsConfig<{group}>")
    };
    let code = kernels.code(arch, &symbol, false)?;
    let (blocks, passes) = if group == 0 {
        (case.m().next_multiple_of(8), case.k().div_ceil(256 * 8))
    } else {
        (case.m().div_ceil(8) * case.k().div_ceil(256), 1)
    };
    let tally: Tally = (code.trace.sections.iter())
        .map(|section| {
            let times = if section.repeat == Repeat::Once {
                1
            } else {
                passes
            };
            section.tally * times as f64
        })
        .sum();
    let most = (blocks as f64 / device.sms).ceil();
    let issue_clocks = most * tally.issue_clocks(WARPS, device.f32_lanes());
    let memory_us = quantize_pack_bytes(case, plan)? / (device.gb_per_s * 1e3);
    let execution_us = issue_clocks.max(tally.stalls) / (device.ghz * 1e3);
    Ok(execution_us.max(memory_us) + LATENCY_US)
}

/// Returns the call with the kernel that the library's table has for the device.
///
/// # Errors
/// If no kernel supports the call.
pub fn with_table_choice(device: &DeviceSpec<'_>, case: &Problem) -> Result<Problem> {
    Ok(with_plan(case, &case.plan_for(&device.table_key(true))?))
}

/// Returns the call with its options set to the kernel of a plan.
pub fn with_plan(case: &Problem, plan: &LaunchPlan) -> Problem {
    let options = (case.options())
        .with_family(plan.family)
        .with_fused(plan.launches == 1)
        .with_tile(plan.tile);
    case.with_options(options)
}

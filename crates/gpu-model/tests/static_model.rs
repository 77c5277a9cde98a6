//! Tests the parts of the static model: occupancy, traces through machine code, and tiles against
//! the compiled kernels.
//!
//! The last four tests read this build's kernels and fail in a build without kernels.

use gpu_model::kernels::{KernelLibrary, LIBRARY};
use gpu_model::occupancy::{BlockResources, SmLimits, blocks_per_sm};
use gpu_model::pipes::Tally;
use gpu_model::sass::{self, Kernel};
use gpu_model::tile::Tile;
use gpu_model::trace::{Repeat, Section, Trace, Work};
use gpu_model::{Error, vla};
use std::collections::BTreeSet;
use std::path::Path;
use w4ax::cuda::{DeviceProps, Family, Mode, Problem};
use w4ax::{Grouping, Width};

/// Each of the four limits decides once. The expected values are computed by hand.
#[test]
fn occupancy_is_the_least_of_four_limits() {
    let blocks = |arch, warps, registers, shared| {
        let limits = SmLimits::of(arch).expect("the architecture is known");
        blocks_per_sm(
            limits,
            BlockResources {
                warps,
                registers,
                shared,
            },
        )
    };
    // Registers: 168 * 32 = 5376 per warp, 43008 per block of 8 warps; 65536 / 43008.
    assert_eq!(blocks("sm_80", 8, 168, 0), 1);
    // 73 registers are rounded up to 80: 65536 / (80 * 32 * 4) = 6, where 73 would allow 7.
    assert_eq!(blocks("sm_80", 4, 73, 0), 6);
    assert_eq!(blocks("sm_80", 8, 64, 0), 4);
    // Warps: at most 64 or 48.
    assert_eq!(blocks("sm_80", 8, 32, 0), 8);
    assert_eq!(blocks("sm_86", 8, 32, 0), 6);
    // Blocks: at most 32, 16 or 24.
    assert_eq!(blocks("sm_80", 1, 16, 0), 32);
    assert_eq!(blocks("sm_86", 1, 16, 0), 16);
    assert_eq!(blocks("sm_89", 1, 16, 0), 24);
    // Shared memory, of which the driver reserves 1 KiB per block: 164 KiB hold two blocks of 81
    // KiB and one of 82 KiB.
    assert_eq!(blocks("sm_80", 4, 32, 81 * 1024), 2);
    assert_eq!(blocks("sm_80", 4, 32, 82 * 1024), 1);
    assert_eq!(blocks("sm_90a", 4, 32, 227 * 1024), 1);
    assert_eq!(blocks("sm_86", 4, 32, 100 * 1024), 0);
    assert_eq!(SmLimits::of("sm_70"), None);
}

/// Returns a kernel of these instructions, all with a stall count of 2. `@` stands for a predicate.
fn kernel(lines: &[&str]) -> Kernel {
    Kernel {
        instructions: lines
            .iter()
            .map(|l| l.trim_start_matches('@').to_owned())
            .collect(),
        guarded: lines.iter().map(|l| l.starts_with('@')).collect(),
        stalls: vec![2; lines.len()],
        ..Kernel::default()
    }
}

/// Returns how often each section of a trace is executed, and its instructions.
fn sections(trace: &Trace) -> Vec<(Repeat, f64)> {
    (trace.sections.iter())
        .map(|section| (section.repeat, section.tally.instructions))
        .collect()
}

#[test]
fn main_loop_is_the_loop_that_multiplies() {
    let trace = Trace::new(&kernel(&[
        "MOV R0, RZ",              // 0x00
        "IADD3 R1, R1, 0x1, RZ",   // 0x10: a loop before the main loop
        "@BRA 0x10",               // 0x20
        "LDS.128 R4, [R2]",        // 0x30: the main loop
        "@BRA 0x70",               // 0x40: skips a block under a condition
        "STS [R2], R0",            // 0x50
        "LOP3.LUT R0, R1, R2, R3", // 0x60
        "IMMA.16864.S4.U4 R20, R16.ROW, R40.COL, R24",
        "@BRA 0xc0", // 0x80: asymmetric or symmetric weights
        "FMUL R1, R2, R3",
        "FFMA R1, R2, R3, R1",
        "BRA 0xd0",        // 0xb0
        "FMUL R1, R2, R3", // 0xc0
        "@BRA 0x30",       // 0xd0
        "STG [R2], R0",
        "EXIT",
    ]))
    .expect("the kernel has a main loop");
    let iteration = trace.iteration();
    // 0x30 to 0x80, the shorter arm at 0xc0, and the branch back.
    assert_eq!((iteration.instructions, iteration.mma), (8.0, 1.0));
    assert_eq!(iteration.tensor, f64::from(2 * 16 * 8 * 64));
    assert_eq!(iteration.shared, 4.0 + 1.0);
    assert_eq!(iteration.stalls, 16.0);
    let other = Repeat::Loop {
        work: Work::Other,
        inside: false,
        unrolled: 1,
    };
    assert_eq!(
        sections(&trace),
        [(Repeat::Once, 3.0), (other, 2.0), (Repeat::Main, 8.0)]
    );
}

/// A division calls a function for extreme operands only, which is not part of a trace. A guarded
/// CALL is a jump out of a loop.
#[test]
fn omits_slow_paths_and_separates_inner_loops() {
    let trace = Trace::new(&kernel(&[
        "IMMA.16832.S8.U8 R20, R16.ROW, R40.COL, R24", // 0x00
        "@BRA 0x40",
        "MOV R2, 0x40",
        "CALL.REL.NOINC 0xc0",
        "LDS R4, [R2]",          // 0x40: an inner loop, left by a jump
        "FFMA R1, R2, R3, R1",   // 0x50
        "@CALL.REL.NOINC 0x80",  // 0x60
        "BRA 0x40",              // 0x70
        "IADD3 R1, R1, 0x1, RZ", // 0x80
        "@BRA 0x0",
        "BRA.DIV ~URZ, 0xd0",
        "EXIT", // 0xb0
        "RET.REL.NODEC R2 0x0",
        "BRA 0xb0", // 0xd0: diverged warps only
    ]))
    .expect("the kernel has a main loop");
    let inner = Repeat::Loop {
        work: Work::AddGroups,
        inside: true,
        unrolled: 4,
    };
    assert_eq!(
        sections(&trace),
        [(Repeat::Main, 4.0), (inner, 4.0), (Repeat::Once, 2.0)]
    );
}

#[test]
fn rejects_kernel_without_main_loop() {
    let none = kernel(&["MOV R0, RZ", "@BRA 0x0", "EXIT"]);
    assert!(matches!(Trace::new(&none), Err(Error::NoMainLoop { .. })));
    assert_eq!(Trace::without_main_loop(&none).sections.len(), 2);
}

#[test]
fn instructions_occupy_their_pipes() {
    let clocks = |opcodes: &[&str], lanes| {
        let sum = opcodes
            .iter()
            .fold(Tally::default(), |sum, opcode| sum + Tally::of(opcode, 1));
        sum.issue_clocks(4.0, lanes)
    };
    // Four warps on four schedulers: one clock to issue; two clocks where a scheduler has 16 lanes
    // for the 32 of a warp.
    assert_eq!(clocks(&["BAR.SYNC"], 64.0), 1.0);
    assert_eq!(clocks(&["LOP3.LUT"], 64.0), 2.0);
    assert_eq!(clocks(&["FFMA"], 64.0), 2.0);
    assert_eq!(clocks(&["FFMA"], 128.0), 1.0);
    assert_eq!(clocks(&["IMAD", "FFMA"], 128.0), 2.0);
    assert_eq!(clocks(&["FFMA", "LOP3.LUT"], 64.0), 2.0);
    assert_eq!(clocks(&["MUFU.RCP"], 128.0), 8.0);
    // The four warps of a warpgroup: 64 x 80 x 32. Reading the 2560 bytes of B takes 20 clocks of
    // shared memory.
    let mma = Tally::of("IGMMA.64x80x32.S8.U8", 1) * 4.0;
    assert_eq!((mma.tensor, mma.shared), (2.0 * 64.0 * 80.0 * 32.0, 20.0));
}

/// Every kernel that the library's table chooses has the tile that the model assumes.
#[test]
fn tiles_match_the_plans_of_the_table() {
    let mut seen = BTreeSet::new();
    for (width, bits) in [(Width::A4, 4), (Width::A8, 8), (Width::Bf16, 16)] {
        for (n, wgmma) in [100, 4096, 12288, 22016]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            for m in [1, 2, 8, 16, 17, 32, 33, 64, 128, 290, 1024, 4096] {
                let case = Problem::new((m, n, 4096), width, Grouping::G128);
                let chip = DeviceProps {
                    capability: (9, 0),
                    wgmma,
                    multiprocessors: 132,
                };
                let plan = case.plan_for(&chip).expect("a kernel supports the call");
                let decode = plan.family == Family::Decode;
                let tile = match plan.family {
                    Family::Wgmma => Tile::wgmma(bits, 128, plan.tile),
                    _ => Tile::of(decode, bits, 128, plan.mode == Mode::Fused, plan.tile),
                }
                .expect("the model has the tile");
                assert_eq!(
                    (plan.tile_n, plan.tile_m),
                    (tile.rows(), tile.tokens()),
                    "{plan}"
                );
                assert!(wgmma || plan.family != Family::Wgmma, "{plan}");
                seen.insert((plan.family.to_string(), plan.tile));
            }
        }
    }
    for family in [Family::Decode, Family::Prefill, Family::Wgmma] {
        let tiles = seen.iter().filter(|(of, _)| *of == family.to_string());
        assert!(tiles.count() >= 2, "{family}: {seen:?}");
    }
}

/// Returns the kernels of this build, of all architectures or of one.
fn kernels(arch: Option<&str>) -> Vec<Kernel> {
    let library = LIBRARY.unwrap_or_else(|| panic!("{}", Error::NoKernels));
    sass::read(Path::new(library), arch).unwrap_or_else(|error| panic!("{error}"))
}

/// The group sizes of kernels, 0 for per channel; `None` for two-level weights.
const WEIGHTS: [Option<usize>; 5] = [Some(0), Some(32), Some(64), Some(128), None];

/// Returns the variant for the weights of an element of [`WEIGHTS`].
fn of_weights(group: Option<usize>, tile: Tile) -> Tile {
    match group {
        Some(_) => tile,
        None => tile.for_two_level(),
    }
}

/// The main loop of every wgmma kernel has as many matrix multiplications as its tile implies.
#[test]
fn wgmma_loops_match_their_tiles() {
    let kernels = kernels(Some("sm_90a"));
    for bits in [8, 16] {
        for group in WEIGHTS {
            for tile in 1..=4 {
                let Some(tile) = Tile::wgmma(bits, group.unwrap_or(0), tile) else {
                    assert!(tile > 2, "the family has two tiles for all weights");
                    continue;
                };
                let tile = of_weights(group, tile);
                let symbol = tile.symbol();
                let kernel = (kernels.iter())
                    .find(|k| k.name.contains(&symbol))
                    .unwrap_or_else(|| panic!("missing kernel: {symbol}"));
                let iteration = Trace::new(kernel)
                    .unwrap_or_else(|error| panic!("{error}"))
                    .iteration();
                assert_eq!(
                    iteration.mma,
                    tile.multiplications(false) as f64,
                    "{symbol}"
                );
                let operations = 2 * 16 * tile.nt * tile.tokens() * 128;
                assert_eq!(iteration.tensor, operations as f64, "{symbol}");
            }
        }
    }
}

/// The main loop of every decode and prefill kernel has as many matrix multiplications as its tile
/// implies.
#[test]
fn decode_and_prefill_loops_match_their_tiles() {
    let kernels = kernels(None);
    let mut archs: Vec<&str> = kernels.iter().map(|k| k.arch.as_str()).collect();
    archs.sort_unstable();
    archs.dedup();
    assert!(!archs.is_empty());
    for arch in archs {
        for (decode, bits, fused) in [true, false].into_iter().flat_map(|decode| {
            [(4, true), (4, false), (8, true), (8, false), (16, true)]
                .map(|(bits, fused)| (decode, bits, fused))
        }) {
            for group in WEIGHTS {
                for tile in 1..=3 {
                    let tile = Tile::of(decode, bits, group.unwrap_or(0), fused, tile);
                    let tile = of_weights(group, tile.expect("the family has three tiles"));
                    let symbol = tile.symbol();
                    let kernel = (kernels.iter())
                        .find(|k| k.arch == arch && k.name.contains(&symbol))
                        .unwrap_or_else(|| panic!("missing kernel for {arch}: {symbol}"));
                    let trace = Trace::new(kernel).unwrap_or_else(|error| panic!("{error}"));
                    let s4 = arch.starts_with("sm_8");
                    assert_eq!(
                        trace.iteration().mma,
                        tile.multiplications(s4) as f64,
                        "{arch} {symbol}"
                    );
                    let quantizes = |section: &Section| {
                        matches!(
                            section.repeat,
                            Repeat::Loop {
                                work: Work::Quantize,
                                ..
                            }
                        )
                    };
                    assert_eq!(
                        trace.sections.iter().any(quantizes),
                        bits != 16 && fused,
                        "{arch} {symbol}"
                    );
                }
            }
        }
    }
}

/// Each time of the committed table that this build predicts is within 0.1 % of its prediction. A
/// row has rounded milliseconds, so a stale table differs by more.
#[test]
fn committed_part_times_are_those_of_these_kernels() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../w4ax-vla/src/measure/predicted.csv"
    );
    let committed = vla::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut kernels = KernelLibrary::load().unwrap_or_else(|error| panic!("{error}"));
    let predicted = vla::part_times(&mut kernels).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        !predicted.is_empty(),
        "no machine code of the table: expected a build for sm_80 or sm_90a"
    );
    let nvcc = w4ax::cuda::build_info().unwrap().nvcc;
    let names =
        |row: &vla::PartTime| [&row.model, &row.device, &row.width, &row.part].map(String::clone);
    for row in &predicted {
        let same: Vec<f64> = (committed.iter())
            .filter(|other| names(other) == names(row))
            .map(|other| other.ms)
            .collect();
        assert!(
            matches!(same[..], [ms] if (ms - row.ms).abs() <= 1e-3 * row.ms),
            "{row:?} by nvcc {nvcc}: the table has {same:?}: generate it again by the command in \
             its first line"
        );
    }
    // No row of these devices is left from a table with other parts or models.
    let devices: BTreeSet<&str> = predicted.iter().map(|row| row.device.as_str()).collect();
    let known = committed
        .iter()
        .filter(|row| devices.contains(row.device.as_str()));
    assert_eq!(known.count(), predicted.len());
}

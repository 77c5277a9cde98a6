//! The static model's parts: blocks on a multiprocessor, loops in machine code, and that the compiled kernels have the loops that
//! their templates promise.

use gpu_model::occupancy::{Limits, Need, blocks_per_sm};
use gpu_model::pipes::Tally;
use gpu_model::sass::{self, Kernel};
use gpu_model::tile::Tile;
use gpu_model::trace::{Piece, Times, Way, Work};
use std::collections::BTreeSet;
use std::path::Path;
use w4ax::cuda::{DeviceProps, Family, GemmOptions, Mode, Problem};
use w4ax::{Grouping, Width};

/// By hand, each of the four limits once.
#[test]
fn occupancy_is_the_least_of_four_limits() {
    let blocks = |arch, warps, registers, shared| {
        let limits = Limits::of(arch).expect("a known architecture");
        blocks_per_sm(
            limits,
            Need {
                warps,
                registers,
                shared,
            },
        )
    };
    // Registers: 168 * 32 = 5376 a warp, 43008 a block of 8; 65536 / 43008.
    assert_eq!(blocks("sm_80", 8, 168, 0), 1);
    // 73 registers count as 80: 80 * 32 * 4 = 10240 go 6 times into 65536, what 73 by themselves take 7 times.
    assert_eq!(blocks("sm_80", 4, 73, 0), 6);
    assert_eq!(blocks("sm_80", 8, 64, 0), 4);
    // Warps: 64 or 48 of them.
    assert_eq!(blocks("sm_80", 8, 32, 0), 8);
    assert_eq!(blocks("sm_86", 8, 32, 0), 6);
    // Blocks: small ones.
    assert_eq!(blocks("sm_80", 1, 16, 0), 32);
    assert_eq!(blocks("sm_86", 1, 16, 0), 16);
    assert_eq!(blocks("sm_89", 1, 16, 0), 24);
    // Shared memory, 1 KiB of it the driver's: 164 KiB hold two blocks of 81 KiB and not of 82.
    assert_eq!(blocks("sm_80", 4, 32, 81 * 1024), 2);
    assert_eq!(blocks("sm_80", 4, 32, 82 * 1024), 1);
    assert_eq!(blocks("sm_90a", 4, 32, 227 * 1024), 1);
    assert_eq!(blocks("sm_86", 4, 32, 100 * 1024), 0);
    assert_eq!(Limits::of("sm_70"), None);
}

/// A kernel of these instructions, all with a stall of 2; `@` stands for a predicate.
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

/// How often each piece of a way is taken, and its instructions.
fn pieces(way: &Way) -> Vec<(Times, f64)> {
    (way.pieces.iter())
        .map(|p| (p.times, p.tally.instructions))
        .collect()
}

#[test]
fn the_main_loop_is_the_one_that_multiplies() {
    let way = Way::of(&kernel(&[
        "MOV R0, RZ",              // 0x00
        "IADD3 R1, R1, 0x1, RZ",   // 0x10: a loop before
        "@BRA 0x10",               // 0x20
        "LDS.128 R4, [R2]",        // 0x30: the main loop
        "@BRA 0x70",               // 0x40: around what some lanes do
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
    .expect("a loop multiplies");
    let iteration = way.iteration();
    // 0x30 to 0x80, the shorter arm at 0xc0, the branch back.
    assert_eq!((iteration.instructions, iteration.mma), (8.0, 1.0));
    assert_eq!(iteration.tensor, f64::from(2 * 16 * 8 * 64));
    assert_eq!(iteration.shared, 4.0 + 1.0);
    assert_eq!(iteration.stalls, 16.0);
    let other = Times::Loop {
        work: Work::Other,
        inside: false,
        unrolled: 1,
    };
    assert_eq!(
        pieces(&way),
        [(Times::Once, 3.0), (other, 2.0), (Times::Main, 8.0)]
    );
}

/// Divisions call a function where an operand is extreme: no usual call does. A jump by a guarded CALL leaves a loop.
#[test]
fn slow_paths_are_left_out_and_inner_loops_counted_apart() {
    let way = Way::of(&kernel(&[
        "IMMA.16832.S8.U8 R20, R16.ROW, R40.COL, R24", // 0x00
        "@BRA 0x40",
        "MOV R2, 0x40",
        "CALL.REL.NOINC 0xc0",
        "LDS R4, [R2]",          // 0x40: a loop inside, left by a jump
        "FFMA R1, R2, R3, R1",   // 0x50
        "@CALL.REL.NOINC 0x80",  // 0x60
        "BRA 0x40",              // 0x70
        "IADD3 R1, R1, 0x1, RZ", // 0x80
        "@BRA 0x0",
        "BRA.DIV ~URZ, 0xd0",
        "EXIT", // 0xb0
        "RET.REL.NODEC R2 0x0",
        "BRA 0xb0", // 0xd0: what diverged warps run
    ]))
    .expect("a loop multiplies");
    let inner = Times::Loop {
        work: Work::AddGroups,
        inside: true,
        unrolled: 4,
    };
    assert_eq!(
        pieces(&way),
        [(Times::Main, 4.0), (inner, 4.0), (Times::Once, 2.0)]
    );
}

#[test]
fn a_kernel_that_multiplies_nothing_has_no_main_loop() {
    let none = kernel(&["MOV R0, RZ", "@BRA 0x0", "EXIT"]);
    assert!(Way::of(&none).is_err());
    assert_eq!(Way::without_main_loop(&none).pieces.len(), 2);
}

#[test]
fn instructions_take_the_clocks_of_their_pipes() {
    let clocks = |opcodes: &[&str], lanes| {
        let sum = opcodes
            .iter()
            .fold(Tally::default(), |sum, opcode| sum + Tally::of(opcode, 1));
        sum.issue_clocks(4.0, lanes)
    };
    // Four warps on four schedulers: a clock each to issue, two where 16 lanes take a warp in two turns.
    assert_eq!(clocks(&["BAR.SYNC"], 64.0), 1.0);
    assert_eq!(clocks(&["LOP3.LUT"], 64.0), 2.0);
    assert_eq!(clocks(&["FFMA"], 64.0), 2.0);
    assert_eq!(clocks(&["FFMA"], 128.0), 1.0);
    assert_eq!(clocks(&["IMAD", "FFMA"], 128.0), 2.0);
    assert_eq!(clocks(&["FFMA", "LOP3.LUT"], 64.0), 2.0);
    assert_eq!(clocks(&["MUFU.RCP"], 128.0), 8.0);
    // The four warps of a warpgroup: 64 x 80 x 32, whose B of 2560 bytes takes shared memory 20 clocks.
    let mma = Tally::of("IGMMA.64x80x32.S8.U8", 1) * 4.0;
    assert_eq!((mma.tensor, mma.shared), (2.0 * 64.0 * 80.0 * 32.0, 20.0));
}

/// The tiles of the library's kernels are the model's, whatever kernel the table picks.
#[test]
fn the_model_knows_the_tiles_of_the_table() {
    let mut seen = BTreeSet::new();
    for (width, bits) in [(Width::A4, 4), (Width::A8, 8), (Width::Bf16, 16)] {
        for (n, wgmma) in [100, 4096, 12288, 22016]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            for m in [1, 2, 8, 16, 17, 32, 33, 64, 128, 290, 1024, 4096] {
                let case = Problem {
                    m,
                    n,
                    k: 4096,
                    width,
                    latched: false,
                    grouping: Grouping::G128,
                    packed: false,
                    options: GemmOptions::default(),
                };
                let chip = DeviceProps {
                    capability: (9, 0),
                    wgmma,
                    multiprocessors: 132,
                };
                let plan = case.plan_for(&chip).expect("a build with kernels");
                let decode = plan.family == Family::Decode;
                let tile = match plan.family {
                    Family::Wgmma => Tile::wgmma(bits, 128, plan.tile),
                    _ => Tile::of(decode, bits, 128, plan.mode == Mode::Fused, plan.tile),
                }
                .expect("a tile that the model knows");
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

/// The kernels of this build, all or one architecture's.
fn kernels(arch: Option<&str>) -> Vec<Kernel> {
    let Some(library) = option_env!("W4AX_KERNEL_LIBRARY") else {
        panic!(
            "this build has no kernels: run third_party/fetch, or set NVCC and W4AX_CUTLASS_DIR"
        );
    };
    sass::read(Path::new(library), arch)
}

/// Every wgmma kernel's loop multiplies as its tile says.
#[test]
fn wgmma_kernels_are_as_their_tiles_say() {
    let kernels = kernels(Some("sm_90a"));
    for bits in [8, 16] {
        for group in [0, 32, 64, 128] {
            for tile in [1, 2] {
                let tile = Tile::wgmma(bits, group, tile).expect("two tiles");
                let symbol = tile.symbol();
                let kernel = (kernels.iter())
                    .find(|k| k.name.contains(&symbol))
                    .unwrap_or_else(|| panic!("no {symbol}"));
                let iteration = Way::of(kernel)
                    .unwrap_or_else(|error| panic!("{error}"))
                    .iteration();
                assert_eq!(
                    iteration.mma,
                    tile.multiplications(false) as f64,
                    "{symbol}"
                );
                let operations = 2 * 16 * tile.tokens() * 128;
                assert_eq!(iteration.tensor, operations as f64, "{symbol}");
            }
        }
    }
}

/// Every GEMM kernel of this build: its loop is found, and multiplies as often as its tile says.
#[test]
fn every_compiled_loop_multiplies_as_its_tile_says() {
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
            for group in [0, 32, 64, 128] {
                for tile in 1..=3 {
                    let tile = Tile::of(decode, bits, group, fused, tile).expect("three tiles");
                    let symbol = tile.symbol();
                    let kernel = (kernels.iter())
                        .find(|k| k.arch == arch && k.name.contains(&symbol))
                        .unwrap_or_else(|| panic!("{arch} has no {symbol}"));
                    let way = Way::of(kernel).unwrap_or_else(|error| panic!("{error}"));
                    let s4 = arch.starts_with("sm_8");
                    assert_eq!(
                        way.iteration().mma,
                        tile.multiplications(s4) as f64,
                        "{arch} {symbol}"
                    );
                    let quantizes = |piece: &Piece| {
                        matches!(
                            piece.times,
                            Times::Loop {
                                work: Work::Quantize,
                                ..
                            }
                        )
                    };
                    assert_eq!(
                        way.pieces.iter().any(quantizes),
                        bits != 16 && fused,
                        "{arch} {symbol}"
                    );
                }
            }
        }
    }
}

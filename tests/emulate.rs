//! The CUDA kernels' own sources, run on a CPU by the emulator of `kernels/emulate`, against the Rust scalar mirror.
//!
//! Each runner is one compiler's sanitiser (none; ASan with UBSan; TSan) and one architecture (800: s4 tensor cores; 900:
//! s8). Without a sanitiser all cases run on both. A2, A4 and A8 must equal the mirror bit for bit. BF16 must be exact on small integers, and within the bound of
//! `w4ax::numerics` else. Buffers have their exact sizes, schedules and asynchronous copies vary by seed.

#[path = "support/emulator.rs"]
mod emulator;
mod support;

use emulator::{Answer, Case, Part, Runner, Variant};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::Mutex;
use support::{Kind, PlainWeight, bits, rng};
use w4ax::reference::{matmul_f64, mirror};
use w4ax::{Grouping, MatRef, PackedWeight, Precision, ScaleType, Scales};

/// Both without a sanitiser; one each with: they differ in one engine of three, and the builds take minutes.
fn architectures(variant: Variant) -> &'static [u32] {
    match variant {
        Variant::Plain => &[800, 900],
        Variant::Address => &[800],
        Variant::Thread => &[900],
    }
}

const DECODE: u32 = 1;
const PREFILL: u32 = 2;
const PLAIN: u32 = 3;
const FUSED: u32 = 1;
const PACKED: u32 = 2;

/// Brings a part of a variant up to date, one at a time, and says what was left out.
fn build(part: Part, variant: Variant) {
    static BUILT: Mutex<Vec<(Part, Variant)>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().expect("no build has failed");
    if !built.contains(&(part, variant)) {
        let left_out = emulator::build(part, &[variant], architectures(variant));
        if !left_out.is_empty() {
            println!("left out:\n{left_out}");
        }
        built.push((part, variant));
    }
}

/// Runs `test` for every architecture of a variant, side by side. A variant that this machine's compiler cannot build was
/// named by [`build`]; the plain one must be there.
fn for_runners(variant: Variant, test: impl Fn(&mut Runner, u32) + Sync) {
    build(Part::Kernels, variant);
    std::thread::scope(|scope| {
        for &architecture in architectures(variant) {
            let test = &test;
            match Runner::new(variant, architecture) {
                Some(mut runner) => {
                    scope.spawn(move || test(&mut runner, architecture));
                }
                None => assert_ne!(variant, Variant::Plain, "there is no plain runner"),
            }
        }
    });
}

/// A GEMM as a kernel is asked for it.
#[derive(Clone, Debug)]
struct Gemm {
    m: usize,
    n: usize,
    k: usize,
    precision: Precision,
    grouping: Grouping,
    symmetric: bool,
    scale_type: ScaleType,
    family: u32,
    mode: u32,
    /// 0: the kernels' own choice.
    tile: u32,
    kind: Kind,
    bias: bool,
    /// Elements between two rows of x and of y beyond their lengths.
    gaps: (usize, usize),
    /// x starts so many elements past an address aligned to 16 bytes.
    x_shift: usize,
    seed: u64,
}

impl Default for Gemm {
    fn default() -> Self {
        Self {
            m: 1,
            n: 100,
            k: 100,
            precision: Precision::A8,
            grouping: Grouping::G64,
            symmetric: true,
            scale_type: ScaleType::Bf16,
            family: DECODE,
            mode: FUSED,
            tile: 0,
            kind: Kind::Normal,
            bias: false,
            gaps: (0, 0),
            x_shift: 0,
            seed: 0,
        }
    }
}

/// What goes into a GEMM.
struct Input {
    weight: PackedWeight,
    /// With its gaps.
    x: Vec<bf16>,
    bias: Option<Vec<f32>>,
}

impl Gemm {
    fn input(&self) -> Input {
        let rng = &mut rng(self.seed);
        let shape = (self.n, self.k);
        let mut plain =
            PlainWeight::random(rng, shape, self.grouping, self.scale_type, self.symmetric);
        let mut x = self.kind.fill(rng, self.m * (self.k + self.gaps.0));
        if self.precision == Precision::Bf16 && self.kind == Kind::Zeros {
            // BF16 is compared exactly where all sums are small integers: those, in place of zeros.
            plain.scales = Scales::F32(vec![0.5; self.n * self.grouping.groups(self.k)]);
            x.iter_mut()
                .for_each(|x| *x = bf16::from_f32(rng.random_range(-8..=8) as f32));
        }
        let bias = self.bias.then(|| {
            (0..self.n)
                .map(|_| rng.random_range(-3..=3) as f32)
                .collect()
        });
        Input {
            weight: plain.pack(),
            x,
            bias,
        }
    }

    fn group(&self) -> usize {
        self.grouping.size().unwrap_or(0)
    }

    /// The fields that every call of this GEMM has.
    fn arguments(&self, function: &'static str) -> Case {
        let scale_type = match self.scale_type {
            ScaleType::F32 => 0,
            ScaleType::F16 => 1,
            ScaleType::Bf16 => 2,
        };
        // Integer-valued BF16 cases have f32 scales.
        let exact = self.precision == Precision::Bf16 && self.kind == Kind::Zeros;
        Case::new(function)
            .set("seed", (self.seed >> 2) as i64)
            .arg("m", self.m)
            .arg("n", self.n)
            .arg("k", self.k)
            .arg("width", self.precision.bits())
            .arg("group", self.group())
            .arg("scale_type", if exact { 0 } else { scale_type })
            .arg("x_stride", self.k + self.gaps.0)
            .arg("y_stride", self.n + self.gaps.1)
            .arg("family", self.family)
            .arg("mode", self.mode)
            .arg("tile", self.tile)
    }

    /// Runs it; y without its gaps, which must be untouched.
    fn run(&self, runner: &mut Runner, input: &Input) -> Result<Vec<bf16>, String> {
        let w = &input.weight;
        let mut case = self.arguments("gemm").input("tiles", w.tiles(), 128).input(
            "scales",
            w.tiled_scales().bytes(),
            16,
        );
        if let Some(zeros) = w.tiled_zeros() {
            case = case.input("zeros", zeros, 16);
        }
        case = match self.grouping {
            Grouping::PerChannel => case.input("sums", &sums(w), 16),
            _ => {
                let narrow: Vec<i16> = sums(w).iter().map(|&s| s as i16).collect();
                case.input("sums", &narrow, 16)
            }
        };
        if let Some(bias) = &input.bias {
            case = case.input("bias", bias, 4);
        }
        // The last row of a matrix has no gap behind it: ASan sees what reads it.
        let x_len = (self.m - 1) * (self.k + self.gaps.0) + self.k;
        let x = bytemuck::cast_slice(&input.x[..x_len]);
        case = match self.mode {
            PACKED => case.input("x", &self.packed(runner, input)?, 128),
            _ => case.buffer("x", x, 16, 2 * self.x_shift, false),
        };
        let y_len = (self.m - 1) * (self.n + self.gaps.1) + self.n;
        let poison = bf16::from_bits(0x1234);
        case = case.output("y", &vec![poison; y_len], 16);
        let answer = expect_ok(runner.run(&case)?)?;
        let mut y = answer.output::<bf16>("y");
        y.resize(self.m * (self.n + self.gaps.1), poison);
        let rows = y.chunks(self.n + self.gaps.1);
        if rows
            .clone()
            .any(|row| row[self.n..].iter().any(|&v| v != poison))
        {
            return Err("something was written between the rows of y".into());
        }
        Ok(rows.flat_map(|row| row[..self.n].to_vec()).collect())
    }

    /// What quantize_pack makes of x.
    fn packed(&self, runner: &mut Runner, input: &Input) -> Result<Vec<u8>, String> {
        let bytes = expect_ok(runner.run(&self.arguments("packed_bytes"))?)?.values["bytes"];
        let x_len = (self.m - 1) * (self.k + self.gaps.0) + self.k;
        let x = bytemuck::cast_slice(&input.x[..x_len]);
        let case = self
            .arguments("quantize_pack")
            .buffer("x", x, 16, 2 * self.x_shift, false)
            .output("packed", &vec![0xA5u8; bytes as usize], 128);
        Ok(expect_ok(runner.run(&case)?)?.outputs["packed"].clone())
    }

    /// Runs it and compares.
    fn check(&self, runner: &mut Runner) -> Result<(), String> {
        let input = self.input();
        let got = self
            .run(runner, &input)
            .map_err(|e| format!("{self:?}: {e}"))?;
        let x = MatRef::with_stride(&input.x, self.m, self.k, self.k + self.gaps.0).unwrap();
        let bias = input.bias.as_deref();
        let expected = mirror(x, &input.weight, self.precision, bias).unwrap();
        if self.precision != Precision::Bf16 || self.kind == Kind::Zeros {
            let at = (0..got.len()).find(|&at| got[at].to_bits() != expected[at].to_bits());
            return match at {
                None => Ok(()),
                Some(at) => Err(format!(
                    "{self:?}: token {} channel {}: {:#06x}, expected {:#06x}",
                    at / self.n,
                    at % self.n,
                    got[at].to_bits(),
                    expected[at].to_bits()
                )),
            };
        }
        self.within_the_bound(x, &input, &got)
    }

    /// BF16: the bound of the numerics, half a unit of BF16 for the rounding; NaN and infinities only where the mirror has.
    fn within_the_bound(
        &self,
        x: MatRef<'_, bf16>,
        input: &Input,
        got: &[bf16],
    ) -> Result<(), String> {
        let w = &input.weight;
        let exact = matmul_f64(x, w).unwrap();
        let weights = w.dequantize();
        let factor = 2f64.powi(-22) * (self.grouping.size().unwrap_or(self.k) + w.groups()) as f64;
        for (at, (&y, exact)) in got.iter().zip(exact).enumerate() {
            let (token, row) = (at / self.n, at % self.n);
            let bias = input.bias.as_ref().map_or(0.0, |b| f64::from(b[row]));
            let magnitude: f64 = (x.row(token).iter().zip(&weights[row * self.k..][..self.k]))
                .map(|(x, w)| (x.to_f64() * f64::from(*w)).abs())
                .sum();
            let (y, exact) = (y.to_f64(), exact + bias);
            // The weights of `dequantize` are rounded once: 2^-24 of the magnitude.
            let bound = factor * magnitude * 1.01 + exact.abs() / 256.0 + 1e-38;
            // NaN is in no bound.
            if !((y - exact).abs() <= bound) {
                return Err(format!(
                    "{self:?}: token {token} channel {row}: {y}, expected {exact} within {bound}"
                ));
            }
        }
        Ok(())
    }
}

/// `sum(qw - zw)` of each row and group, `[ceil(N/16)][groups][16]`.
fn sums(w: &PackedWeight) -> Vec<i32> {
    let (q, k, groups) = (w.unpack(), w.k(), w.groups());
    let mut sums = vec![0; w.n().div_ceil(16) * groups * 16];
    for (row, q) in q.chunks(k).enumerate() {
        for g in 0..groups {
            let zero = i32::from(w.zero(row, g));
            let range = w.grouping().range(g, k);
            sums[(row / 16 * groups + g) * 16 + row % 16] =
                q[range].iter().map(|&q| i32::from(q) - zero).sum();
        }
    }
    sums
}

fn expect_ok(answer: Answer) -> Result<Answer, String> {
    match answer.status {
        0 => Ok(answer),
        status => Err(format!("status {status}")),
    }
}

/// Every family, mode, width, grouping and symmetry at the M, N and K with tails.
fn matrix() -> Vec<Gemm> {
    let mut cases = Vec::new();
    let families = [
        (DECODE, FUSED),
        (DECODE, PACKED),
        (PREFILL, FUSED),
        (PREFILL, PACKED),
        (PLAIN, FUSED),
    ];
    for (family, mode) in families {
        for precision in Precision::ALL {
            if precision == Precision::Bf16 && mode == PACKED {
                continue;
            }
            for grouping in Grouping::ALL {
                for (m, k) in [(1, 100), (7, 1152), (17, 100), (33, 1152), (1, 1152)] {
                    if family == DECODE && m > 16 || family == PLAIN && m != 7 {
                        continue;
                    }
                    let at = cases.len() as u64;
                    cases.push(Gemm {
                        m,
                        k,
                        precision,
                        grouping,
                        family,
                        mode,
                        symmetric: at % 2 == 0,
                        scale_type: [ScaleType::Bf16, ScaleType::F16, ScaleType::F32]
                            [at as usize % 3],
                        bias: at % 5 == 0,
                        // BF16: integers, to be compared exactly, in every other case.
                        kind: [Kind::Normal, Kind::Zeros][at as usize / 3 % 2],
                        seed: at,
                        ..Gemm::default()
                    });
                }
            }
        }
    }
    cases
}

fn check_all(variant: Variant, cases: &[Gemm]) {
    for_runners(variant, |runner, architecture| {
        for case in cases {
            if let Err(error) = case.check(runner) {
                panic!("{} {architecture}: {error}", variant.name());
            }
        }
    });
}

#[test]
fn every_kernel_equals_the_mirror() {
    check_all(Variant::Plain, &matrix());
}

#[test]
fn every_kernel_is_clean_under_asan_and_ubsan() {
    check_all(Variant::Address, &matrix());
}

#[test]
fn every_kernel_is_clean_under_tsan() {
    check_all(Variant::Thread, &matrix());
}

/// Shapes, strides, alignments and values from proptest, under each sanitiser; every tile variant.
#[test]
fn generated_cases_equal_the_mirror() {
    let strategy = (
        (1usize..40, 1usize..130, 1usize..500),
        proptest::sample::select(Precision::ALL.to_vec()),
        proptest::sample::select(Grouping::ALL.to_vec()),
        (any::<bool>(), any::<bool>()),
        proptest::sample::select(vec![ScaleType::F32, ScaleType::F16, ScaleType::Bf16]),
        (1u32..=3, 1u32..=2, 0u32..3),
        proptest::sample::select(Kind::ALL.to_vec()),
        (0usize..9, 0usize..9, 0usize..8),
        any::<u32>(),
    )
        .prop_map(
            |(shape, precision, grouping, flags, scale_type, how, kind, gaps, seed)| {
                let (m, n, k) = shape;
                let (family, mode, tile) = how;
                let bf16 = precision == Precision::Bf16;
                Gemm {
                    m: if family == DECODE { m.min(16) } else { m },
                    n,
                    k,
                    precision,
                    grouping,
                    symmetric: flags.0,
                    scale_type,
                    family,
                    mode: if bf16 || family == PLAIN { FUSED } else { mode },
                    tile: if family == PLAIN { 0 } else { tile },
                    // What BF16 does beyond finite numbers is IEEE's, and has no bound.
                    kind: match kind {
                        Kind::AnyBits | Kind::Extremes | Kind::Denormals | Kind::Threshold
                            if bf16 =>
                        {
                            Kind::Normal
                        }
                        kind => kind,
                    },
                    bias: flags.1,
                    gaps: (gaps.0, gaps.1),
                    x_shift: gaps.2,
                    seed: u64::from(seed),
                }
            },
        );
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            let runner = std::cell::RefCell::new(runner);
            let config = Config {
                cases: 120,
                failure_persistence: None,
                max_shrink_iters: 200,
                ..Config::default()
            };
            TestRunner::new(config)
                .run(&strategy, |case| {
                    case.check(&mut runner.borrow_mut())
                        .map_err(TestCaseError::fail)
                })
                .unwrap_or_else(|e| panic!("{} {architecture}: {e}", variant.name()));
        });
    }
}

/// Shapes of real models at least once: many rounds of K, many blocks of N.
#[test]
fn real_shapes_equal_the_mirror() {
    let mut cases = Vec::new();
    for (family, mode, m) in [
        (DECODE, FUSED, 1),
        (DECODE, PACKED, 9),
        (PREFILL, PACKED, 65),
        (PREFILL, FUSED, 20),
    ] {
        for (at, precision) in Precision::ALL.into_iter().enumerate() {
            let mode = if precision == Precision::Bf16 {
                FUSED
            } else {
                mode
            };
            let (n, k) = [(256, 7392), (10944, 100), (512, 4096), (320, 11008)][at];
            cases.push(Gemm {
                m,
                n: if m > 16 { n.min(1000) } else { n },
                k,
                precision,
                grouping: [
                    Grouping::G128,
                    Grouping::G32,
                    Grouping::PerChannel,
                    Grouping::G64,
                ][(at + m) % 4],
                symmetric: false,
                family,
                mode,
                kind: Kind::Zeros,
                seed: at as u64,
                ..Gemm::default()
            });
            let last = cases.last_mut().unwrap();
            if last.precision != Precision::Bf16 {
                last.kind = Kind::Normal;
            }
        }
    }
    check_all(Variant::Plain, &cases);
}

/// A row gives the same bits alone and among others: BF16 within a family, the quantised widths in all.
#[test]
fn a_row_does_not_depend_on_the_batch() {
    for_runners(Variant::Plain, |runner, architecture| {
        for (family, m) in [(DECODE, 16), (PREFILL, 70)] {
            for precision in Precision::ALL {
                for grouping in Grouping::ALL {
                    let many = Gemm {
                        m,
                        k: 400,
                        precision,
                        grouping,
                        family,
                        symmetric: false,
                        ..Gemm::default()
                    };
                    let input = many.input();
                    let whole = many.run(runner, &input).unwrap();
                    for token in [0, m / 2 + 1, m - 1] {
                        let one = Gemm {
                            m: 1,
                            ..many.clone()
                        };
                        let input = Input {
                            weight: input.weight.clone(),
                            x: input.x[token * many.k..][..many.k].to_vec(),
                            bias: None,
                        };
                        let alone = one.run(runner, &input).unwrap();
                        assert_eq!(
                            bits(&alone),
                            bits(&whole[token * many.n..][..many.n]),
                            "{architecture} {many:?}"
                        );
                    }
                }
            }
        }
    });
}

/// Whatever the order of threads and of arriving copies is, the bits are the same.
#[test]
fn schedules_do_not_show_in_the_bits() {
    let rng: &mut ChaCha8Rng = &mut rng(4);
    for variant in Variant::ALL {
        let seeds: Vec<i64> = (0..6).map(|_| rng.random_range(0..1 << 30)).collect();
        for_runners(variant, |runner, _| {
            for (family, mode) in [
                (DECODE, FUSED),
                (DECODE, PACKED),
                (PREFILL, FUSED),
                (PREFILL, PACKED),
            ] {
                for precision in [Precision::A4, Precision::A8] {
                    for (at, _) in seeds.iter().enumerate() {
                        let seed = seeds[at] as u64;
                        let case = Gemm {
                            m: 9,
                            k: 300,
                            precision,
                            family,
                            mode,
                            seed,
                            ..Gemm::default()
                        };
                        case.check(runner).unwrap();
                    }
                }
            }
        });
    }
}

/// The emulator itself: fragment layouts as CuTe's traits have them, collectives, and planted faults, each of which must be
/// caught by the builds that can see it.
#[test]
fn the_emulators_own_tests_pass() {
    for variant in Variant::ALL {
        build(Part::Tests, variant);
        for name in ["atoms", "collectives", "faults"] {
            let program = emulator::directory().join(format!("{name}-{}", variant.name()));
            if !program.exists() && variant != Variant::Plain {
                continue; // `build` has said why.
            }
            let output = std::process::Command::new(&program)
                .output()
                .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{text}");
            assert!(
                output.status.success(),
                "{name}-{}:\n{text}{}",
                variant.name(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

//! GEMMs on the emulator's runners, against the Rust scalar mirror.

use crate::runner::{Answer, Case, Part, Runner, Variant};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::Rng;
use std::sync::Mutex;
use test_support::{Kind, PlainWeight, rng};
use w4ax::reference::{self, matmul_f64};
use w4ax::{Grouping, MatRef, PackedWeight, ScaleType, Scales, Width};

/// Both without a sanitizer; one each with: they differ in one engine of three, and the builds take minutes.
pub fn architectures(variant: Variant) -> &'static [u32] {
    match variant {
        Variant::Plain => &[800, 900],
        Variant::Address => &[800],
        Variant::Thread => &[900],
    }
}

pub const DECODE: u32 = 1;
pub const PREFILL: u32 = 2;
pub const PLAIN: u32 = 3;
pub const WGMMA: u32 = 4;
pub const AUTO: u32 = 0;
pub const FUSED: u32 = 1;
pub const PACKED: u32 = 2;
/// The width that the latch says.
pub const LATCHED: u32 = 255;

/// Brings a part of a variant up to date, one at a time, and says what was left out.
pub fn build(part: Part, variant: Variant) {
    build_for(part, variant, architectures(variant));
}

fn build_for(part: Part, variant: Variant, architectures: &[u32]) {
    static BUILT: Mutex<Vec<(Part, Variant, Vec<u32>)>> = Mutex::new(Vec::new());
    let key = (part, variant, architectures.to_vec());
    let mut built = BUILT.lock().expect("no build has failed");
    if !built.contains(&key) {
        let left_out = crate::runner::build(part, &[variant], architectures);
        if !left_out.is_empty() {
            println!("left out:\n{left_out}");
        }
        built.push(key);
    }
}

/// Runs `test` on the runner of sm_90.
pub fn for_sm90(variant: Variant, test: impl FnOnce(&mut Runner)) {
    build_for(Part::Kernels, variant, &[900]);
    match Runner::new(variant, 900) {
        Some(mut runner) => test(&mut runner),
        None => assert_ne!(variant, Variant::Plain, "there is no plain runner"),
    }
}

/// Runs `test` for every architecture of a variant, side by side. A variant that this machine's compiler cannot build was
/// named by [`build`]; the plain one must be there.
pub fn for_runners(variant: Variant, test: impl Fn(&mut Runner, u32) + Sync) {
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
pub struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub width: Width,
    pub grouping: Grouping,
    pub symmetric: bool,
    pub scale_type: ScaleType,
    pub family: u32,
    pub mode: u32,
    /// 0: the kernels' own choice.
    pub tile: u32,
    pub kind: Kind,
    pub bias: bool,
    /// Elements between two rows of x and of y beyond their lengths.
    pub gaps: (usize, usize),
    /// x starts so many elements past an address aligned to 16 bytes.
    pub x_shift: usize,
    pub seed: u64,
    /// The width comes from a latch, which holds `width`.
    pub routed: bool,
}

impl Default for Gemm {
    fn default() -> Self {
        Self {
            m: 1,
            n: 100,
            k: 100,
            width: Width::A8,
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
            routed: false,
        }
    }
}

/// A kind of values for which a width has an expected result: what BF16 does beyond finite numbers is IEEE's, and has no bound.
pub fn with_a_bound(kind: Kind, width: Width) -> Kind {
    match kind {
        Kind::AnyBits | Kind::Extremes | Kind::Denormals | Kind::Threshold
            if width == Width::Bf16 =>
        {
            Kind::Normal
        }
        kind => kind,
    }
}

/// What goes into a GEMM.
pub struct Input {
    pub weight: PackedWeight,
    /// With its gaps.
    pub x: Vec<bf16>,
    pub bias: Option<Vec<f32>>,
}

impl Gemm {
    pub fn input(&self) -> Input {
        let rng = &mut rng(self.seed);
        let shape = (self.n, self.k);
        let mut plain =
            PlainWeight::random(rng, shape, self.grouping, self.scale_type, self.symmetric);
        let mut x = self.kind.fill(rng, self.m * (self.k + self.gaps.0));
        if self.width == Width::Bf16 && self.kind == Kind::Zeros {
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

    pub fn group(&self) -> usize {
        self.grouping.size().unwrap_or(0)
    }

    /// The fields that every call of this GEMM has.
    pub fn arguments(&self, function: &'static str) -> Case {
        let case = if self.routed {
            let latched = 41 << 32 | u64::from(self.width.bits());
            Case::new(function)
                .arg("width", LATCHED)
                .input("latch", &[latched, 42], 16)
        } else {
            Case::new(function).arg("width", self.width.bits())
        };
        case.set("seed", (self.seed >> 2) as i64)
            .arg("m", self.m)
            .arg("n", self.n)
            .arg("k", self.k)
            .arg("group", self.group())
            .arg("scale_type", self.scale_code())
            .arg("x_stride", self.k + self.gaps.0)
            .arg("y_stride", self.n + self.gaps.1)
            .arg("family", self.family)
            .arg("mode", self.mode)
            .arg("tile", self.tile)
    }

    /// Runs it; y without its gaps, which must be untouched.
    pub fn run(&self, runner: &mut Runner, input: &Input) -> Result<Vec<bf16>, String> {
        let mut case = self.weight_buffers(self.arguments("gemm"), input);
        if let Some(bias) = &input.bias {
            case = case.input("bias", bias, 4);
        }
        // The last row of a matrix has no gap behind it: ASan sees what reads it.
        let x_len = (self.m - 1) * (self.k + self.gaps.0) + self.k;
        let x = bytemuck::cast_slice(&input.x[..x_len]);
        case = match self.mode {
            PACKED if !self.routed => case.input("x", &self.packed(runner, input)?, 128),
            _ => case.buffer("x", x, 16, 2 * self.x_shift, false),
        };
        case = match self.mode {
            PACKED if self.routed => case.input("workspace", &self.packed(runner, input)?, 128),
            AUTO => {
                let plan = expect_ok(runner.run(&self.arguments("plan_gemm"))?)?;
                let bytes = plan.values["workspace_bytes"] as usize;
                case.output("workspace", &vec![0xA5u8; bytes], 128)
            }
            _ => case,
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

    /// A case with the weight's buffers, and the fields that say how they are to be read.
    pub fn weight_buffers(&self, case: Case, input: &Input) -> Case {
        let w = &input.weight;
        let mut case = case
            .input("tiles", w.tiles(), 128)
            .input("scales", w.tiled_scales().bytes(), 16)
            .arg("n", self.n)
            .arg("k", self.k)
            .arg("group", self.group())
            .arg("scale_type", self.scale_code());
        if let Some(zeros) = w.tiled_zeros() {
            case = case.input("zeros", zeros, 16);
        }
        match self.grouping {
            Grouping::PerChannel => case.input("sums", &sums(w), 16),
            _ => {
                let narrow: Vec<i16> = sums(w).iter().map(|&s| s as i16).collect();
                case.input("sums", &narrow, 16)
            }
        }
    }

    fn scale_code(&self) -> u32 {
        match self.scale_type {
            // Integer-valued BF16 cases have f32 scales.
            _ if self.width == Width::Bf16 && self.kind == Kind::Zeros => 0,
            ScaleType::F32 => 0,
            ScaleType::F16 => 1,
            ScaleType::Bf16 => 2,
        }
    }

    /// What quantize_pack makes of x.
    pub fn packed(&self, runner: &mut Runner, input: &Input) -> Result<Vec<u8>, String> {
        let bytes = expect_ok(runner.run(&self.arguments("packed_bytes"))?)?.values["bytes"];
        let x_len = (self.m - 1) * (self.k + self.gaps.0) + self.k;
        let x = bytemuck::cast_slice(&input.x[..x_len]);
        let case = self
            .arguments("quantize_pack")
            .buffer("x", x, 16, 2 * self.x_shift, false)
            .output("packed", &vec![0xA5u8; bytes as usize], 128);
        let packed = expect_ok(runner.run(&case)?)?.outputs["packed"].clone();
        if self.width == Width::Bf16 && packed.iter().any(|&byte| byte != 0xA5) {
            return Err("a step of 16 bits was packed".into());
        }
        Ok(packed)
    }

    /// Runs it and compares.
    pub fn check(&self, runner: &mut Runner) -> Result<(), String> {
        let input = self.input();
        let got = self
            .run(runner, &input)
            .map_err(|e| format!("{self:?}: {e}"))?;
        let x = MatRef::with_stride(&input.x, self.m, self.k, self.k + self.gaps.0).unwrap();
        let bias = input.bias.as_deref();
        let expected = reference::gemm(x, &input.weight, self.width, bias).unwrap();
        if self.width != Width::Bf16 || self.kind == Kind::Zeros {
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
            let off = (y - exact).abs();
            if off.is_nan() || off > bound {
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

pub fn expect_ok(answer: Answer) -> Result<Answer, String> {
    match answer.status {
        0 => Ok(answer),
        status => Err(format!("status {status}")),
    }
}

pub fn check_all(variant: Variant, cases: &[Gemm]) {
    for_runners(variant, |runner, architecture| {
        for case in cases {
            if let Err(error) = case.check(runner) {
                panic!("{} {architecture}: {error}", variant.name());
            }
        }
    });
}

/// Checks so many generated cases on the runners of each variant, and shrinks what fails.
pub fn check_generated(strategy: &(impl Strategy<Value = Gemm> + Sync), cases: u32) {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            let what = format!("{} {architecture}", variant.name());
            check_generated_on(strategy, cases, runner, &what);
        });
    }
}

pub fn check_generated_on(
    strategy: &impl Strategy<Value = Gemm>,
    cases: u32,
    runner: &mut Runner,
    what: &str,
) {
    let runner = std::cell::RefCell::new(runner);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(strategy, |case| {
            case.check(&mut runner.borrow_mut())
                .map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|e| panic!("{what}: {e}"));
}

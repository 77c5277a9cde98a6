//! GEMMs on the emulator's runners, against the scalar reference.

use crate::abi::{AUTO, DECODE, FUSED, LATCHED, PACKED, TWO_LEVEL};
use crate::build::{Part, Variant, build, build_for};
use crate::runner::{Reply, Request, Runner};
use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::Rng;
use test_support::{Kind, PlainWeight, rng};
use w4ax::reference::{self, matmul_f64};
use w4ax::{Grouping, MatRef, PackedWeight, ScaleType, Scales, Scheme, Width};

/// Runs `test` on the runner of sm_90, unless the variant is left out.
pub fn for_sm90(variant: Variant, test: impl FnOnce(&mut Runner)) {
    if build_for(Part::Kernels, variant, &[900]) {
        test(&mut Runner::new(variant, 900));
    }
}

/// Runs `test` for every architecture of a variant, in parallel, unless the variant is left out.
pub fn for_runners(variant: Variant, test: impl Fn(&mut Runner, u32) + Sync) {
    if !build(Part::Kernels, variant) {
        return;
    }
    std::thread::scope(|scope| {
        for &architecture in variant.architectures() {
            let test = &test;
            scope.spawn(move || test(&mut Runner::new(variant, architecture), architecture));
        }
    });
}

/// A GEMM: its shape, the weight's properties, the kernel, and the seed of its values.
#[derive(Clone, Debug)]
pub struct GemmCase {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub width: Width,
    pub scheme: Scheme,
    pub grouping: Grouping,
    pub symmetric: bool,
    pub scale_type: ScaleType,
    pub family: u32,
    pub mode: u32,
    /// 0: the kernel table chooses.
    pub tile: u32,
    pub kind: Kind,
    pub bias: bool,
    /// Padding between two rows of x and of y, in elements.
    pub gaps: (usize, usize),
    /// Distance of x from an address aligned to 16 bytes, in elements.
    pub x_shift: usize,
    pub seed: u64,
    /// The kernel reads the width from a latch, which holds `width`.
    pub routed: bool,
}

impl Default for GemmCase {
    fn default() -> Self {
        Self {
            m: 1,
            n: 100,
            k: 100,
            width: Width::A8,
            scheme: Scheme::Grouped,
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

impl GemmCase {
    /// Varies symmetry, type of the scales, bias, kind of values and seed with the number of the
    /// case.
    pub fn numbered(self, number: usize) -> Self {
        Self {
            symmetric: number.is_multiple_of(2),
            scale_type: [ScaleType::Bf16, ScaleType::F16, ScaleType::F32][number % 3],
            bias: number.is_multiple_of(5),
            // BF16: integers, which are compared exactly, in every other case.
            kind: [Kind::Normal, Kind::Zeros][number / 3 % 2],
            seed: number as u64,
            ..self
        }
    }

    /// The case with a weight of a scheme. A two-level weight has groups of 128 in place of
    /// [`Grouping::PerChannel`].
    pub fn of_scheme(self, scheme: Scheme) -> Self {
        let grouping = match (scheme, self.grouping) {
            (Scheme::TwoLevel, Grouping::PerChannel) => Grouping::G128,
            (_, grouping) => grouping,
        };
        Self {
            scheme,
            grouping,
            ..self
        }
    }
}

/// Replaces a kind of values for which a width has no expected result by [`Kind::Normal`].
///
/// BF16 has no bound where numbers are not finite, nor for subnormal products.
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

/// The operands of a GEMM.
pub struct GemmInput {
    pub weight: PackedWeight,
    /// `[m, k]` with its padding.
    pub x: Vec<bf16>,
    pub bias: Option<Vec<f32>>,
}

impl GemmCase {
    pub fn input(&self) -> GemmInput {
        let rng = &mut rng(self.seed);
        let shape = (self.n, self.k);
        let mut plain = PlainWeight::random_of(
            self.scheme,
            rng,
            shape,
            self.grouping,
            self.scale_type,
            self.symmetric,
        );
        let mut x = self.kind.fill(rng, self.m * (self.k + self.gaps.0));
        if self.width == Width::Bf16 && self.kind == Kind::Zeros {
            // BF16 is exact where all sums are small integers: they take the place of zeros.
            plain.scales = Scales::F32(vec![0.5; plain.scales.len()]);
            x.iter_mut()
                .for_each(|x| *x = bf16::from_f32(rng.random_range(-8..=8) as f32));
        }
        let bias = self.bias.then(|| {
            (0..self.n)
                .map(|_| rng.random_range(-3..=3) as f32)
                .collect()
        });
        GemmInput {
            weight: plain.pack(),
            x,
            bias,
        }
    }

    /// The grouping of the scales and of quantized activations.
    fn scale_grouping(&self) -> Grouping {
        match self.scheme {
            Scheme::TwoLevel => Grouping::PerChannel,
            _ => self.grouping,
        }
    }

    /// Returns a request with the fields that every call of this GEMM has.
    pub fn arguments(&self, function: &'static str) -> Request {
        let case = if self.routed {
            let latched = 41 << 32 | u64::from(self.width.bits());
            Request::new(function)
                .arg("width", LATCHED)
                .input("latch", &[latched, 42], 16)
        } else {
            Request::new(function).arg("width", self.width.bits())
        };
        case.set("seed", (self.seed >> 2) as i64)
            .arg("m", self.m)
            .arg("n", self.n)
            .arg("k", self.k)
            .arg("group", self.group_of(function))
            .arg("scheme", self.scheme_code())
            .arg("scale_type", self.scale_code())
            .arg("x_stride", self.k + self.gaps.0)
            .arg("y_stride", self.n + self.gaps.1)
            .arg("family", self.family)
            .arg("mode", self.mode)
            .arg("tile", self.tile)
    }

    /// Runs the GEMM. Returns y without its padding, which must be unchanged.
    pub fn run(&self, runner: &mut Runner, input: &GemmInput) -> Result<Vec<bf16>, String> {
        let mut case = self.weight_buffers(self.arguments("gemm"), input);
        if let Some(bias) = &input.bias {
            case = case.input("bias", bias, 4);
        }
        // The last row has no padding, so that ASan detects reads past it.
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
        let reply = expect_ok(runner.run(&case)?)?;
        let mut y = reply.output::<bf16>("y");
        y.resize(self.m * (self.n + self.gaps.1), poison);
        let rows = y.chunks(self.n + self.gaps.1);
        if rows
            .clone()
            .any(|row| row[self.n..].iter().any(|&v| v != poison))
        {
            return Err("the padding between the rows of y was written to".into());
        }
        Ok(rows.flat_map(|row| row[..self.n].to_vec()).collect())
    }

    /// Adds the weight's buffers to a request, and the fields that describe them.
    pub fn weight_buffers(&self, case: Request, input: &GemmInput) -> Request {
        let w = &input.weight;
        let mut case = case
            .input("tiles", w.tiles(), 128)
            .input("scales", w.tiled_scales().bytes(), 16)
            .arg("n", self.n)
            .arg("k", self.k)
            .arg("group", self.group_of("gemm"))
            .arg("scheme", self.scheme_code())
            .arg("scale_type", self.scale_code());
        if self.scheme == Scheme::TwoLevel {
            case = case.input("steps", &step_words(w), 16);
        } else if let Some(zeros) = w.tiled_zeros() {
            case = case.input("zeros", zeros, 16);
        }
        match self.scale_grouping() {
            Grouping::PerChannel => case.input("sums", &sums(w), 16),
            _ => {
                let narrow: Vec<i16> = sums(w).iter().map(|&s| s as i16).collect();
                case.input("sums", &narrow, 16)
            }
        }
    }

    /// The grouping as `function` takes it: quantization that of the activations, a GEMM that of
    /// the weight.
    pub fn group_of(&self, function: &str) -> usize {
        let grouping = match function {
            "packed_bytes" | "quantize_pack" => self.scale_grouping(),
            _ => self.grouping,
        };
        grouping.size().unwrap_or(0)
    }

    fn scheme_code(&self) -> u32 {
        match self.scheme {
            Scheme::TwoLevel => TWO_LEVEL,
            _ => 0,
        }
    }

    fn scale_code(&self) -> u32 {
        match self.scale_type {
            // BF16 cases of integers have f32 scales.
            _ if self.width == Width::Bf16 && self.kind == Kind::Zeros => 0,
            ScaleType::F32 => 0,
            ScaleType::F16 => 1,
            ScaleType::Bf16 => 2,
        }
    }

    /// Returns the result of quantize_pack for x.
    pub fn packed(&self, runner: &mut Runner, input: &GemmInput) -> Result<Vec<u8>, String> {
        let bytes = expect_ok(runner.run(&self.arguments("packed_bytes"))?)?.values["bytes"];
        let x_len = (self.m - 1) * (self.k + self.gaps.0) + self.k;
        let x = bytemuck::cast_slice(&input.x[..x_len]);
        let case = self
            .arguments("quantize_pack")
            .buffer("x", x, 16, 2 * self.x_shift, false)
            .output("packed", &vec![0xA5u8; bytes as usize], 128);
        let packed = expect_ok(runner.run(&case)?)?.outputs["packed"].clone();
        if self.width == Width::Bf16 && packed.iter().any(|&byte| byte != 0xA5) {
            return Err("quantize_pack wrote to its output in a BF16 step".into());
        }
        Ok(packed)
    }

    /// Runs the GEMM and compares y with the reference.
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

    /// Checks BF16 against its bound, plus half a unit in the last place for the rounding of y.
    ///
    /// A NaN or an infinity is allowed only where the reference has one.
    fn within_the_bound(
        &self,
        x: MatRef<'_, bf16>,
        input: &GemmInput,
        got: &[bf16],
    ) -> Result<(), String> {
        let w = &input.weight;
        let exact = matmul_f64(x, w).unwrap();
        let weights = w.dequantize();
        let factor = match self.scheme {
            Scheme::TwoLevel => self.k,
            _ => self.grouping.size().unwrap_or(self.k) + w.groups(),
        };
        let factor = 2f64.powi(-22) * factor as f64;
        for (at, (&y, exact)) in got.iter().zip(exact).enumerate() {
            let (token, row) = (at / self.n, at % self.n);
            let bias = input.bias.as_ref().map_or(0.0, |b| f64::from(b[row]));
            let magnitude: f64 = (x.row(token).iter().zip(&weights[row * self.k..][..self.k]))
                .map(|(x, w)| (x.to_f64() * f64::from(*w)).abs())
                .sum();
            let (y, exact) = (y.to_f64(), exact + bias);
            // `dequantize` rounds each weight once: 2^-24 of the magnitude.
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

/// Returns `sum(qw - zw)` of each row and group, `[ceil(N/16), groups, 16]`; of a two-level weight
/// the sum of `w8` of each row, `[ceil(N/16), 16]`.
fn sums(w: &PackedWeight) -> Vec<i32> {
    let (q, k) = (w.unpack(), w.k());
    let groups = w.activation_grouping().groups(k);
    let mut sums = vec![0; w.n().div_ceil(16) * groups * 16];
    for (row, q) in q.chunks(k).enumerate() {
        for g in 0..w.groups() {
            let (zero, step) = (i32::from(w.zero(row, g)), i32::from(w.step(row, g)));
            let range = w.grouping().range(g, k);
            let sum: i32 = q[range].iter().map(|&q| (i32::from(q) - zero) * step).sum();
            sums[(row / 16 * groups + g % groups) * 16 + row % 16] += sum;
        }
    }
    sums
}

/// Returns the group steps of a two-level weight as the kernels take them, `[ceil(N/16), groups,
/// 16]`.
fn step_words(w: &PackedWeight) -> Vec<u16> {
    let mut words = vec![0; w.n().div_ceil(16) * w.groups() * 16];
    for row in 0..w.n() {
        for g in 0..w.groups() {
            let (zero, step) = (i32::from(w.zero(row, g)), i32::from(w.step(row, g)));
            words[(row / 16 * w.groups() + g) * 16 + row % 16] =
                (step | (((zero + 8) * step) << 7)) as u16;
        }
    }
    words
}

/// Returns the reply, or an error if its status is not 0.
pub fn expect_ok(reply: Reply) -> Result<Reply, String> {
    match reply.status {
        0 => Ok(reply),
        status => Err(format!("status {status}")),
    }
}

/// Checks cases on the runners of a variant.
pub fn check_all(variant: Variant, cases: &[GemmCase]) {
    for_runners(variant, |runner, architecture| {
        for case in cases {
            if let Err(error) = case.check(runner) {
                panic!("{} {architecture}: {error}", variant.name());
            }
        }
    });
}

/// Checks generated cases on the runners of each variant, and shrinks those that fail.
pub fn check_generated(strategy: &(impl Strategy<Value = GemmCase> + Sync), cases: u32) {
    for variant in Variant::ALL {
        for_runners(variant, |runner, architecture| {
            let name = format!("{} {architecture}", variant.name());
            check_generated_on(strategy, cases, runner, &name);
        });
    }
}

/// Checks generated cases on one runner, and shrinks those that fail.
pub fn check_generated_on(
    strategy: &impl Strategy<Value = GemmCase>,
    cases: u32,
    runner: &mut Runner,
    name: &str,
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
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}

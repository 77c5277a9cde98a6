//! The inputs of the checks, and what the scalar reference computes from them.

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::{
    Grouping, KOrder, MatRef, PackedWeight, Result, RmsNorm, ScaleType, Scales, Scheme, SiluMul,
    Width, reference,
};

/// `[M, N, K]` of each call: one token and more, one chunk of the CPU and more, with and without
/// tails in N and K.
const SHAPES: [[usize; 3]; 6] = [
    [1, 33, 136],
    [2, 70, 200],
    [5, 64, 256],
    [13, 31, 75],
    [17, 100, 328],
    [260, 24, 96],
];

/// What the weights of a check have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The arithmetic of the weights.
    pub scheme: Scheme,
    /// Weights that share a scale or a step.
    pub grouping: Grouping,
    /// Whether the weights have no zero points.
    pub symmetric: bool,
}

impl Kind {
    /// Every scheme with each of its groupings, symmetric and asymmetric.
    pub fn all() -> impl Iterator<Item = Self> {
        let groupings = |scheme| {
            let of_scheme = move |grouping: &Grouping| match scheme {
                Scheme::TwoLevel => grouping.size().is_some(),
                _ => true,
            };
            let groupings = Grouping::ALL.into_iter().filter(of_scheme);
            groupings.map(move |grouping| (scheme, grouping))
        };
        let all = Scheme::ALL.into_iter().flat_map(groupings);
        all.flat_map(|(scheme, grouping)| {
            [true, false].map(|symmetric| Self {
                scheme,
                grouping,
                symmetric,
            })
        })
    }

    /// Returns the name of the groups: that of the grouping, after the scheme unless it is grouped.
    pub fn groups_name(self) -> String {
        groups_name(&self.scheme.to_string(), &self.grouping.to_string())
    }

    /// Returns `sym` or `asym`.
    pub fn symmetry_name(self) -> &'static str {
        symmetry_name(self.symmetric)
    }
}

/// As [`Kind::groups_name`].
pub fn groups_name(scheme: &str, grouping: &str) -> String {
    match scheme == Scheme::Grouped.to_string() {
        true => grouping.into(),
        false => format!("{scheme} {grouping}"),
    }
}

/// As [`Kind::symmetry_name`].
pub fn symmetry_name(symmetric: bool) -> &'static str {
    match symmetric {
        true => "sym",
        false => "asym",
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.groups_name(), self.symmetry_name())
    }
}

/// One GEMM with its result at each width.
pub struct Case {
    /// Tokens.
    pub m: usize,
    /// `[n, k]`.
    pub weight: PackedWeight,
    x: Vec<bf16>,
    /// `[n]`.
    pub bias: Option<Vec<f32>>,
    /// `[m, n]` for each width.
    reference: [Vec<bf16>; 4],
    /// The weight of an RMSNorm, `[k]`.
    norm: Vec<bf16>,
    /// `[m, n]` for each row operation and width: the GEMM of its rows.
    of_rows: [[Vec<bf16>; 4]; 2],
}

/// A row operation of the x of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOperation {
    /// RMSNorm.
    RmsNorm,
    /// `silu(x) * x`.
    SiluMul,
}

impl RowOperation {
    /// Both operations with their names in paths.
    pub const ALL: [(Self, &str); 2] = [(Self::RmsNorm, "rms_norm"), (Self::SiluMul, "silu_mul")];
}

impl Case {
    /// The cases of a kind of weights, always the same.
    ///
    /// # Errors
    /// None for the shapes of this file; those of [`reference::gemm`].
    pub fn of(kind: Kind) -> Result<Vec<Self>> {
        let shapes = SHAPES.into_iter().enumerate();
        shapes
            .map(|(at, shape)| Self::new(kind, at, shape))
            .collect()
    }

    fn new(kind: Kind, at: usize, [m, n, k]: [usize; 3]) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(at as u64);
        let scale_types = [ScaleType::Bf16, ScaleType::F16, ScaleType::F32];
        let mut weight = weight(kind, scale_types[at % 3], (n, k), &mut rng)?;
        if at % 3 == 1 {
            weight = weight.with_order(KOrder::new((0..k as u32).rev().collect())?)?;
        }
        let x: Vec<bf16> = (0..m)
            .flat_map(|token| activations(token, k, &mut rng))
            .collect();
        let bias = at
            .is_multiple_of(2)
            .then(|| (0..n).map(|_| rng.random_range(-3.0..3.0)).collect());
        let mut case = Self {
            m,
            weight,
            x,
            bias,
            reference: [const { Vec::new() }; 4],
            norm: (0..k)
                .map(|_| bf16::from_f32(rng.random_range(0.5..2.0)))
                .collect(),
            of_rows: [const { [const { Vec::new() }; 4] }; 2],
        };
        let rows = [
            reference::rms_norm(&case.rms_norm())?,
            reference::silu_mul(&case.silu_mul())?,
        ];
        for width in Width::ALL {
            case.reference[width.index()] =
                reference::gemm(case.x(), &case.weight, width, case.bias.as_deref())?;
            for (of_rows, rows) in case.of_rows.iter_mut().zip(&rows) {
                let (x, bias) = (MatRef::new(rows, m, k)?, case.bias.as_deref());
                of_rows[width.index()] = reference::gemm(x, &case.weight, width, bias)?;
            }
        }
        Ok(case)
    }

    /// The RMSNorm of x.
    pub fn rms_norm(&self) -> RmsNorm<'_> {
        RmsNorm::new(self.x(), &self.norm, Self::EPS)
    }

    /// The weight of [`Case::rms_norm`], `[k]`.
    pub fn norm(&self) -> &[bf16] {
        &self.norm
    }

    /// The eps of [`Case::rms_norm`].
    pub const EPS: f32 = 1e-5;

    /// `silu(x) * x`.
    pub fn silu_mul(&self) -> SiluMul<'_> {
        SiluMul::new(self.x(), self.x())
    }

    /// The first difference of `y[m, n]`, the GEMM of a row operation, to the reference.
    pub fn row_difference(&self, op: RowOperation, width: Width, y: &[bf16]) -> Option<String> {
        self.first_difference(y, &self.of_rows[op as usize][width.index()])
    }

    /// `[m, k]`.
    pub fn x(&self) -> MatRef<'_, bf16> {
        MatRef::new(&self.x, self.m, self.weight.k()).expect("m * k values were made")
    }

    /// `[m, n]`: what the scalar reference computes.
    pub fn reference(&self, width: Width) -> &[bf16] {
        &self.reference[width.index()]
    }

    /// The first difference of `y[m, n]` to the reference, bit by bit.
    pub fn difference(&self, width: Width, y: &[bf16]) -> Option<String> {
        self.first_difference(y, self.reference(width))
    }

    fn first_difference(&self, y: &[bf16], expected: &[bf16]) -> Option<String> {
        let pairs = y.iter().zip(expected);
        let at = pairs
            .map(|(y, r)| y.to_bits() == r.to_bits())
            .position(|same| !same)?;
        Some(self.describe(at, y[at], expected[at]))
    }

    /// Says which element is wrong.
    pub fn describe(&self, at: usize, got: bf16, expected: bf16) -> String {
        let (n, k) = (self.weight.n(), self.weight.k());
        let [got_bits, expected_bits] = [got, expected].map(bf16::to_bits);
        format!(
            "[M, N, K] = [{}, {n}, {k}]: y[{}, {}] is {got} ({got_bits:#06x}), \
             expected {expected} ({expected_bits:#06x})",
            self.m,
            at / n,
            at % n,
        )
    }
}

fn weight(
    kind: Kind,
    scale_type: ScaleType,
    (n, k): (usize, usize),
    rng: &mut ChaCha8Rng,
) -> Result<PackedWeight> {
    let (grouping, two_level) = (kind.grouping, kind.scheme == Scheme::TwoLevel);
    let mut q: Vec<i8> = (0..n * k).map(|_| rng.random_range(-8..8)).collect();
    let groups = grouping.groups(k);
    let scales = if two_level { n } else { n * groups };
    let plain: Vec<f32> = (0..scales).map(|_| rng.random_range(-0.02..0.1)).collect();
    let scales = match scale_type {
        ScaleType::F32 => Scales::F32(plain),
        ScaleType::F16 => Scales::F16(plain.into_iter().map(f16::from_f32).collect()),
        ScaleType::Bf16 => Scales::Bf16(plain.into_iter().map(bf16::from_f32).collect()),
    };
    let zeros: Option<Vec<i8>> =
        (!kind.symmetric).then(|| (0..n * groups).map(|_| rng.random_range(-8..=8)).collect());
    if !two_level {
        return PackedWeight::from_quantized(
            MatRef::new(&q, n, k)?,
            grouping,
            &scales,
            zeros.as_deref(),
        );
    }
    let steps: Vec<u8> = (0..n * groups)
        .map(|_| rng.random_range(1..=Scheme::MAX_STEP))
        .collect();
    for (at, step) in steps.iter().enumerate() {
        let zero = zeros.as_ref().map_or(0, |zeros| zeros[at]);
        let most = (Scheme::MAX_W8 / i32::from(*step)).min(16) as i8;
        for i in grouping.range(at % groups, k) {
            let q = &mut q[at / groups * k + i];
            *q = (*q).clamp((zero - most).max(-8), (zero + most).min(7));
        }
    }
    PackedWeight::from_two_level(
        MatRef::new(&q, n, k)?,
        grouping,
        &steps,
        &scales,
        zeros.as_deref(),
    )
}

/// The activations of a token: plain, with an outlier, of one sign, around the smallest step,
/// zeros, with a NaN or an infinity.
fn activations(token: usize, k: usize, rng: &mut ChaCha8Rng) -> Vec<bf16> {
    let mut normal = || (0..4).map(|_| rng.random_range(-1f32..1.0)).sum::<f32>();
    let mut x: Vec<f32> = (0..k).map(|_| normal()).collect();
    match token % 7 {
        1 => x[k / 2] = 3e4,
        2 => x.iter_mut().for_each(|x| *x = x.abs() + 10.0),
        3 => x.iter_mut().for_each(|x| *x *= 2f32.powi(-64)),
        4 => x.fill(-0.0),
        5 => x[k / 3] = f32::NAN,
        6 => x[k - 1] = f32::INFINITY,
        _ => (),
    }
    x.into_iter().map(bf16::from_f32).collect()
}

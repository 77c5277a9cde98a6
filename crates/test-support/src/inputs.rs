//! Seeded random weights and activations.

use half::{bf16, f16};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::{Grouping, MatRef, PackedWeight, ScaleType, Scales, Scheme, Width};

/// Returns a seeded random number generator.
pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The schemes and groupings of weights.
pub const WEIGHTS: [(Scheme, Grouping); 7] = [
    (Scheme::Grouped, Grouping::PerChannel),
    (Scheme::Grouped, Grouping::G32),
    (Scheme::Grouped, Grouping::G64),
    (Scheme::Grouped, Grouping::G128),
    (Scheme::TwoLevel, Grouping::G32),
    (Scheme::TwoLevel, Grouping::G64),
    (Scheme::TwoLevel, Grouping::G128),
];

/// INT4 values, scales and zero points in row-major order, as a checkpoint stores them: a weight of
/// either scheme.
#[derive(Clone, Debug)]
pub struct PlainWeight {
    /// Output channels.
    pub n: usize,
    /// Input features.
    pub k: usize,
    /// Groups along K.
    pub grouping: Grouping,
    /// Values from -8 to 7, `[n, k]`.
    pub q: Vec<i8>,
    /// Scales, `[n, groups]`; `[n]` for a two-level weight.
    pub scales: Scales,
    /// The group steps of a two-level weight, `[n, groups]`; `None` for a grouped one.
    pub steps: Option<Vec<u8>>,
    /// Zero points, `[n, groups]`; `None` for a symmetric weight.
    pub zeros: Option<Vec<i8>>,
}

impl PlainWeight {
    /// Returns a random weight of shape `[n, k]`.
    pub fn random(
        rng: &mut ChaCha8Rng,
        (n, k): (usize, usize),
        grouping: Grouping,
        scale_type: ScaleType,
        symmetric: bool,
    ) -> Self {
        let mut q = vec![0u8; n * k];
        rng.fill_bytes(&mut q);
        let q = q.into_iter().map(|b| (b & 15) as i8 - 8).collect();
        let groups = n * grouping.groups(k);
        let scales = random_scales(rng, groups, scale_type);
        let zeros = (!symmetric).then(|| (0..groups).map(|_| rng.random_range(-8..=8)).collect());
        Self {
            n,
            k,
            grouping,
            q,
            scales,
            steps: None,
            zeros,
        }
    }

    /// Returns a random two-level weight of shape `[n, k]`. Values of all steps from 1 to 16 reach
    /// the ends of what `w8` allows.
    pub fn random_two_level(
        rng: &mut ChaCha8Rng,
        (n, k): (usize, usize),
        grouping: Grouping,
        scale_type: ScaleType,
        symmetric: bool,
    ) -> Self {
        let mut plain = Self::random(rng, (n, k), grouping, scale_type, symmetric);
        let groups = grouping.groups(k);
        let steps: Vec<u8> = (0..n * groups).map(|_| rng.random_range(1..=16)).collect();
        for (zero, step) in plain.zeros.iter_mut().flatten().zip(&steps) {
            let most = (127 / step).min(8) as i8;
            *zero = (*zero).clamp(-most, most);
        }
        for (i, q) in plain.q.iter_mut().enumerate() {
            let group = i / k * groups + i % k / grouping.size().unwrap_or(k);
            let zero = plain.zeros.as_ref().map_or(0, |zeros| zeros[group]);
            let most = (127 / steps[group]).min(16) as i8;
            *q = (*q).clamp((zero - most).max(-8), (zero + most).min(7));
        }
        plain.scales = random_scales(rng, n, scale_type);
        plain.steps = Some(steps);
        plain
    }

    /// Returns a random weight of a scheme. A two-level weight has groups of 128 in place of
    /// [`Grouping::PerChannel`].
    pub fn random_of(
        scheme: Scheme,
        rng: &mut ChaCha8Rng,
        shape: (usize, usize),
        grouping: Grouping,
        scale_type: ScaleType,
        symmetric: bool,
    ) -> Self {
        match (scheme, grouping) {
            (Scheme::TwoLevel, Grouping::PerChannel) => {
                Self::random_two_level(rng, shape, Grouping::G128, scale_type, symmetric)
            }
            (Scheme::TwoLevel, _) => {
                Self::random_two_level(rng, shape, grouping, scale_type, symmetric)
            }
            _ => Self::random(rng, shape, grouping, scale_type, symmetric),
        }
    }

    /// Replaces all scales by 0.5: the sums of a GEMM of integers are exact in every order.
    #[must_use]
    pub fn with_half_scales(mut self) -> Self {
        let len = self.scales.len();
        self.scales = match self.scales {
            Scales::F32(_) => Scales::F32(vec![0.5; len]),
            Scales::F16(_) => Scales::F16(vec![f16::from_f32(0.5); len]),
            Scales::Bf16(_) => Scales::Bf16(vec![bf16::from_f32(0.5); len]),
        };
        self
    }

    /// Packs the weight.
    ///
    /// # Panics
    /// If the fields do not fit each other.
    pub fn pack(&self) -> PackedWeight {
        let q = MatRef::new(&self.q, self.n, self.k).unwrap();
        let (grouping, scales, zeros) = (self.grouping, &self.scales, self.zeros.as_deref());
        match &self.steps {
            None => PackedWeight::from_quantized(q, grouping, scales, zeros),
            Some(steps) => PackedWeight::from_two_level(q, grouping, steps, scales, zeros),
        }
        .unwrap()
    }

    /// Returns the weight that consists of some of the rows, in the given order.
    pub fn rows(&self, rows: &[usize]) -> Self {
        let groups = self.grouping.groups(self.k);
        let scales = self.steps.as_ref().map_or(groups, |_| 1);
        Self {
            n: rows.len(),
            q: pick(&self.q, rows, self.k),
            scales: match &self.scales {
                Scales::F32(v) => Scales::F32(pick(v, rows, scales)),
                Scales::F16(v) => Scales::F16(pick(v, rows, scales)),
                Scales::Bf16(v) => Scales::Bf16(pick(v, rows, scales)),
            },
            steps: self.steps.as_ref().map(|v| pick(v, rows, groups)),
            zeros: self.zeros.as_ref().map(|v| pick(v, rows, groups)),
            ..*self
        }
    }
}

/// Returns random scales.
fn random_scales(rng: &mut ChaCha8Rng, len: usize, scale_type: ScaleType) -> Scales {
    let plain = (0..len).map(|_| rng.random_range(-0.02f32..0.1));
    match scale_type {
        ScaleType::F32 => Scales::F32(plain.collect()),
        ScaleType::F16 => Scales::F16(plain.map(f16::from_f32).collect()),
        ScaleType::Bf16 => Scales::Bf16(plain.map(bf16::from_f32).collect()),
    }
}

/// Returns some of the rows of a row-major matrix.
fn pick<T: Copy>(values: &[T], rows: &[usize], cols: usize) -> Vec<T> {
    let row = |&row: &usize| &values[row * cols..][..cols];
    rows.iter().flat_map(row).copied().collect()
}

/// Distribution of a case's activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Around zero, as most activations are.
    Normal,
    /// One huge value among small ones.
    Outlier,
    /// All positive, far from zero.
    Offset,
    /// Zeros of both signs.
    Zeros,
    /// BF16 subnormals.
    Denormals,
    /// The largest finite BF16 of both signs in one group.
    Extremes,
    /// Any BF16 bits, NaN and infinities included.
    AnyBits,
    /// Magnitudes around 2^-64, below which a group's scale is zero.
    Threshold,
    /// Small integers: their BF16 products sum exactly in any order.
    Integers,
    /// 1 everywhere.
    Tops,
    /// -1 everywhere.
    Bottoms,
    /// -1 and 1 alternate.
    Swings,
    /// As `Normal`, with an occasional NaN or infinity.
    Poisoned,
    /// As `Normal`, with a BF16 subnormal at every eleventh element.
    Traces,
    /// Finite values of every magnitude side by side.
    Spread,
}

impl Kind {
    /// The kinds that random tests draw from; the others are for specific tests.
    pub const ALL: [Kind; 8] = [
        Self::Normal,
        Self::Outlier,
        Self::Offset,
        Self::Zeros,
        Self::Denormals,
        Self::Extremes,
        Self::AnyBits,
        Self::Threshold,
    ];

    /// Returns `len` values of this kind.
    pub fn fill(self, rng: &mut ChaCha8Rng, len: usize) -> Vec<bf16> {
        let mut normal = |scale: f32| {
            let sum: f32 = (0..4).map(|_| rng.random_range(-1f32..1.0)).sum();
            bf16::from_f32(sum * scale)
        };
        let mut x: Vec<bf16> = (0..len).map(|_| normal(1.0)).collect();
        for (at, x) in x.iter_mut().enumerate() {
            *x = match self {
                Self::Outlier if at % 97 == 0 => bf16::from_f32(3.0e4),
                Self::Traces if at % 11 == 0 => bf16::from_bits((rng.next_u32() & 0x807F) as u16),
                Self::Normal | Self::Outlier | Self::Traces => *x,
                Self::Spread => {
                    let exponent = rng.random_range(0..255u16) << 7;
                    bf16::from_bits((rng.next_u32() as u16 & 0x807F) | exponent)
                }
                Self::Offset => bf16::from_f32(x.to_f32().abs() + 10.0),
                Self::Zeros => bf16::from_bits(((at as u16) & 1) << 15),
                Self::Denormals => bf16::from_bits((rng.next_u32() & 0x807F) as u16),
                Self::Extremes if at % 5 == 0 => bf16::MAX,
                Self::Extremes if at % 7 == 0 => bf16::MIN,
                Self::Extremes => *x,
                Self::AnyBits => bf16::from_bits(rng.next_u32() as u16),
                Self::Threshold => bf16::from_f32(x.to_f32() * 2f32.powi(-64 + (at % 5) as i32)),
                Self::Integers => bf16::from_f32((x.to_f32() * 8.0).round()),
                Self::Swings if at % 2 == 0 => bf16::NEG_ONE,
                Self::Tops | Self::Swings => bf16::ONE,
                Self::Bottoms => bf16::NEG_ONE,
                Self::Poisoned => match rng.random_range(0..1500) {
                    0 => bf16::NAN,
                    1 => bf16::INFINITY,
                    2 => bf16::from_bits(0xFFC1),
                    3 => bf16::NEG_INFINITY,
                    _ => *x,
                },
            };
        }
        x
    }
}

/// Returns the bits of each value, to compare and to print.
pub fn bits(y: &[bf16]) -> Vec<u16> {
    y.iter().map(|v| v.to_bits()).collect()
}

/// All activation widths.
pub const WIDTHS: [Width; 4] = Width::ALL;

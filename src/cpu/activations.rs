//! Activations that are quantized once for several GEMMs.

use super::chunk::{PackBuffers, Packed, Packing};
use super::dispatch::Isa;
use super::gemm::{Operands, chunks};
use super::params::TokenParams;
use super::rows::Rows;
use crate::weights::layout::TILE_K;
use crate::{Error, Grouping, PackedWeight, Result, Scheme, Width};
use bytemuck::allocation::try_zeroed_vec;
use half::bf16;

/// How activations are quantized: the arithmetic and the groups of the weights that read them, and
/// their order of k.
///
/// ```
/// use w4ax::cpu::ActivationLayout;
/// use w4ax::{Grouping, MatRef, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// let weight = Quantize::new(Grouping::G64).pack(MatRef::new(&[0.5f32; 16 * 64], 16, 64)?)?;
/// let layout = ActivationLayout::of(&weight);
/// assert_eq!(layout.grouping(), Grouping::G64);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationLayout {
    scheme: Scheme,
    weight_grouping: Grouping,
    gathered: bool,
}

impl ActivationLayout {
    /// The layout for weights of this arithmetic and these groups, in the order of the matrix.
    pub fn new(scheme: Scheme, weight_grouping: Grouping) -> Self {
        Self {
            scheme,
            weight_grouping,
            gathered: false,
        }
    }

    /// The layout for a weight. If the weight has an order of k, the activations must be gathered
    /// ([`KOrder::gather`](crate::KOrder::gather)) before they are quantized.
    pub fn of(weight: &PackedWeight) -> Self {
        Self::new(weight.scheme(), weight.grouping()).with_gathered(weight.order().is_some())
    }

    /// Whether the activations are in the order of k of the weights that read them.
    #[must_use]
    pub fn with_gathered(self, gathered: bool) -> Self {
        Self { gathered, ..self }
    }

    /// Returns the arithmetic of the weights.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the groups of the weights.
    pub fn weight_grouping(&self) -> Grouping {
        self.weight_grouping
    }

    /// Returns whether the activations are in the order of k of the weights.
    pub fn gathered(&self) -> bool {
        self.gathered
    }

    /// Returns the groups of the activations: those of a grouped weight, per token for a two-level
    /// weight.
    pub fn grouping(&self) -> Grouping {
        match self.scheme {
            Scheme::Grouped => self.weight_grouping,
            Scheme::TwoLevel => Grouping::PerChannel,
        }
    }
}

impl From<&PackedWeight> for ActivationLayout {
    fn from(weight: &PackedWeight) -> Self {
        Self::of(weight)
    }
}

impl std::fmt::Display for ActivationLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gathered = if self.gathered { ", gathered" } else { "" };
        write!(f, "{} {}{gathered}", self.scheme, self.weight_grouping)
    }
}

/// Activations of 2, 4 or 8 bits, quantized once and read by any number of GEMMs.
///
/// [`Cpu::quantized_activations`](super::Cpu::quantized_activations) allocates the memory.
/// [`Cpu::quantize`](super::Cpu::quantize) and the fused row operations fill it, any number of
/// times. The words are packed for the instruction set that wrote them.
pub struct QuantizedActivations {
    max_m: usize,
    max_k: usize,
    /// The packed activations of all chunks.
    words: Vec<u32>,
    /// `[group][token of the chunk]` for each chunk.
    tokens: Vec<TokenParams>,
    /// The rows that a row operation computes, `[thread][max_k]`.
    rows: Vec<bf16>,
    contents: Option<Contents>,
}

/// The contents of [`QuantizedActivations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contents {
    isa: Isa,
    m: usize,
    k: usize,
    width: Width,
    layout: ActivationLayout,
}

impl QuantizedActivations {
    pub(super) fn new(max_m: usize, max_k: usize, threads: usize) -> Result<Self> {
        Self::allocate(max_m, max_k, threads).ok_or_else(|| Error::OutOfMemory {
            what: format!("quantized activations of {max_m} tokens and {max_k} inputs"),
        })
    }

    fn allocate(max_m: usize, max_k: usize, threads: usize) -> Option<Self> {
        // A word holds four codes. The GEMV path stores each word twice.
        let padded = max_k.checked_next_multiple_of(TILE_K)?;
        let twice = max_m.min(Isa::MAX_GEMV_TOKENS);
        let words = max_m.checked_add(twice)?.checked_mul(padded)? / 4;
        let tokens = max_m.checked_mul(max_k.div_ceil(32))?;
        Some(Self {
            max_m,
            max_k,
            words: try_zeroed_vec(words).ok()?,
            tokens: try_zeroed_vec(tokens).ok()?,
            rows: try_zeroed_vec(threads.max(1).checked_mul(max_k)?).ok()?,
            contents: None,
        })
    }

    /// Returns the most tokens and inputs that the memory is large enough for.
    pub fn sizes(&self) -> (usize, usize) {
        (self.max_m, self.max_k)
    }

    /// Returns the allocated size in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice())
            + size_of_val(self.tokens.as_slice())
            + size_of_val(self.rows.as_slice())
    }

    /// Returns M, K and the width of the contents; `None` before they are filled for the first
    /// time.
    pub fn contents(&self) -> Option<(usize, usize, Width)> {
        self.contents.map(|c| (c.m, c.k, c.width))
    }

    /// Returns the layout of the contents; `None` before they are filled for the first time.
    pub fn layout(&self) -> Option<ActivationLayout> {
        self.contents.map(|c| c.layout)
    }

    /// Checks that activations `[m, k]` fit into the memory.
    pub(super) fn check_size(&self, m: usize, k: usize) -> Result<()> {
        for (what, needed, got) in [
            ("tokens of quantized activations", m, self.max_m),
            ("inputs of quantized activations", k, self.max_k),
        ] {
            if needed > got {
                return Err(Error::Buffer { what, needed, got });
            }
        }
        Ok(())
    }

    /// Checks that a GEMM with `weight` on `isa` can read the contents. Returns M and the width.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if they are empty or of another layout or instruction set,
    /// [`Error::Shape`] if they do not have K columns.
    pub(super) fn check_weight(&self, isa: Isa, weight: &PackedWeight) -> Result<(usize, Width)> {
        let mismatch = |expected: String, got: String| Error::Mismatch {
            what: "quantized activations",
            expected,
            got,
        };
        let contents = self.contents.ok_or_else(|| {
            mismatch(
                "activations that a Cpu quantized".into(),
                "an empty buffer".into(),
            )
        })?;
        let layout = ActivationLayout::of(weight);
        if contents.layout != layout {
            return Err(mismatch(layout.to_string(), contents.layout.to_string()));
        }
        if contents.isa != isa {
            return Err(mismatch(isa.name().into(), contents.isa.name().into()));
        }
        if contents.k != weight.k() {
            let (expected, got) = ([contents.m, weight.k()], [contents.m, contents.k]);
            return Err(Error::shape("quantized activations", expected, got));
        }
        Ok((contents.m, contents.width))
    }

    /// Fills the memory with the activations `rows[m, k]`, which fit.
    pub(super) fn fill<R: Rows>(&mut self, packing: &Packing<'_>, rows: &R, m: usize) {
        // Stays `None` if a pool panics.
        self.contents = None;
        let (mut words, mut tokens) = (0, 0);
        for chunk in chunks(m) {
            let buffers = PackBuffers {
                words: &mut self.words[words..],
                tokens: &mut self.tokens[tokens..],
                rows: &mut self.rows,
                row_stride: self.max_k,
            };
            let packed = packing.pack(rows, &chunk, buffers);
            words += packed.words();
            tokens += packed.params();
        }
        self.contents = Some(Contents {
            isa: packing.isa,
            m,
            k: packing.k,
            width: packing.width,
            layout: packing.layout,
        });
    }

    /// Returns the chunk at `at`, of which `packed` is the description, and advances `at`.
    pub(super) fn chunk(&self, at: &mut ChunkStart, packed: Packed) -> Operands<'_> {
        let (words, tokens) = (at.words, at.tokens);
        at.words += packed.words();
        at.tokens += packed.params();
        Operands {
            packed,
            words: &self.words[words..at.words],
            tokens: &self.tokens[tokens..at.tokens],
        }
    }
}

/// Where a chunk begins.
#[derive(Default)]
pub(super) struct ChunkStart {
    words: usize,
    tokens: usize,
}

impl std::fmt::Debug for QuantizedActivations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedActivations")
            .field("max_m", &self.max_m)
            .field("max_k", &self.max_k)
            .field("bytes", &self.bytes())
            .field("contents", &self.contents)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::{AddRmsNorm, HiddenState, MatMut, MatRef, RmsNorm, SiluMul, reference};
    use proptest::prelude::*;

    /// BF16 in [-4, 4], with a NaN or an infinity in some of the rows.
    fn values(len: usize, seed: u32) -> Vec<bf16> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let special = |v: u32| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][v as usize % 3];
        let value = |v: u32| match v % 997 {
            0 => special(v),
            _ => (v >> 4) as f32 / 131_072.0 - 4.0,
        };
        (0..len).map(|_| bf16::from_f32(value(next()))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A row operation that quantizes writes the words and the parameters that quantizing its
        /// BF16 rows writes, NaN by their bits.
        #[test]
        fn fused_words_are_those_of_the_rows(
            (m, k) in prop_oneof![(1usize..30, 1usize..700), (257usize..270, 1usize..90)],
            width in proptest::sample::select(vec![Width::A2, Width::A4, Width::A8]),
            scheme in proptest::sample::select(Scheme::ALL.to_vec()),
            grouping in proptest::sample::select(Grouping::ALL.to_vec()),
            (wide, seed) in any::<(bool, u32)>(),
        ) {
            let (a, b, g) = (values(m * k, seed), values(m * k, !seed), values(k, seed ^ 1));
            let f32s: Vec<f32> = a.iter().map(|v| v.to_f32() * 1.01).collect();
            let (x, up) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, m, k).unwrap());
            let hidden = match wide {
                true => HiddenState::from(MatRef::new(&f32s, m, k).unwrap()),
                false => x.into(),
            };
            let (norm, silu) = (RmsNorm::new(hidden, &g, 1e-5), SiluMul::new(x, up));
            let layout = ActivationLayout::new(scheme, grouping);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let cpu = Cpu::with_isa(isa).unwrap();
                let packed = |fill: &dyn Fn(&mut QuantizedActivations)| {
                    let mut activations = cpu.quantized_activations(m, k).unwrap();
                    fill(&mut activations);
                    let tokens: Vec<u8> = bytemuck::cast_slice(&activations.tokens).to_vec();
                    (activations.words, tokens, activations.contents)
                };
                let of_rows = |rows: &[bf16]| {
                    let rows = MatRef::new(rows, m, k).unwrap();
                    packed(&|to| cpu.quantize(rows, width, layout, to).unwrap())
                };
                let fused = packed(&|to| cpu.rms_norm_quantize(&norm, width, layout, to).unwrap());
                prop_assert!(fused == of_rows(&reference::rms_norm(&norm).unwrap()), "{isa:?}");
                // The sum of the residual connection is x of the norm.
                let (mut sums, mut wide_sums) = (a.clone(), f32s.clone());
                let (mut got, mut wide_got) = (a.clone(), f32s.clone());
                let add = |narrow: &'_ mut [bf16], wide_x: &'_ mut [f32], run: &mut dyn FnMut(AddRmsNorm<'_>)| {
                    run(match wide {
                        true => AddRmsNorm::new(MatMut::new(wide_x, m, k).unwrap(), up, &g, 1e-5),
                        false => AddRmsNorm::new(MatMut::new(narrow, m, k).unwrap(), up, &g, 1e-5),
                    });
                };
                let mut rows = Vec::new();
                add(&mut sums, &mut wide_sums, &mut |norm| {
                    rows = reference::add_rms_norm(norm).unwrap();
                });
                let mut activations = cpu.quantized_activations(m, k).unwrap();
                add(&mut got, &mut wide_got, &mut |norm| {
                    cpu.add_rms_norm_quantize(norm, width, layout, &mut activations).unwrap();
                });
                let tokens: Vec<u8> = bytemuck::cast_slice(&activations.tokens).to_vec();
                let fused = (activations.words, tokens, activations.contents);
                prop_assert!(fused == of_rows(&rows), "{isa:?}");
                prop_assert!(got.iter().zip(&sums).all(|(x, sum)| x.to_bits() == sum.to_bits()));
                let same = |(x, sum): (&f32, &f32)| x == sum || x.is_nan() && sum.is_nan();
                prop_assert!(wide_got.iter().zip(&wide_sums).all(same));
                let fused = packed(&|to| cpu.silu_mul_quantize(&silu, width, layout, to).unwrap());
                prop_assert!(fused == of_rows(&reference::silu_mul(&silu).unwrap()), "{isa:?}");
            }
        }
    }
}

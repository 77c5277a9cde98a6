//! Which layers always run, and the gaps between them.

use crate::{Error, Result};

/// A run of dynamic layers between two static ones, `start..end`; the stack is bounded by virtual static layers -1 and n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first dynamic layer.
    pub start: usize,
    /// The static layer behind the gap, or the number of layers: where a skip leads to.
    pub end: usize,
}

/// The layers of a stack: static ones always run, dynamic ones may be skipped. Every dynamic layer lies in exactly one gap.
///
/// ```
/// use w4ax::skip::{Gap, Layers};
/// # fn main() -> w4ax::Result<()> {
/// let layers = Layers::by_similarity(&[0.5, 0.9, 0.97, 0.99, 0.98], 0.4)?;
/// assert_eq!(layers.static_layers().collect::<Vec<_>>(), [0, 1]);
/// assert_eq!(layers.gaps(), [Gap { start: 2, end: 5 }]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    gaps: Vec<Gap>,
    /// `[n]`: the gap that a layer lies in; none for a static one.
    gap_of: Vec<Option<usize>>,
}

impl Layers {
    /// The paper's share of static layers.
    pub const STATIC_RATIO: f64 = 0.2;

    /// `n` layers, of which these are static; none is possible.
    ///
    /// # Errors
    /// [`Error::Range`] for no layers at all, or a static layer that there is not, or twice.
    pub fn new(n: usize, static_layers: &[usize]) -> Result<Self> {
        if n == 0 {
            return Err(Error::Range {
                what: "layers",
                value: "0".into(),
                range: "1 and more",
            });
        }
        let mut is_static = vec![false; n];
        for &layer in static_layers {
            match is_static.get_mut(layer) {
                Some(place @ false) => *place = true,
                _ => {
                    return Err(Error::Range {
                        what: "static layers",
                        value: format!("{static_layers:?} of {n} layers"),
                        range: "different layers of the stack",
                    });
                }
            }
        }
        let (mut gaps, mut gap_of) = (Vec::<Gap>::new(), vec![None; n]);
        for layer in (0..n).filter(|&layer| !is_static[layer]) {
            match gaps.last_mut() {
                Some(gap) if gap.end == layer => gap.end += 1,
                _ => gaps.push(Gap {
                    start: layer,
                    end: layer + 1,
                }),
            }
            gap_of[layer] = Some(gaps.len() - 1);
        }
        Ok(Self { gaps, gap_of })
    }

    /// The layers that change their input most are static: `max(1, floor(ratio * n))` of lowest similarity, of equal ones the
    /// first.
    ///
    /// `similarity` is each layer's mean cosine similarity of input and output, over calibration activations
    /// ([`cosine_similarity`](Self::cosine_similarity)).
    ///
    /// # Errors
    /// [`Error::Range`] for no layers, or a ratio outside [0, 1]; [`Error::NotFinite`] for a similarity that is not.
    pub fn by_similarity(similarity: &[f64], ratio: f64) -> Result<Self> {
        if let Some(index) = similarity.iter().position(|s| !s.is_finite()) {
            return Err(Error::NotFinite {
                what: "similarity",
                index,
                value: similarity[index],
            });
        }
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Error::Range {
                what: "static ratio",
                value: ratio.to_string(),
                range: "[0, 1]",
            });
        }
        let n = similarity.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| similarity[a].total_cmp(&similarity[b]));
        // .29 * 100 is 28.999999999999996 in f64.
        let count = (ratio * n as f64 + 1e-9).floor().max(1.0) as usize;
        order.truncate(count);
        Self::new(n, &order)
    }

    /// The cosine of a layer's input and output for one token: the mean of it over tokens is a layer's similarity. 0 if one
    /// of them is all zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in length.
    pub fn cosine_similarity(input: &[f32], output: &[f32]) -> Result<f64> {
        if input.len() != output.len() {
            return Err(Error::Shape {
                what: "a layer's output",
                expected: format!("as its input, {}", input.len()),
                got: output.len().to_string(),
            });
        }
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        let norms = (dot(input, input) * dot(output, output)).sqrt();
        Ok(if norms == 0.0 {
            0.0
        } else {
            dot(input, output) / norms
        })
    }

    /// How many layers the stack has.
    pub fn len(&self) -> usize {
        self.gap_of.len()
    }

    /// Never: a stack has at least one layer.
    pub fn is_empty(&self) -> bool {
        self.gap_of.is_empty()
    }

    /// The gaps, from the first layer on.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The gap of a dynamic layer, as its place in [`gaps`](Self::gaps); none for a static layer, or one that there is not.
    pub fn gap_of(&self, layer: usize) -> Option<usize> {
        self.gap_of.get(layer).copied().flatten()
    }

    /// The layers that always run.
    pub fn static_layers(&self) -> impl Iterator<Item = usize> + '_ {
        let layers = self.gap_of.iter().enumerate();
        layers.filter_map(|(layer, gap)| gap.is_none().then_some(layer))
    }

    /// The layers that may be skipped.
    pub fn dynamic_layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.gaps.iter().flat_map(|gap| gap.start..gap.end)
    }
}

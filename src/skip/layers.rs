//! Static layers, which always run, and the gaps between them.

use crate::{Error, Result};

/// A maximal range `start..end` of dynamic layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first dynamic layer.
    pub start: usize,
    /// The static layer after the gap, or the number of layers. A skip continues there.
    pub end: usize,
}

/// The layers of a stack. Static layers always run, dynamic layers may be skipped.
///
/// Every dynamic layer lies in exactly one gap.
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
    /// `[n]`: the index of the layer's gap, or `None` for a static layer.
    gap_of: Vec<Option<usize>>,
}

impl Layers {
    /// The share of static layers in the paper.
    pub const STATIC_RATIO: f64 = 0.2;

    /// Creates a stack of `n` layers with these static layers, which may be empty.
    ///
    /// # Errors
    /// [`Error::Range`] if `n` is 0, or a static layer is out of range or listed twice.
    pub fn new(n: usize, static_layers: &[usize]) -> Result<Self> {
        if n == 0 {
            return Err(Error::Range {
                what: "number of layers",
                value: "0".into(),
                range: "at least 1",
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
                        range: "distinct layers of the stack",
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

    /// Makes the layers static that change their input most: the `max(1, floor(ratio * n))` layers
    /// of lowest similarity. Of equal layers the first is chosen.
    ///
    /// `similarity` is `[n]`: the mean [`cosine_similarity`](Self::cosine_similarity) of each
    /// layer's input and output over the calibration activations.
    ///
    /// # Errors
    /// - [`Error::Range`] if `similarity` is empty, or the ratio is outside [0, 1].
    /// - [`Error::NotFinite`] with the first similarity that is not finite.
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
                range: "a value in [0, 1]",
            });
        }
        let n = similarity.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| similarity[a].total_cmp(&similarity[b]));
        // The addend absorbs rounding: .29 * 100 is 28.999999999999996 in f64.
        let count = (ratio * n as f64 + 1e-9).floor().max(1.0) as usize;
        order.truncate(count);
        Self::new(n, &order)
    }

    /// Returns the cosine similarity of a layer's input and output for one token, `[d]` each.
    ///
    /// The similarity of a layer is the mean over tokens. The cosine is 0 if a vector is zero.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ.
    pub fn cosine_similarity(input: &[f32], output: &[f32]) -> Result<f64> {
        if input.len() != output.len() {
            return Err(Error::shape("layer output", [input.len()], [output.len()]));
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

    /// Returns the number of layers.
    pub fn len(&self) -> usize {
        self.gap_of.len()
    }

    /// Returns false: a stack has at least one layer.
    pub fn is_empty(&self) -> bool {
        self.gap_of.is_empty()
    }

    /// Returns the gaps in the order of the layers.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Returns the index of a dynamic layer's gap in [`gaps`](Self::gaps). `None` for a static
    /// layer, or one that is out of range.
    pub fn gap_of(&self, layer: usize) -> Option<usize> {
        self.gap_of.get(layer).copied().flatten()
    }

    /// Returns the layers that always run.
    pub fn static_layers(&self) -> impl Iterator<Item = usize> + '_ {
        let layers = self.gap_of.iter().enumerate();
        layers.filter_map(|(layer, gap)| gap.is_none().then_some(layer))
    }

    /// Returns the layers that may be skipped.
    pub fn dynamic_layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.gaps.iter().flat_map(|gap| gap.start..gap.end)
    }
}

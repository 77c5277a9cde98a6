//! Correlations of weighted pairs, with bootstrap intervals over whole episodes.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use w4ax::calibrate::percentile;

/// With fewer episodes there is no interval: there are too few different draws.
pub const MIN_CLUSTERS: usize = 5;

/// The percentage of draws outside the interval on each side.
const TAIL: f64 = 2.5;

/// Returns Pearson's correlation of the pairs `x`, `y`, `[pairs]` each, with `weights`. `None` if
/// one side does not vary or is not finite.
pub fn pearson(x: &[f64], y: &[f64], weights: &[f64]) -> Option<f64> {
    // Compares the values: the mean of equal values may be off by a rounding.
    let varies = |v: &[f64]| {
        let mut there = v
            .iter()
            .zip(weights)
            .filter(|(_, w)| **w > 0.0)
            .map(|(v, _)| v);
        let first = there.next();
        there.any(|v| Some(v) != first)
    };
    if !(varies(x) && varies(y)) {
        return None;
    }
    let total: f64 = weights.iter().sum();
    let mean = |v: &[f64]| v.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((x, y), w) in x.iter().zip(y).zip(weights) {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += w * x * x;
        yy += w * y * y;
        xy += w * x * y;
    }
    let r = xy / (xx * yy).sqrt();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Returns Spearman's correlation: Pearson's of the ranks.
pub fn spearman(x: &Sorted, y: &Sorted, weights: &[f64]) -> Option<f64> {
    pearson(&x.ranks(weights), &y.ranks(weights), weights)
}

/// The order of values, sorted once for all weights.
#[derive(Clone, Debug)]
pub struct Sorted {
    /// Groups of equal values in ascending order, each with the positions of its members.
    groups: Vec<Vec<usize>>,
    len: usize,
}

impl Sorted {
    /// Sorts finite values.
    pub fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let groups = order.chunk_by(|&a, &b| values[a] == values[b]);
        Self {
            groups: groups.map(<[usize]>::to_vec).collect(),
            len: values.len(),
        }
    }

    /// Returns the rank of each value, from 1 on, if each is repeated `weights` times. Equal values
    /// share the mean of their ranks.
    pub fn ranks(&self, weights: &[f64]) -> Vec<f64> {
        let (mut ranks, mut below) = (vec![0.0; self.len], 0.0);
        for group in &self.groups {
            let here: f64 = group.iter().map(|&at| weights[at]).sum();
            for &at in group {
                ranks[at] = below + (here + 1.0) / 2.0;
            }
            below += here;
        }
        ranks
    }
}

/// A figure, and the interval of the middle 95 % of the draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure of all rows.
    pub value: f64,
    /// `None` for fewer than [`MIN_CLUSTERS`] episodes.
    pub interval: Option<[f64; 2]>,
}

/// Bootstrap draws of whole clusters (episodes), with replacement.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `[draws][rows]`: how often each row is drawn. Empty for fewer than [`MIN_CLUSTERS`]
    /// clusters.
    weights: Vec<Vec<f64>>,
    rows: usize,
    clusters: usize,
}

impl Bootstrap {
    /// Draws the clusters. `cluster` has the cluster of each row. The same seed gives the same
    /// draws.
    pub fn new<C: Ord>(cluster: &[C], draws: usize, seed: u64) -> Self {
        let names: BTreeSet<&C> = cluster.iter().collect();
        let numbers: BTreeMap<&C, usize> = names.into_iter().zip(0..).collect();
        let of_row: Vec<usize> = cluster.iter().map(|c| numbers[c]).collect();
        let clusters = numbers.len();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = |_| {
            let mut times = vec![0.0; clusters];
            for _ in 0..clusters {
                times[rng.random_range(0..clusters)] += 1.0;
            }
            of_row.iter().map(|&c| times[c]).collect()
        };
        let draws = if clusters < MIN_CLUSTERS { 0 } else { draws };
        Self {
            weights: (0..draws).map(draw).collect(),
            rows: cluster.len(),
            clusters,
        }
    }

    /// Returns the number of clusters.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// Returns a figure of weighted rows for all rows and the interval over the draws. Draws
    /// without a value are left out. `None` if all rows have no value.
    pub fn estimate(&self, figure: impl Fn(&[f64]) -> Option<f64>) -> Option<Estimate> {
        let value = figure(&vec![1.0; self.rows])?;
        let mut drawn: Vec<f64> = self.weights.iter().filter_map(|w| figure(w)).collect();
        let low = percentile(&mut drawn, TAIL);
        let high = percentile(&mut drawn, 100.0 - TAIL);
        Some(Estimate {
            value,
            interval: low.zip(high).map(|(low, high)| [low, high]),
        })
    }
}

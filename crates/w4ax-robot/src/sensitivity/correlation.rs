//! Correlations of weighted pairs, and how far they move when whole episodes are drawn anew.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use w4ax::calibrate::percentile;

/// Fewer episodes than this give no interval: too few different draws.
pub const MIN_CLUSTERS: usize = 5;

/// The part of the draws that an interval leaves out on each side, percent.
const TAIL: f64 = 2.5;

/// Pearson's correlation of pairs `x`, `y`, `[pairs]` each, a pair counting `weights` times. `None` where a side does not
/// vary or is not finite.
pub fn pearson(x: &[f64], y: &[f64], weights: &[f64]) -> Option<f64> {
    // Asked of the values, not of their squares: a mean of equal values may be off by a rounding.
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

/// Spearman's correlation: Pearson's of the ranks.
pub fn spearman(x: &Sorted, y: &Sorted, weights: &[f64]) -> Option<f64> {
    pearson(&x.ranks(weights), &y.ranks(weights), weights)
}

/// The order of values, sorted once for any number of weights.
#[derive(Clone, Debug)]
pub struct Sorted {
    /// Groups of equal values, in rising order, each with the places of its members.
    groups: Vec<Vec<usize>>,
    len: usize,
}

impl Sorted {
    /// Of finite values.
    pub fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let groups = order.chunk_by(|&a, &b| values[a] == values[b]);
        Self {
            groups: groups.map(<[usize]>::to_vec).collect(),
            len: values.len(),
        }
    }

    /// The rank of each value from 1 on where each is there `weights` times; equal ones share the mean of their ranks.
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

/// A figure with the interval that the middle 95 % of the draws fall in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of all rows.
    pub value: f64,
    /// `None` of fewer than [`MIN_CLUSTERS`] episodes.
    pub interval: Option<[f64; 2]>,
}

/// Draws of whole clusters (episodes), with replacement.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `[draws][rows]`: how often each row is drawn. None of fewer than [`MIN_CLUSTERS`] clusters.
    weights: Vec<Vec<f64>>,
    rows: usize,
    clusters: usize,
}

impl Bootstrap {
    /// `cluster` names the cluster of each row. The same seed gives the same draws.
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

    /// How many clusters the rows are of.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// A figure of weighted rows, for all rows and for each draw; a draw that it has no value for is passed over. `None`
    /// if all rows give none.
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

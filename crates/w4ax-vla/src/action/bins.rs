//! The bins of a discretized action.

use crate::config::ModelConfig;
use crate::{Result, VlaError};

/// The bins of one dimension of a normalized action, by token.
///
/// `n` edges divide `[-1, 1]` evenly and bound `n - 1` bins. The last id before `token_end` is the
/// lowest bin, and lower ids are higher bins. Ids outside the bins saturate: the id of the last
/// edge, which no bin follows, has the value of the highest bin.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionBins {
    token_end: u32,
    edges: Vec<f64>,
    centers: Vec<f64>,
}

impl ActionBins {
    /// Returns the bins of `n_bins` edges. `token_end` is the id after the last action token, the
    /// size of the vocabulary without its padding.
    ///
    /// # Errors
    /// [`Input`](VlaError::Input) for fewer than two edges or more edges than ids.
    pub fn new(token_end: usize, n_bins: usize) -> Result<Self> {
        let error = |what, got: usize, expected: String| VlaError::Input {
            what,
            got: got.to_string(),
            expected,
        };
        let end = u32::try_from(token_end).map_err(|_| {
            error(
                "end of the action tokens",
                token_end,
                "a token id of 32 bits".into(),
            )
        })?;
        if !(2..=token_end).contains(&n_bins) {
            let expected = format!("2 to {token_end}, the end of the action tokens");
            return Err(error("number of action bins", n_bins, expected));
        }
        // As numpy's linspace: the step is multiplied, and the last edge is exact.
        let step = 2.0 / (n_bins - 1) as f64;
        let mut edges: Vec<f64> = (0..n_bins).map(|i| i as f64 * step - 1.0).collect();
        edges[n_bins - 1] = 1.0;
        let centers = edges.windows(2).map(|e| (e[0] + e[1]) / 2.0).collect();
        Ok(Self {
            token_end: end,
            edges,
            centers,
        })
    }

    /// Returns the bins of a model.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_model(config: &ModelConfig) -> Result<Self> {
        Self::new(config.action_token_end(), config.n_action_bins)
    }

    /// Returns the normalized value of a token: the center of its bin.
    pub fn decode(&self, token: u32) -> f64 {
        let bin = i64::from(self.token_end) - i64::from(token) - 1;
        self.centers[bin.clamp(0, self.centers.len() as i64 - 1) as usize]
    }

    /// Returns the token of a normalized value, which is clamped to `[-1, 1]`: the inverse of
    /// [`decode`](Self::decode) that the training data was made with.
    pub fn token(&self, value: f64) -> u32 {
        let value = value.clamp(-1.0, 1.0);
        let edges = self.edges.partition_point(|&edge| edge <= value);
        self.token_end - edges.max(1) as u32
    }

    /// Returns the variance of a normalized value under the softmax of its action tokens' logits.
    /// `logits` holds those of consecutive tokens from `first` on; other tokens do not count. It is
    /// 0 without an action token among them.
    pub fn variance(&self, first: u32, logits: &[f32]) -> f64 {
        let tokens = self.tokens();
        let of_action = (first..).zip(logits).filter(|(id, _)| tokens.contains(id));
        let values = of_action.map(|(id, &logit)| (self.decode(id), f64::from(logit)));
        let most = values
            .clone()
            .fold(f64::NEG_INFINITY, |most, (_, x)| x.max(most));
        let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
        for (value, logit) in values {
            let p = (logit - most).exp();
            sum += p;
            mean += p * value;
            square += p * value * value;
        }
        if sum > 0.0 {
            (square / sum - (mean / sum) * (mean / sum)).max(0.0)
        } else {
            0.0
        }
    }

    /// The ids of the action tokens, from the highest bin to the lowest.
    pub fn tokens(&self) -> std::ops::Range<u32> {
        self.token_end - self.edges.len() as u32..self.token_end
    }
}

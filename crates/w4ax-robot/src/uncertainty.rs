//! How certain a step's tokens are, from the logits of its action.
//!
//! p is the softmax of the 256 logits of one number of the action, c_k = -1 + 2k/255 the value of
//! token k. All arithmetic is f64.
//!
//! | quantity | formula |
//! | --- | --- |
//! | token standard deviation | `sqrt(sum of Var_d)`, `Var_d = sum of p_k c_k^2 - (sum of p_k c_k)^2` |
//! | margin | the smallest difference of the two largest logits of a number |
//!
//! The standard deviation has the unit of actions. It is 0 if each number has one token with all of
//! the probability, and at most sqrt(7). The margin is 0 if two tokens of a number are equally
//! probable.
//!
//! # Cost
//! The standard deviation computes an exponential for each of the 1,792 logits. The margin computes
//! none.

use half::bf16;

use super::checkpoint::BINS;

/// The difference of the values of two neighboring tokens.
const STEP: f64 = 2.0 / (BINS - 1) as f64;

/// Returns the standard deviation of an action under the softmax of its logits, `[7, 256]`. NaN if
/// a logit is NaN or positive infinity.
pub fn token_std(logits: &[bf16]) -> f64 {
    STEP * logits.chunks(BINS).map(variance).sum::<f64>().sqrt()
}

/// Returns the smallest difference of the two largest of 256 logits, over the numbers of an action,
/// `[7, 256]`.
pub fn margin(logits: &[bf16]) -> f64 {
    logits.chunks(BINS).map(gap).fold(f64::INFINITY, f64::min)
}

/// Returns the variance of the index of a token.
fn variance(logits: &[bf16]) -> f64 {
    let (mut best, mut most) = (0, f64::NEG_INFINITY);
    for (k, x) in logits.iter().enumerate() {
        if x.to_f64() > most {
            (best, most) = (k, x.to_f64());
        }
    }
    // Distances from the most probable token: their moments do not cancel.
    let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
    for (k, x) in logits.iter().enumerate() {
        let (p, distance) = ((x.to_f64() - most).exp(), k as f64 - best as f64);
        sum += p;
        first += p * distance;
        second += p * distance * distance;
    }
    second / sum - (first / sum).powi(2)
}

/// Returns the difference of the two largest logits.
fn gap(logits: &[bf16]) -> f64 {
    let (mut most, mut next) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for x in logits.iter().map(|x| x.to_f64()) {
        if x > most {
            (most, next) = (x, most);
        } else if x > next {
            next = x;
        }
    }
    most - next
}

#[cfg(test)]
mod tests {
    use super::*;
    use w4ax::dispatch::ACTION_DIM;

    /// A logit with a probability of 0.
    const NEVER: bf16 = bf16::from_f32_const(-1e4);

    /// Logits of an action with these tokens in each number.
    fn logits(tokens: &[(usize, f32)]) -> Vec<bf16> {
        let mut logits = vec![NEVER; ACTION_DIM * BINS];
        for number in logits.chunks_mut(BINS) {
            for &(k, x) in tokens {
                number[k] = bf16::from_f32(x);
            }
        }
        logits
    }

    fn near(got: f64, expected: f64) {
        assert!(
            (got - expected).abs() <= 1e-12 * expected,
            "{got}: expected {expected}"
        );
    }

    #[test]
    fn token_std_matches_hand_computed_values() {
        // One token: no variance.
        assert_eq!(token_std(&logits(&[(200, 3.0)])), 0.0);
        // The two ends with equal probability: 1 for each number.
        near(token_std(&logits(&[(0, 80.0), (255, 80.0)])), 7f64.sqrt());
        // Probabilities p and 1 - p at a distance of 4 tokens.
        let p = 1.0 / (1.0 + (-0.5f64).exp());
        let expected = (7.0 * p * (1.0 - p)).sqrt() * 4.0 * 2.0 / 255.0;
        near(token_std(&logits(&[(10, 1.0), (14, 0.5)])), expected);
        near(token_std(&logits(&[(14, 1.0), (10, 0.5)])), expected);
        // Only the variances of the numbers are summed.
        let mut one = logits(&[(100, 0.0)]);
        one[3 * BINS + 102] = bf16::ZERO;
        near(token_std(&one), 2.0 / 255.0);
    }

    /// The variance of 256 equally probable numbers is (256^2 - 1) / 12.
    #[test]
    fn token_std_of_equal_logits_is_uniform() {
        let expected = (7.0 * 65535.0 / 12.0f64).sqrt() * 2.0 / 255.0;
        for x in [0.0, -90.0, 3e38] {
            near(token_std(&[bf16::from_f32(x); ACTION_DIM * BINS]), expected);
        }
    }

    #[test]
    fn invalid_logits_have_no_std() {
        for bad in [bf16::NAN, bf16::INFINITY] {
            let mut logits = logits(&[(10, 1.0), (14, 0.5)]);
            logits[5 * BINS + 10] = bad;
            assert!(token_std(&logits).is_nan());
        }
    }

    #[test]
    fn margin_is_that_of_the_least_certain_number() {
        let mut logits = logits(&[(7, 2.0), (9, 0.5), (200, 0.25)]);
        assert_eq!(margin(&logits), 1.5);
        logits[6 * BINS] = bf16::from_f32(1.25);
        assert_eq!(margin(&logits), 0.75);
        logits[6 * BINS + 255] = bf16::from_f32(2.0);
        assert_eq!(margin(&logits), 0.0);
    }
}

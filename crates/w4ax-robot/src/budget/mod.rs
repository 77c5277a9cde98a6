//! Chooses D_acc, and theta_fp of the rule of DyQ-VLA, from a budget of error, cost or share, by
//! replays over recorded steps.
//!
//! A choice from one recording is uncertain, so each candidate has intervals
//! ([`Intervals`]) and controls, which a rule must beat at its cost ([`ReplayControls`]): random
//! widths and the best fixed choice.

mod bootstrap;
mod controls;
mod search;

use std::fmt;
use std::str::FromStr;

use w4ax::{Error, Result, Width};

pub use bootstrap::{Interval, Intervals, RESAMPLES};
pub use controls::{FixedChoice, ReplayControls};
pub use search::{Candidate, Grid, consistency_candidates, dyq_candidates};

/// What a rule may cost, or must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// The largest mean error, in action units. The cheapest candidate within it is chosen.
    Error(f64),
    /// The largest mean cost of a step. The candidate with the least error is chosen.
    Cost(f64),
    /// The smallest share of steps at the low width. The candidate with the least error is chosen.
    Share(f64),
}

impl Budget {
    /// Returns the index of the candidate that this budget chooses. `low` is the width of the
    /// share.
    ///
    /// # Errors
    /// [`Error::Config`] with the best possible value, if no candidate is within the budget.
    pub fn choose(self, candidates: &[Candidate], low: Width) -> Result<usize> {
        let measured = |candidate: &Candidate| match self {
            Self::Error(_) => candidate.replay.mean_error(),
            Self::Cost(_) => candidate.replay.mean_cost(),
            Self::Share(_) => candidate.replay.share(low),
        };
        let within = |candidate: &Candidate| match self {
            Self::Error(most) | Self::Cost(most) => measured(candidate) <= most,
            Self::Share(least) => measured(candidate) >= least,
        };
        // The value to minimize, and what decides between equal ones.
        let rank = |candidate: &Candidate| {
            let (error, cost) = (candidate.replay.mean_error(), candidate.replay.mean_cost());
            match self {
                Self::Error(_) => [cost, error],
                Self::Cost(_) | Self::Share(_) => [error, cost],
            }
        };
        let affordable = candidates.iter().enumerate().filter(|(_, c)| within(c));
        let best = affordable.min_by(|(_, a), (_, b)| {
            let ([a, a_next], [b, b_next]) = (rank(a), rank(b));
            a.total_cmp(&b).then(a_next.total_cmp(&b_next))
        });
        best.map(|(at, _)| at).ok_or_else(|| {
            let all = candidates.iter().map(measured);
            let best = match self {
                Self::Error(_) => format!("the least error is {:.4}", all.fold(f64::MAX, f64::min)),
                Self::Cost(_) => format!("the least cost is {:.4}", all.fold(f64::MAX, f64::min)),
                Self::Share(_) => {
                    format!("the largest share is {:.4}", all.fold(0.0, f64::max))
                }
            };
            Error::Config {
                field: "budget",
                reason: format!("{self} cannot be met by this rule: {best}"),
            }
        })
    }
}

impl FromStr for Budget {
    type Err = Error;

    /// Parses `error=X`, `cost=X` or `share=X`.
    ///
    /// # Errors
    /// [`Error::Range`] for another text, or a number that is not finite and at least 0.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (name, value) = text.split_once('=')?;
            let value: f64 = value.parse().ok()?;
            match name {
                _ if !(value.is_finite() && value >= 0.0) => None,
                "error" => Some(Self::Error(value)),
                "cost" => Some(Self::Cost(value)),
                "share" => Some(Self::Share(value)),
                _ => None,
            }
        };
        parse().ok_or_else(|| Error::Range {
            what: "budget",
            value: format!("`{text}`"),
            range: "error=X, cost=X or share=X with X of at least 0",
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(value) => write!(f, "error={value}"),
            Self::Cost(value) => write!(f, "cost={value}"),
            Self::Share(value) => write!(f, "share={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use w4ax::calibrate::{ReplayedStep, RuleReplay};

    /// A candidate of one step.
    fn candidate(width: Width, error: f64, cost: f64) -> Candidate {
        let step = ReplayedStep {
            width,
            error,
            cost,
            twice: false,
        };
        Candidate {
            d_acc: error,
            thresholds: None,
            replay: RuleReplay {
                episodes: vec![vec![step]],
            },
        }
    }

    #[test]
    fn budget_chooses_the_best_candidate_within_it() {
        let candidates = [
            candidate(Width::A4, 0.05, 4.0),
            candidate(Width::A2, 0.2, 2.0),
            candidate(Width::A2, 0.1, 3.0),
        ];
        let choose = |text: &str| {
            text.parse::<Budget>()
                .unwrap()
                .choose(&candidates, Width::A2)
        };
        for (text, chosen) in [
            ("error=.06", 0),
            ("error=0.15", 2),
            ("error=9", 1),
            ("cost=2", 1),
            ("cost=3.5", 2),
            ("cost=4", 0),
            ("share=0", 0),
            ("share=.5", 2),
        ] {
            assert_eq!(choose(text).unwrap(), chosen, "{text}");
        }
        for (text, best) in [
            (
                "error=.01",
                "error=0.01 cannot be met by this rule: the least error is 0.0500",
            ),
            ("cost=1", "the least cost is 2.0000"),
            ("share=1.5", "the largest share is 1.0000"),
        ] {
            let error = choose(text).unwrap_err().to_string();
            assert!(error.contains(best), "{error}");
        }
        // Of equal errors, the cheaper candidate; of equal costs, the more accurate one.
        let equal = [
            candidate(Width::A4, 0.1, 4.0),
            candidate(Width::A4, 0.1, 3.0),
            candidate(Width::A4, 0.05, 4.0),
        ];
        assert_eq!(Budget::Cost(4.0).choose(&equal[..2], Width::A2).unwrap(), 1);
        assert_eq!(
            Budget::Error(1.0)
                .choose(&[equal[0].clone(), equal[2].clone()], Width::A2)
                .unwrap(),
            1
        );
    }

    #[test]
    fn rejects_budgets_of_other_forms() {
        for bad in [
            "",
            "error",
            "error=",
            "error=x",
            "error=-1",
            "cost=nan",
            "time=3",
            "share=inf",
        ] {
            let error = bad.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}

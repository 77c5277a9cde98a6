//! The results of `w4ax episode` as JSON.

use serde::Serialize;
use w4ax::Width;
use w4ax::dispatch::{StepCosts, WidthChoice};

use super::control::{BestStatic, RandomEqualCost};
use super::replay::Replay;
use super::rule::{Rule, RuleRun};
use super::summary::{Score, Summary};

/// The file of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    steps: usize,
    r#static: Widths<Static>,
    dynamic: Dynamic,
    random: Random,
    random_equal_cost: RandomEqualCost,
    /// The same between the profiles of the consistency rule, floors included.
    #[serde(skip_serializing_if = "Option::is_none")]
    random_profiles_equal_cost: Option<RandomEqualCost>,
    /// `None` if every fixed width costs more than the rule.
    best_static_within_cost: Option<BestStatic>,
    /// The low profile of the consistency rule in every step, floors included.
    #[serde(skip_serializing_if = "Option::is_none")]
    static_profile_within_cost: Option<BestStatic>,
    costs: StepCosts,
    /// The widths that are not dominated, in bits.
    useful_widths: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
    packed_bytes: usize,
    bf16_bytes: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Widths<T> {
    a2: T,
    a4: T,
    a8: T,
    bf16: T,
}

#[derive(Clone, Debug, Serialize)]
struct Static {
    mean_action_error: f64,
    token_agreement: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Dynamic {
    rule: Rule,
    /// The widths between which the rule chose, in bits; one width if the choice is static.
    widths: Vec<u32>,
    share: Share,
    /// The mean cost of a step, second runs included.
    cost: f64,
    /// The share of steps that ran twice.
    reruns: f64,
    mean_action_error: f64,
}

/// Shares of the steps. They sum to 1.
#[derive(Clone, Debug, Serialize)]
struct Share {
    #[serde(rename = "2")]
    a2: f64,
    #[serde(rename = "4")]
    a4: f64,
    #[serde(rename = "8")]
    a8: f64,
    #[serde(rename = "16")]
    bf16: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Random {
    mean_action_error: f64,
}

/// What the rule is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Random widths at the same mean cost.
    pub random: RandomEqualCost,
    /// Random profiles of the consistency rule at the same mean cost.
    pub random_profiles: Option<RandomEqualCost>,
    /// The best fixed width within that cost.
    pub best_static: Option<BestStatic>,
    /// The low profile of the consistency rule, if it is within that cost.
    pub static_profile: Option<BestStatic>,
}

impl Report {
    /// Makes the report of all steps.
    pub fn new(
        all: &Summary,
        run: &RuleRun,
        controls: &Controls,
        costs: &StepCosts,
        replay: Option<Replay>,
        packed_bytes: usize,
        bf16_bytes: usize,
    ) -> Self {
        let [a2, a4, a8, bf16] = all.fixed.map(|Score { error, agreement }| Static {
            mean_action_error: error,
            token_agreement: agreement,
        });
        Self {
            steps: all.steps,
            r#static: Widths { a2, a4, a8, bf16 },
            dynamic: Dynamic {
                share: Share {
                    a2: all.share(Width::A2),
                    a4: all.share(Width::A4),
                    a8: all.share(Width::A8),
                    bf16: all.share(Width::Bf16),
                },
                rule: run.rule,
                widths: match run.choice {
                    WidthChoice::Static(width) => vec![width.bits()],
                    WidthChoice::Dynamic { low, high } => vec![low.bits(), high.bits()],
                },
                cost: run.mean_cost(),
                reruns: run.rerun_share(),
                mean_action_error: run.mean_error(),
            },
            random: Random {
                mean_action_error: all.random.error,
            },
            random_equal_cost: controls.random,
            random_profiles_equal_cost: controls.random_profiles,
            best_static_within_cost: controls.best_static,
            static_profile_within_cost: controls.static_profile,
            costs: *costs,
            useful_widths: costs.useful().map(Width::bits).collect(),
            replay,
            packed_bytes,
            bf16_bytes,
        }
    }

    /// Returns indented JSON with a newline at its end.
    pub fn to_json(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        let json = serde_json::to_string_pretty(self);
        json.expect("a report is plain data") + "\n"
    }
}

//! The consistency rule of a calibration, and parameters from a budget.

use w4ax::calibrate::{Calibration, Episode, ProfileEpisode};
use w4ax::dispatch::{LayerFloors, StepCosts, Tolerance, WidthChoice};
use w4ax::{Error, Result, Width};

use super::options::Args;
use super::print;
use super::source::PolicySteps;
use crate::costs::{CostSource, cost_table};
use w4ax_robot::budget::{
    Budget, Candidate, FixedChoice, Grid, Intervals, ReplayControls, consistency_candidates,
    dyq_candidates,
};
use w4ax_robot::episode::rule::{Rule, measured_costs};
use w4ax_robot::floors::Floor;
use w4ax_robot::policy::Policy;
use w4ax_robot::profiles::{ProfileRun, Profiles, first_block};
use w4ax_robot::rollouts::Rollouts;

/// The number of candidates that are printed on each side of the chosen one.
const NEIGHBORS: usize = 2;

/// Recorded steps at the profiles of the consistency rule.
pub struct ProfileSteps<A> {
    /// The widths that the rule trades.
    choice: WidthChoice,
    /// Empty if the choice is static.
    episodes: Vec<ProfileEpisode<A>>,
    /// The costs of the low and of the high profile.
    costs: [f64; 2],
}

impl<A: AsRef<[f64]> + Clone> ProfileSteps<A> {
    /// Returns profiles without floors, from actions at fixed widths.
    pub fn of_widths(episodes: &[Episode<A>], errors: &[f64; 4], costs: &StepCosts) -> Self {
        let choice = costs.choice(errors);
        let WidthChoice::Dynamic { low, high } = choice else {
            return Self::of_static(choice);
        };
        let profiles = |episode: &Episode<A>| ProfileEpisode {
            task: episode.task,
            reference: episode.reference.clone(),
            actions: [low, high].map(|width| episode.at(width).to_vec()),
            uncertainty: None,
        };
        Self {
            choice,
            episodes: episodes.iter().map(profiles).collect(),
            costs: [low, high].map(|width| costs.of(width)),
        }
    }

    const fn of_static(choice: WidthChoice) -> Self {
        Self {
            choice,
            episodes: Vec::new(),
            costs: [0.0; 2],
        }
    }
}

impl ProfileSteps<w4ax::dispatch::Action> {
    /// Runs the policy at both profiles, and writes the section of the consistency rule.
    ///
    /// # Errors
    /// As [`FloorsOption::resolve`] and [`Profiles::measure`].
    ///
    /// [`FloorsOption::resolve`]: w4ax_robot::profiles::FloorsOption::resolve
    pub fn of_policy(
        args: &Args,
        calibration: &mut Calibration,
        policy: &mut Policy,
        rollouts: &Rollouts,
        costs: &StepCosts,
    ) -> Result<Self> {
        print_first_block(policy, rollouts)?;
        let choice = costs.choice(&errors_of(calibration));
        let mut section = w4ax::calibrate::ConsistencyCalibration {
            tolerance: tolerance(args.d_acc, args.eta),
            gate: args.gate,
            ..w4ax::calibrate::ConsistencyCalibration::default()
        };
        let WidthChoice::Dynamic { low, high } = choice else {
            if let WidthChoice::Static(width) = choice {
                println!(
                    "consistency rule: static {width}: no other width costs less or is more \
                     accurate, so there is nothing to switch"
                );
                (section.low, section.high) = (Some(width), Some(width));
            }
            calibration.consistency = Some(section);
            return Ok(Self::of_static(choice));
        };
        let widths = (low, high);
        let (floors, path) = args.floors.resolve(policy, rollouts, widths, costs)?;
        if let Some(path) = &path {
            print::print_floor_path(path, &floors);
        }
        let profiles = Profiles::measure(policy, rollouts, widths, floors)?;
        calibration.consistency = Some(w4ax::calibrate::ConsistencyCalibration {
            gate: args.gate,
            ..profiles.calibration(section.tolerance)?
        });
        print_profiles(&profiles, rollouts, costs);
        Ok(Self {
            choice,
            episodes: profiles.episodes(rollouts),
            costs: profiles.costs(costs),
        })
    }
}

/// Returns the costs that the options select.
///
/// # Errors
/// [`Error::Range`] for measured costs without a policy. As [`StepCosts::load`] and
/// [`measured_costs`].
pub fn costs_of(args: &Args, steps: Option<&mut PolicySteps>) -> Result<StepCosts> {
    let policy = steps.and_then(|steps| steps.policy.as_mut().zip(steps.rollouts.input.first()));
    let measured = match policy {
        Some((policy, input)) => Some(measured_costs(policy, input)?),
        None => None,
    };
    let (costs, source) = match (&args.costs, measured) {
        (CostSource::Bits, _) => (StepCosts::BITS, "in proportion to the bits".into()),
        (CostSource::File(file), _) => (StepCosts::load(file)?, file.display().to_string()),
        (CostSource::Measured, Some(costs)) => (costs, MEASURED.into()),
        (CostSource::Measured, None) => {
            return Err(Error::Range {
                what: "--costs",
                value: "measured, without a policy to run".into(),
                range: "bits or a file",
            });
        }
    };
    if let Some(measured) = measured.filter(|_| args.costs != CostSource::Measured) {
        println!("\nCost of a step ({MEASURED}; for comparison):");
        println!("{}", cost_table(&measured));
    }
    println!("\nCost of a step ({source}):\n{}", cost_table(&costs));
    Ok(costs)
}

const MEASURED: &str = "measured here, microseconds";

/// Chooses the parameters of a rule from the budget, and prints the neighbors of the choice.
///
/// # Errors
/// [`Error::Config`] for a budget that cannot be met, or a rule without a choice.
pub fn apply_budget<A: AsRef<[f64]>>(
    args: &Args,
    budget: Budget,
    calibration: &mut Calibration,
    episodes: &[Episode<A>],
    profiles: &ProfileSteps<A>,
    costs: &StepCosts,
) -> Result<()> {
    let errors = errors_of(calibration);
    let mut fixed: Vec<FixedChoice> = (Width::ALL.into_iter())
        .map(|width| FixedChoice {
            name: width.to_string(),
            error: errors[width.index()],
            cost: costs.of(width),
        })
        .collect();
    let mut grid = Grid::default();
    let (low, candidates) = match (args.rule, profiles.choice) {
        (Rule::Dyq, _) => {
            if args.theta_fp.is_some() {
                grid.theta_fp = vec![calibration.thresholds.theta_fp];
            }
            let settings = args.settings();
            let found = dyq_candidates(calibration, episodes, &settings, &grid, costs)?;
            (Width::A2, found)
        }
        (Rule::Consistency, WidthChoice::Dynamic { low, high }) => {
            // The high profile is the high width: the floors are at most as wide.
            fixed.retain(|choice| choice.name != high.to_string());
            fixed.extend(FixedChoice::profiles(
                &profiles.episodes,
                [low, high],
                profiles.costs,
            ));
            let (steps, costs) = (&profiles.episodes, profiles.costs);
            let found = consistency_candidates(calibration, (low, high), steps, &grid, costs)?;
            (low, found)
        }
        (Rule::Consistency, WidthChoice::Static(width)) => {
            return Err(Error::Config {
                field: "budget",
                reason: format!(
                    "is of a rule that is static {width} at these costs: expected costs of which \
                     one width saves at least 3 %"
                ),
            });
        }
    };
    let at = budget.choose(&candidates, low)?;
    let chosen = &candidates[at];
    let theta_fp = |candidate: &Candidate| candidate.thresholds.map(|t| t.theta_fp);
    let rows = at.saturating_sub(NEIGHBORS)..(at + NEIGHBORS + 1).min(candidates.len());
    let rows = rows.filter(|&row| theta_fp(&candidates[row]) == theta_fp(chosen));
    let rows: Vec<_> = rows
        .map(|row| {
            let candidate = &candidates[row];
            let controls = match args.rule {
                Rule::Dyq => ReplayControls::of_dyq(&candidate.replay, episodes, &fixed, args.seed),
                Rule::Consistency => ReplayControls::of_consistency(
                    &candidate.replay,
                    &profiles.episodes,
                    profiles.costs,
                    &fixed,
                    args.seed,
                ),
            };
            let intervals = Intervals::of(&candidate.replay, low, args.seed);
            (row == at, candidate, intervals, controls)
        })
        .collect();
    println!(
        "\nRule {} within {budget}, {} candidates replayed; 95 % intervals over {} episodes:",
        args.rule.name(),
        candidates.len(),
        chosen.replay.episodes.len()
    );
    print::print_candidates(&rows, low);
    match chosen.thresholds {
        Some(thresholds) => {
            (calibration.thresholds, calibration.d_acc) = (thresholds, chosen.d_acc);
        }
        None => {
            let rule = calibration.consistency.get_or_insert_default();
            rule.tolerance = tolerance(chosen.d_acc, args.eta);
        }
    }
    Ok(())
}

/// Returns the tolerance of the consistency rule.
fn tolerance(d_acc: f64, eta: f64) -> Tolerance {
    match Tolerance::default() {
        Tolerance::Motion { tau_max, .. } => Tolerance::Motion {
            d_acc,
            eta,
            tau_max,
        },
        constant => constant,
    }
}

/// Returns the mean errors by width, which [`w4ax::calibrate::calibrate`] always measures.
pub fn errors_of(calibration: &Calibration) -> [f64; 4] {
    calibration.errors.expect("a new calibration has errors")
}

/// Runs A2 and A4 with block 0 at the next wider width.
fn print_first_block(policy: &mut Policy, rollouts: &Rollouts) -> Result<()> {
    let layers = policy.floors().len();
    let mut error = |width, floors: &LayerFloors| {
        let run = ProfileRun::measure(policy, rollouts, width, floors)?;
        Ok::<_, Error>(run.mean_error(rollouts))
    };
    let mut rows = Vec::new();
    for (width, floor) in [(Width::A2, Width::A4), (Width::A4, Width::A8)] {
        let without = error(width, &LayerFloors::none(layers))?;
        rows.push((
            width,
            without,
            floor,
            error(width, &first_block(layers, floor))?,
        ));
    }
    print::print_first_block(&rows);
    Ok(())
}

fn print_profiles(profiles: &Profiles, rollouts: &Rollouts, costs: &StepCosts) {
    let floors: Vec<String> = Floor::above_a2(&profiles.floors)
        .map(|floor| floor.to_string())
        .collect();
    let floors = match floors.is_empty() {
        true => "no floors".into(),
        false => format!("floors {}", floors.join(",")),
    };
    let [low, high] = (profiles.runs.each_ref()).map(|run| run.mean_error(rollouts));
    let [cost_low, cost_high] = profiles.costs(costs);
    println!(
        "consistency rule: {} with mean error {low:.4} at cost {cost_low:.4}, {} with {high:.4} at \
         {cost_high:.4}; {floors}",
        profiles.low, profiles.high
    );
}

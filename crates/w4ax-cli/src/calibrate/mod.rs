//! `w4ax calibrate`: motion scales and thresholds of the dispatcher, and the parameters of the
//! consistency rule, from recorded episodes.
//!
//! With `--validation` it uses the episodes of a dataset that the policy was not trained on. With
//! `--actions` it uses recorded steps of any model.

#[cfg(feature = "vla")]
mod complete;
mod options;
mod print;
mod recording;
mod rules;
mod source;
mod step;

use std::error::Error as StdError;
use std::path::Path;

use w4ax::Result;
use w4ax::calibrate::{Calibration, Episode, calibrate};
use w4ax::dispatch::StepCosts;

pub use options::Args;
use recording::Recording;
use rules::{ProfileSteps, apply_budget, costs_of, errors_of};
use source::PolicySteps;
#[cfg(feature = "vla")]
pub use step::Output;

/// Runs the command.
///
/// # Errors
/// Invalid options and files.
pub fn run(args: &Args) -> std::result::Result<(), Box<dyn StdError>> {
    let settings = args.settings();
    match &args.actions {
        Some(path) => {
            let (tasks, episodes) = recorded_steps(path, args)?;
            let report = calibrate(&tasks, &episodes, &settings)?;
            print::print(&report);
            let calibration = report.calibration;
            let costs = costs_of(args, None)?;
            let profiles = ProfileSteps::of_widths(&episodes, &errors_of(&calibration), &costs);
            finish(args, calibration, &episodes, &profiles, &costs)?;
        }
        None => {
            let mut steps = PolicySteps::load(args)?;
            let report = calibrate(&steps.tasks, &steps.episodes, &settings)?;
            print::print(&report);
            let mut calibration = report.calibration;
            let costs = costs_of(args, Some(&mut steps))?;
            let profiles = match steps.policy.as_mut().filter(|_| !args.no_consistency) {
                Some(policy) => {
                    let rollouts = &steps.rollouts;
                    ProfileSteps::of_policy(args, &mut calibration, policy, rollouts, &costs)?
                }
                None => ProfileSteps::of_widths(&steps.episodes, &errors_of(&calibration), &costs),
            };
            finish(args, calibration, &steps.episodes, &profiles, &costs)?;
        }
    }
    Ok(())
}

/// Applies the budget and writes the file.
fn finish<A: AsRef<[f64]>>(
    args: &Args,
    mut calibration: Calibration,
    episodes: &[Episode<A>],
    profiles: &ProfileSteps<A>,
    costs: &StepCosts,
) -> Result<()> {
    if let Some(budget) = args.budget {
        apply_budget(args, budget, &mut calibration, episodes, profiles, costs)?;
    }
    if args.write_costs {
        calibration.costs = Some(*costs);
    }
    calibration.save(&args.out)?;
    println!("written to {}", args.out.display());
    Ok(())
}

/// The names of the tasks, and the episodes.
type Recorded<A> = (Vec<String>, Vec<Episode<A>>);

/// Returns the recorded steps, completed by the model.
fn recorded_steps(
    path: &Path,
    args: &Args,
) -> std::result::Result<Recorded<Vec<f64>>, Box<dyn StdError>> {
    #[cfg(not(feature = "vla"))]
    if args.model.is_some() {
        return Err(NO_MODEL.into());
    }
    #[cfg_attr(not(feature = "vla"), expect(unused_mut))]
    let mut recording = Recording::load(path, args.layout)?;
    #[cfg(feature = "vla")]
    if let Some(model) = &args.model {
        complete::complete(&mut recording, model, &args.input, args.record.as_deref())?;
    }
    recording.check_complete("expected actions of each width, or --model (needs feature vla)")?;
    Ok(recording.episodes()?)
}

#[cfg(not(feature = "vla"))]
const NO_MODEL: &str = "--model: built without feature vla: build w4ax-cli with --features vla";

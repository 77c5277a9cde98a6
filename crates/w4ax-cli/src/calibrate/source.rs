//! The recorded steps of this repository's policies.

use std::path::Path;

use w4ax::calibrate::Episode;
use w4ax::cpu::Cpu;
use w4ax::dispatch::Action;
use w4ax::{Error, Result, Width};

use super::options::{Args, Source};
use w4ax_robot::paths;
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{self, Rollouts, TASKS};
use w4ax_robot::setup::checkpoint;
use w4ax_robot::shapes::Tokens;

/// Recorded steps, and the policy for them if the options need it.
pub struct PolicySteps {
    /// The names of the tasks.
    pub tasks: Vec<String>,
    /// The recorded inputs.
    pub rollouts: Rollouts,
    /// Their actions.
    pub episodes: Vec<Episode>,
    /// The quantized policy, for all inputs at once.
    pub policy: Option<Policy>,
}

impl PolicySteps {
    /// Reads the files of the options, and runs the policy if its actions are needed.
    ///
    /// # Errors
    /// Invalid files.
    pub fn load(args: &Args) -> Result<Self> {
        let rollouts = match &args.validation {
            None => {
                paths::check("--rollouts", &args.rollouts)?;
                Rollouts::load(&args.rollouts)?
            }
            Some(path) => {
                paths::check("--validation", path)?;
                Rollouts::load_validation(path, &checkpoint(args.policy.as_deref())?)?
            }
        };
        let recorded_tokens = matches!((&args.validation, args.from), (None, Source::Tokens));
        let mut policy = match recorded_tokens && args.no_consistency {
            true => None,
            false => {
                let checkpoint = checkpoint(args.policy.as_deref())?;
                Some(Policy::new(
                    &checkpoint,
                    args.weights.quantize(),
                    Cpu::new()?,
                    rollouts.len(),
                )?)
            }
        };
        let (tasks, at_width) = match &mut policy {
            Some(policy) if !recorded_tokens => {
                (policy.tasks().to_vec(), computed(&rollouts, policy)?)
            }
            _ => (
                TASKS.map(String::from).to_vec(),
                recorded(&rollouts, &args.rollouts)?,
            ),
        };
        rollouts.check_tasks(tasks.len())?;
        Ok(Self {
            episodes: rollouts.calibration_episodes(&at_width),
            tasks,
            rollouts,
            policy,
        })
    }
}

/// Returns the actions of the recorded tokens, `[width][steps]`.
fn recorded(rollouts: &Rollouts, file: &Path) -> Result<[Vec<Action>; 4]> {
    let mut at_width = [const { Vec::new() }; 4];
    for (to, width) in at_width.iter_mut().zip(Width::ALL) {
        let tokens = rollouts.tokens(width).ok_or_else(|| Error::MissingTensor {
            file: file.display().to_string(),
            name: "tok_w4a16 and those of the other widths".into(),
        })?;
        *to = actions(tokens);
    }
    Ok(at_width)
}

/// Returns the policy's actions, `[width][steps]`.
fn computed(rollouts: &Rollouts, policy: &mut Policy) -> Result<[Vec<Action>; 4]> {
    let mut tokens = vec![Tokens::default(); rollouts.len()];
    let mut at_width = [const { Vec::new() }; 4];
    for (to, width) in at_width.iter_mut().zip(Width::ALL) {
        policy.forward_rows(&rollouts.input, width, &mut tokens)?;
        *to = actions(&tokens);
    }
    Ok(at_width)
}

fn actions(tokens: &[Tokens]) -> Vec<Action> {
    tokens.iter().map(rollouts::action).collect()
}

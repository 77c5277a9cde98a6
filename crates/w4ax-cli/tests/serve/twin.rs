//! The policies of a server in this process.

use serde_json::{Value, json};
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::{Action, Decision, Dispatcher, Reason};
use w4ax_robot::checkpoint::{Checkpoint, TRAINED};
use w4ax_robot::policy::{Policy, tokens_of};
use w4ax_robot::rollouts::action;
use w4ax_robot::setup::{QUANTIZE, default_calibration};
use w4ax_robot::shapes::{INPUT, OBS, Tokens};
use w4ax_robot::uncertainty::{margin, token_std};

/// The default policies, and an episode's dispatcher.
pub struct Twin {
    pub quantized: Policy,
    pub plain: Policy,
    calibration: Calibration,
    task: usize,
    step: u64,
    dispatcher: Dispatcher,
}

impl Twin {
    /// Begins an episode of task 0.
    pub fn new() -> Self {
        let checkpoint = Checkpoint::load(TRAINED).unwrap();
        let cpu = Cpu::new().unwrap();
        let calibration = Calibration::load(default_calibration(TRAINED)).unwrap();
        let config = calibration.dispatch_config(&checkpoint.tasks[0]).unwrap();
        Self {
            quantized: Policy::new(&checkpoint, QUANTIZE, cpu.clone(), 1).unwrap(),
            plain: Policy::unquantized(&checkpoint, cpu, 1).unwrap(),
            calibration,
            task: 0,
            step: 0,
            dispatcher: Dispatcher::new(&config).unwrap(),
        }
    }

    pub fn reset(&mut self, task: usize) {
        let config = self
            .calibration
            .dispatch_config(&self.quantized.tasks()[task]);
        self.dispatcher = Dispatcher::new(&config.unwrap()).unwrap();
        (self.task, self.step) = (task, 0);
    }

    /// Decides the width of the next step.
    pub fn decide(&mut self, last: Option<Action>) -> Decision {
        if let Some(action) = last {
            self.dispatcher.observe(&action).unwrap();
        }
        self.dispatcher.decide()
    }

    /// Returns the reply to a step at the dispatcher's width, without its time. `last` is the
    /// executed action.
    pub fn dynamic(&mut self, obs: &[f32; OBS], last: Option<Action>) -> Value {
        let decision = self.decide(last);
        let mut reply = self.requested(obs, Some(decision.active));
        add_decision(&mut reply, &decision);
        reply
    }

    /// Returns the reply to a step at this width, or of the unquantized policy, without its time.
    pub fn requested(&mut self, obs: &[f32; OBS], width: Option<Width>) -> Value {
        let policy = match width {
            Some(_) => &mut self.quantized,
            None => &mut self.plain,
        };
        let input = policy.input(obs, self.task).unwrap();
        policy.forward(&input, width.unwrap_or(Width::A2)).unwrap();
        self.step += 1;
        reply(self.step - 1, policy, &input, width)
    }
}

/// Returns the reply to a step of a policy at a requested width, without its time.
pub fn reply(step: u64, policy: &Policy, input: &[f32; INPUT], width: Option<Width>) -> Value {
    let mut tokens = [Tokens::default()];
    tokens_of(policy.logits(), &mut tokens).unwrap();
    let clipped: Vec<usize> = (0..OBS).filter(|&i| input[i].abs() == 5.0).collect();
    json!({
        "step": step,
        "action": action(&tokens[0]),
        "width": width.map_or(32, Width::bits),
        "target": null,
        "sensitivity": null,
        "reason": "requested",
        "token_std": token_std(policy.logits()),
        "margin": margin(policy.logits()),
        "clipped": clipped,
        "runs": 1
    })
}

/// Sets the fields of a decision.
pub fn add_decision(reply: &mut Value, decision: &Decision) {
    let history = decision.reason != Reason::Start;
    reply["target"] = json!(decision.target.bits());
    reply["sensitivity"] = json!(history.then_some(decision.sensitivity));
    reply["reason"] = json!(name(decision));
}

fn name(decision: &Decision) -> &'static str {
    match decision.reason {
        Reason::Start => "start",
        Reason::Steady => "steady",
        Reason::Rose => "rose",
        Reason::Held { .. } => "held",
        Reason::SteppedDown => "stepped-down",
        other => panic!("{other:?}"),
    }
}

/// Returns the action of a reply.
pub fn action_of(reply: &Value) -> Action {
    serde_json::from_value(reply["action"].clone()).unwrap()
}

//! The reply to `describe`.

use std::collections::BTreeMap;

use serde::Serialize;
use w4ax_robot::draw::STEPS_A_SECOND;
use w4ax_robot::floors::Floor;
use w4ax_robot::policy::Policy;
use w4ax_robot::shapes::{ACTION_PARTS, ActionPart, OBSERVATION_PARTS, ObservationPart};

use super::layers::ServedLayers;
use super::rule::RuleDescription;
use super::width::ServedWidth;

/// The version of the protocol.
const PROTOCOL: u32 = 1;

/// The policy, its inputs and outputs, and the options of the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    protocol: u32,
    version: &'static str,
    policy: PolicyDescription,
    /// By index.
    tasks: Vec<String>,
    observation: &'static [ObservationPart],
    action: &'static [ActionPart],
    control_hz: u32,
    /// The names of the widths of a request.
    widths: Vec<String>,
    /// The width of a step without one.
    width: String,
    /// The rule that decides the width of a dynamic step.
    #[serde(flatten)]
    rule: RuleDescription,
    /// The smallest widths of layers above A2, by block or `head`.
    floors: BTreeMap<String, String>,
    /// Whether layers are skipped by the guide or by chance.
    skip: bool,
    /// The probability of random skips, if there are any.
    random_skip: Option<f64>,
    /// The layer of the early exit, if there is one.
    exit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct PolicyDescription {
    name: String,
    blocks: usize,
    /// The bytes of the quantized layers, scales included.
    packed_bytes: usize,
}

impl Description {
    /// Describes a quantized policy with this name, which skips no layers.
    pub fn new(
        name: String,
        policy: &Policy,
        (width, rule): (ServedWidth, RuleDescription),
    ) -> Self {
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION"),
            policy: PolicyDescription {
                name,
                blocks: policy.blocks(),
                packed_bytes: policy.packed_bytes(),
            },
            tasks: policy.tasks().to_vec(),
            observation: &OBSERVATION_PARTS,
            action: &ACTION_PARTS,
            control_hz: STEPS_A_SECOND as u32,
            widths: ServedWidth::names(),
            width: width.name(),
            rule,
            floors: Floor::above_a2(policy.floors())
                .map(|floor| (floor.layer(), floor.width.to_string()))
                .collect(),
            skip: false,
            random_skip: None,
            exit: None,
        }
    }

    /// Sets which layers run, and the probability of random skips.
    pub fn with_layers(self, layers: &ServedLayers, random_skip: Option<f64>) -> Self {
        Self {
            skip: matches!(layers, ServedLayers::Skip(_)),
            random_skip,
            exit: layers.exit(),
            ..self
        }
    }
}

//! The figures of the papers and of the data's READMEs, for comparison.

/// DyQ-VLA's correlations of the sensitivity with M and J.
pub const PAPER: [f64; 2] = [0.90, 0.87];

/// The README's approximate correlations of log s with windowed M and J, pooled.
pub const README: [f64; 2] = [0.3, 0.0];

/// Mean C_t by phase.
pub const PHASES: [f64; 8] = [
    -0.044, -0.033, -0.267, -0.020, -0.042, -0.037, -0.319, -0.013,
];

/// Mean C_t without the gripper's number, where the README has it.
pub const WITHOUT_GRIPPER: [Option<f64>; 8] = [
    None,
    None,
    Some(-0.039),
    None,
    None,
    None,
    Some(-0.051),
    None,
];

/// The percentage of steps at which a rule fires, where the README has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fired {
    /// Of steps at which the gripper closes.
    pub closings: Option<f64>,
    /// Of steps at which the gripper opens.
    pub openings: Option<f64>,
    /// Of all steps.
    pub steps: Option<f64>,
}

/// Returns the README's figures of a rule at an eta.
pub fn firing(rule: &str, eta: f64) -> Fired {
    let fired = |closings, openings, steps| Fired {
        closings: Some(closings),
        openings: Some(openings),
        steps,
    };
    match (rule, eta) {
        ("rise then drop", 1e-3) => fired(1.0, 8.0, None),
        ("first drop", 1e-2) => fired(79.0, 98.0, Some(4.3)),
        ("first drop", 0.05) => fired(100.0, 100.0, Some(3.0)),
        _ => Fired::default(),
    }
}

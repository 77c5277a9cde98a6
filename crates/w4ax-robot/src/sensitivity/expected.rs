//! What the papers and the data's READMEs have, to be printed beside the figures.

/// DyQ-VLA's correlations of the sensitivity with M and with J.
pub const PAPER: [f64; 2] = [0.90, 0.87];

/// About what the README has for log s with windowed M and J, pooled.
pub const README: [f64; 2] = [0.3, 0.0];

/// Mean C_t by phase.
pub const PHASES: [f64; 8] = [
    -0.044, -0.033, -0.267, -0.020, -0.042, -0.037, -0.319, -0.013,
];

/// The same without the gripper's number, where the README has it.
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

/// Percent of steps at which a rule fires, where the README has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fired {
    /// Of the closings.
    pub closings: Option<f64>,
    /// Of the openings.
    pub openings: Option<f64>,
    /// Of all steps.
    pub steps: Option<f64>,
}

/// Of a rule by its name, at an eta.
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

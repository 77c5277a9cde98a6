//! The consistency rule.

use std::ffi::c_char;
use std::sync::Mutex;

use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{
    ConsistencyConfig as RuleConfig, ConsistencyRule, DispatchConfig, MotionScale, Profile,
    StepCosts, Thresholds, Tolerance, UncertaintyQuantiles, WidthChoice,
};

use super::cpu::exclusive;
use super::dispatch::{costs, layout};
use super::enums::{self, CEnum};
use super::raw;
use super::status::{Failure, Result, Status, entry_points, free_functions};

/// `w4ax_consistency`. The lock detects two calls at once.
pub struct Consistency {
    rule: Mutex<ConsistencyRule>,
    /// `[layers]`: the floors of the calibration, empty if there are none.
    floors: Vec<Width>,
}

/// `w4ax_consistency_config`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsistencyConfig {
    pub mu_max: f64,
    pub nu_max: f64,
    pub lambda: f64,
    pub d_acc: f64,
    pub eta: f64,
    pub tau_max: f64,
    pub tau: f64,
    pub gate: f64,
    pub alpha: f64,
    pub uncertainty_low: *const f64,
    pub uncertainty_high: *const f64,
    pub window_macro: u32,
    pub window_micro: u32,
    pub refresh: u32,
    pub max_chunk: u32,
    pub low: u32,
    pub high: u32,
}

/// `w4ax_consistency_decision`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsistencyDecision {
    pub profile: u32,
    pub width: u32,
    pub reason: u32,
    pub reserved: u32,
}

/// `w4ax_consistency_check`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsistencyCheck {
    pub distance: f64,
    pub tolerance: f64,
    pub accepted: u32,
    pub reserved: u32,
}

impl ConsistencyConfig {
    /// # Safety
    /// The two arrays are null or have `W4AX_QUANTILES` values.
    unsafe fn checked(&self) -> Result<RuleConfig> {
        let motion = MotionScale {
            mu_max: self.mu_max,
            nu_max: self.nu_max,
        };
        // The thresholds of the dispatcher have no effect here.
        let unused = Thresholds {
            theta_24: 0.0,
            theta_48: 0.0,
            theta_fp: DispatchConfig::THETA_FP,
        };
        let kinematics = DispatchConfig::new(motion, unused)
            .with_lambda(self.lambda)
            .with_window_macro(self.window_macro as usize)
            .with_window_micro(self.window_micro as usize);
        let tolerance = match self.tau {
            0.0 => Tolerance::Motion {
                d_acc: self.d_acc,
                eta: self.eta,
                tau_max: self.tau_max,
            },
            tau => Tolerance::Constant(tau),
        };
        let config = RuleConfig::with_kinematics(kinematics)
            .with_widths(enums::value(self.low)?, enums::value(self.high)?)
            .with_tolerance(tolerance)
            .with_alpha(self.alpha)
            .with_refresh(self.refresh)
            .with_max_chunk(self.max_chunk as usize);
        let given = [self.uncertainty_low, self.uncertainty_high].map(|of| !of.is_null());
        if given == [false, false] {
            return Ok(config.with_online_gate(self.gate));
        }
        // SAFETY: passed on. A null pointer is a status.
        let [low, high] = unsafe {
            let points = UncertaintyQuantiles::POINTS;
            [
                raw::slice("uncertainty_low", self.uncertainty_low, points)?,
                raw::slice("uncertainty_high", self.uncertainty_high, points)?,
            ]
        };
        Ok(config.with_gate(self.gate, UncertaintyQuantiles::new(low, high)?))
    }
}

/// Loads the rule of a task. The costs are those of the caller or of the calibration.
fn load(path: &str, task: &str, costs: Option<StepCosts>, max_chunk: u32) -> Result<Consistency> {
    let calibration = Calibration::load(path)?;
    let errors = calibration.errors.ok_or_else(|| missing("errors"))?;
    let fixed = calibration.consistency.as_ref();
    let fixed = fixed.is_some_and(|rule| rule.low.is_some() && rule.high.is_some());
    let costs = match costs.or(calibration.costs) {
        Some(costs) => costs,
        // Without costs, the widths of the calibration are used as they are.
        None if fixed => StepCosts::BITS,
        None => return Err(missing("costs")),
    };
    let (low, high) = match calibration.width_choice(&costs, &errors) {
        WidthChoice::Static(width) => (width, width),
        WidthChoice::Dynamic { low, high } => (low, high),
    };
    let config = calibration.consistency_config(task, low, high)?;
    let rule = calibration
        .consistency
        .filter(|rule| rule.applies_to(low, high));
    create(
        &config.with_max_chunk(max_chunk as usize),
        rule.and_then(|rule| rule.floors).unwrap_or_default(),
    )
}

fn missing(field: &str) -> Failure {
    let text =
        format!("the calibration has no `{field}`: expected a file of w4ax calibrate, or costs");
    Failure::new(Status::BadConfig, text)
}

fn create(config: &RuleConfig, floors: Vec<Width>) -> Result<Consistency> {
    Ok(Consistency {
        rule: Mutex::new(ConsistencyRule::new(config)?),
        floors,
    })
}

/// # Safety
/// As [`raw::handle`], [`raw::slice`] and [`raw::output`].
unsafe fn verify<T: bytemuck::Pod + Into<f64>>(
    consistency: *mut Consistency,
    actions: *const T,
    len: usize,
    check: *mut ConsistencyCheck,
) -> Result<()> {
    // SAFETY: passed on.
    let (consistency, actions, check) = unsafe {
        let consistency = raw::handle("consistency", consistency)?;
        let actions = raw::slice("actions", actions, len);
        (consistency, actions, raw::output("check", check))
    };
    let mut rule = exclusive("consistency", &consistency.rule)?;
    // An unreadable action is a bad action: it is not accepted.
    let checked = rule.verify(actions.as_deref().unwrap_or_default());
    actions?;
    check?.write(ConsistencyCheck {
        distance: checked.distance.unwrap_or(f64::NAN),
        tolerance: checked.tolerance.unwrap_or(f64::NAN),
        accepted: checked.accepted.into(),
        reserved: 0,
    });
    Ok(())
}

/// # Safety
/// As [`raw::handle`] and [`raw::slice`].
unsafe fn observe<T: bytemuck::Pod + Into<f64>>(
    consistency: *mut Consistency,
    (actions, len): (*const T, usize),
    executed: usize,
    profile: u32,
    uncertainty: f64,
) -> Result<()> {
    // SAFETY: passed on.
    let (consistency, actions) = unsafe {
        let consistency = raw::handle("consistency", consistency)?;
        (consistency, raw::slice("actions", actions, len))
    };
    let mut rule = exclusive("consistency", &consistency.rule)?;
    let readable = actions.and_then(|actions| Ok((actions, enums::value::<Profile>(profile)?)));
    match readable {
        Ok((actions, profile)) => {
            // NaN is an unknown uncertainty. The rule leaves out all values that are not finite.
            Ok(rule.observe_chunk(actions, executed, profile, Some(uncertainty))?)
        }
        Err(failure) => {
            // An unreadable action is a bad action: an empty chunk is a fault.
            let _ = rule.observe_chunk::<T>(&[], 1, Profile::High, None);
            Err(failure)
        }
    }
}

entry_points! {
    fn w4ax_consistency_config_init(config: *mut ConsistencyConfig) {
        let config = raw::output("config", config)?;
        let (d_acc, eta, tau_max, tau) = match Tolerance::default() {
            Tolerance::Motion { d_acc, eta, tau_max } => (d_acc, eta, tau_max, 0.0),
            Tolerance::Constant(tau) => (f64::NAN, f64::NAN, f64::NAN, tau),
        };
        config.write(ConsistencyConfig {
            // Only a calibration has these values. NaN is refused by `w4ax_consistency_create`.
            mu_max: f64::NAN,
            nu_max: f64::NAN,
            lambda: DispatchConfig::LAMBDA,
            d_acc,
            eta,
            tau_max,
            tau,
            gate: RuleConfig::GATE,
            alpha: 1.0,
            uncertainty_low: std::ptr::null(),
            uncertainty_high: std::ptr::null(),
            window_macro: DispatchConfig::WINDOW_MACRO as u32,
            window_micro: DispatchConfig::WINDOW_MICRO as u32,
            refresh: 0,
            max_chunk: 1,
            low: Width::A2.number(),
            high: Width::A4.number(),
        });
        Ok(())
    }

    fn w4ax_consistency_create(
        config: *const ConsistencyConfig,
        text: *const c_char,
        consistency: *mut *mut Consistency
    ) {
        raw::create("consistency", consistency, || {
            let config = raw::arguments("config", config)?.checked()?;
            create(&config.with_layout(layout(text)?), Vec::new())
        })
    }

    fn w4ax_consistency_load(
        path: *const c_char,
        task: *const c_char,
        of: *const f64,
        max_chunk: u32,
        consistency: *mut *mut Consistency
    ) {
        raw::create("consistency", consistency, || {
            let (path, task) = (raw::text("path", path)?, raw::text("task", task)?);
            load(path, task, costs(of)?, max_chunk)
        })
    }

    fn w4ax_consistency_keep_uncertainty_online(consistency: *mut Consistency) {
        let consistency = raw::handle("consistency", consistency)?;
        let mut rule = exclusive("consistency", &consistency.rule)?;
        *rule = rule.clone().with_online_uncertainty();
        Ok(())
    }

    fn w4ax_consistency_action_dim(consistency: *const Consistency, dim: *mut usize) {
        let consistency = raw::handle("consistency", consistency)?;
        let dim = raw::output("dim", dim)?;
        dim.write(exclusive("consistency", &consistency.rule)?.config().layout().dims());
        Ok(())
    }

    fn w4ax_consistency_floors(
        consistency: *const Consistency,
        floors: *mut u32,
        floors_len: usize,
        count: *mut usize
    ) {
        let consistency = raw::handle("consistency", consistency)?;
        let count = raw::output("count", count)?;
        let of_layers = consistency.floors.iter().map(|floor| floor.number());
        if raw::given(floors, floors_len) {
            raw::at_least("floors", of_layers.len(), floors_len)?;
            let places = raw::slice_mut("floors", floors, floors_len)?;
            places.iter_mut().zip(of_layers).for_each(|(place, floor)| *place = floor);
        }
        count.write(consistency.floors.len());
        Ok(())
    }

    fn w4ax_consistency_decide(
        consistency: *mut Consistency,
        decision: *mut ConsistencyDecision
    ) {
        let consistency = raw::handle("consistency", consistency)?;
        let decision = raw::output("decision", decision)?;
        let decided = exclusive("consistency", &consistency.rule)?.decide();
        decision.write(ConsistencyDecision {
            profile: decided.profile.number(),
            width: decided.width.number(),
            reason: decided.reason.number(),
            reserved: 0,
        });
        Ok(())
    }

    fn w4ax_consistency_verify(
        consistency: *mut Consistency,
        actions: *const f64,
        len: usize,
        check: *mut ConsistencyCheck
    ) {
        verify(consistency, actions, len, check)
    }

    fn w4ax_consistency_verify_f32(
        consistency: *mut Consistency,
        actions: *const f32,
        len: usize,
        check: *mut ConsistencyCheck
    ) {
        verify(consistency, actions, len, check)
    }

    fn w4ax_consistency_command(
        consistency: *const Consistency,
        actions: *mut f64,
        len: usize,
        profile: u32
    ) {
        let consistency = raw::handle("consistency", consistency)?;
        let actions = raw::slice_mut("actions", actions, len)?;
        let profile = enums::value(profile)?;
        exclusive("consistency", &consistency.rule)?.command(actions, profile);
        Ok(())
    }

    fn w4ax_consistency_observe(
        consistency: *mut Consistency,
        actions: *const f64,
        len: usize,
        executed: usize,
        profile: u32,
        uncertainty: f64
    ) {
        observe(consistency, (actions, len), executed, profile, uncertainty)
    }

    fn w4ax_consistency_observe_f32(
        consistency: *mut Consistency,
        actions: *const f32,
        len: usize,
        executed: usize,
        profile: u32,
        uncertainty: f64
    ) {
        observe(consistency, (actions, len), executed, profile, uncertainty)
    }

    fn w4ax_consistency_reset(consistency: *mut Consistency) {
        let consistency = raw::handle("consistency", consistency)?;
        exclusive("consistency", &consistency.rule)?.reset();
        Ok(())
    }
}

free_functions! {
    w4ax_consistency_free(consistency: Consistency);
}

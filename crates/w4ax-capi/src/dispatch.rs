//! The dispatcher.

use std::ffi::c_char;
use std::sync::Mutex;

use w4ax::calibrate::Calibration;
use w4ax::dispatch::{
    self, ActionLayout, DispatchConfig, MotionScale, Reason, StepCosts, Thresholds,
};

use super::cpu::exclusive;
use super::enums::{self, CEnum, ReasonKind};
use super::limits::WIDTHS;
use super::raw;
use super::status::{Failure, Result, Status, entry_points, free_functions};

/// `w4ax_dispatcher`. The lock detects two calls at once.
pub struct Dispatcher(Mutex<dispatch::Dispatcher>);

/// `w4ax_dispatch_config`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Config {
    pub lambda: f64,
    pub mu_max: f64,
    pub nu_max: f64,
    pub theta_24: f64,
    pub theta_48: f64,
    pub theta_fp: f64,
    pub window_macro: u32,
    pub window_micro: u32,
    pub k: u32,
    pub algorithm: u32,
}

impl From<DispatchConfig> for Config {
    fn from(config: DispatchConfig) -> Self {
        Self {
            lambda: config.lambda(),
            mu_max: config.motion().mu_max,
            nu_max: config.motion().nu_max,
            theta_24: config.thresholds().theta_24,
            theta_48: config.thresholds().theta_48,
            theta_fp: config.thresholds().theta_fp,
            // A window has at most `DispatchConfig::MAX_WINDOW` actions.
            window_macro: config.window_macro() as u32,
            window_micro: config.window_micro() as u32,
            k: config.k(),
            algorithm: config.algorithm().number(),
        }
    }
}

impl Config {
    fn checked(&self) -> Result<DispatchConfig> {
        let motion = MotionScale {
            mu_max: self.mu_max,
            nu_max: self.nu_max,
        };
        let thresholds = Thresholds {
            theta_24: self.theta_24,
            theta_48: self.theta_48,
            theta_fp: self.theta_fp,
        };
        Ok(DispatchConfig::new(motion, thresholds)
            .with_lambda(self.lambda)
            .with_window_macro(self.window_macro as usize)
            .with_window_micro(self.window_micro as usize)
            .with_k(self.k)
            .with_algorithm(enums::value(self.algorithm)?))
    }
}

/// `w4ax_decision`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Decision {
    pub sensitivity: f64,
    pub target: u32,
    pub active: u32,
    pub reason: u32,
    pub held_count: u32,
    pub held_pending: u32,
    pub reserved: u32,
}

/// Returns the layout of a text, or the default one for a null pointer.
///
/// # Safety
/// As [`raw::text`], if `layout` is not null.
pub(super) unsafe fn layout(layout: *const c_char) -> Result<ActionLayout> {
    if layout.is_null() {
        return Ok(ActionLayout::default());
    }
    // SAFETY: passed on.
    Ok(unsafe { raw::text("layout", layout)? }.parse()?)
}

/// Returns the costs at a pointer to one for each width, or `None` for a null pointer.
///
/// # Safety
/// As [`raw::slice`], if `costs` is not null.
pub(super) unsafe fn costs(costs: *const f64) -> Result<Option<StepCosts>> {
    if costs.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on.
    let costs = unsafe { raw::slice("costs", costs, WIDTHS)? };
    let costs = std::array::from_fn(|width| costs[width]);
    Ok(Some(StepCosts::new(costs)?))
}

/// Creates a dispatcher of a configuration.
fn create(config: &DispatchConfig) -> Result<Dispatcher> {
    Ok(Dispatcher(Mutex::new(dispatch::Dispatcher::new(config)?)))
}

/// # Safety
/// As [`raw::handle`] and [`raw::slice`].
unsafe fn observe<T: bytemuck::Pod + Into<f64>>(
    dispatcher: *mut Dispatcher,
    actions: *const T,
    len: usize,
) -> Result<()> {
    // SAFETY: passed on.
    let (dispatcher, actions) = unsafe {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        (dispatcher, raw::slice("actions", actions, len))
    };
    let mut dispatcher = exclusive("dispatcher", &dispatcher.0)?;
    match actions {
        Ok(actions) => Ok(dispatcher.observe_chunk(actions)?),
        Err(failure) => {
            // An unreadable action is a bad action: an empty chunk switches to BF16.
            let _ = dispatcher.observe_chunk::<T>(&[]);
            Err(failure)
        }
    }
}

entry_points! {
    fn w4ax_dispatch_config_init(config: *mut Config) {
        let config = raw::output("config", config)?;
        // Only a calibration has these values. NaN is refused by `w4ax_dispatcher_create`.
        let motion = MotionScale {
            mu_max: f64::NAN,
            nu_max: f64::NAN,
        };
        let thresholds = Thresholds {
            theta_24: f64::NAN,
            theta_48: f64::NAN,
            theta_fp: DispatchConfig::THETA_FP,
        };
        config.write(DispatchConfig::new(motion, thresholds).into());
        Ok(())
    }

    fn w4ax_dispatch_config_load(path: *const c_char, task: *const c_char, config: *mut Config) {
        let (path, task) = (raw::text("path", path)?, raw::text("task", task)?);
        let config = raw::output("config", config)?;
        let loaded = Calibration::load(path)?.dispatch_config(task)?;
        if loaded.layout() != &ActionLayout::default() {
            let text = format!(
                "the calibration has layout {}, which a w4ax_dispatch_config does not hold: \
                 expected a call of w4ax_dispatcher_load",
                loaded.layout()
            );
            return Err(Failure::new(Status::BadConfig, text));
        }
        config.write(loaded.into());
        Ok(())
    }

    fn w4ax_layout_dim(text: *const c_char, dim: *mut usize) {
        let dim = raw::output("dim", dim)?;
        dim.write(layout(text)?.dims());
        Ok(())
    }

    fn w4ax_dispatcher_create(config: *const Config, dispatcher: *mut *mut Dispatcher) {
        raw::create("dispatcher", dispatcher, || {
            create(&raw::arguments("config", config)?.checked()?)
        })
    }

    fn w4ax_dispatcher_create_with_layout(
        config: *const Config,
        text: *const c_char,
        dispatcher: *mut *mut Dispatcher
    ) {
        raw::create("dispatcher", dispatcher, || {
            let config = raw::arguments("config", config)?.checked()?;
            create(&config.with_layout(layout(text)?))
        })
    }

    fn w4ax_dispatcher_load(
        path: *const c_char,
        task: *const c_char,
        dispatcher: *mut *mut Dispatcher
    ) {
        raw::create("dispatcher", dispatcher, || {
            let (path, task) = (raw::text("path", path)?, raw::text("task", task)?);
            create(&Calibration::load(path)?.dispatch_config(task)?)
        })
    }

    fn w4ax_dispatcher_action_dim(dispatcher: *const Dispatcher, dim: *mut usize) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let dim = raw::output("dim", dim)?;
        dim.write(exclusive("dispatcher", &dispatcher.0)?.config().layout().dims());
        Ok(())
    }

    fn w4ax_dispatcher_keep_scale_online(dispatcher: *mut Dispatcher) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let mut dispatcher = exclusive("dispatcher", &dispatcher.0)?;
        *dispatcher = dispatcher.clone().with_online_scale();
        Ok(())
    }

    fn w4ax_useful_widths(of: *const f64, widths: *mut u32, count: *mut usize) {
        let Some(costs) = costs(of)? else {
            return Err(Failure::new(Status::NullPointer, "costs is null"));
        };
        let count = raw::output("count", count)?;
        let widths = raw::output("widths", widths.cast::<[u32; WIDTHS]>())?;
        let mut useful = [0; WIDTHS];
        let mut found = 0;
        for (place, width) in useful.iter_mut().zip(costs.useful()) {
            *place = width.number();
            found += 1;
        }
        widths.write(useful);
        count.write(found);
        Ok(())
    }

    fn w4ax_dispatcher_set_costs(dispatcher: *mut Dispatcher, to: *const f64) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let costs = costs(to)?;
        exclusive("dispatcher", &dispatcher.0)?.set_costs(costs)?;
        Ok(())
    }

    fn w4ax_dispatcher_scale(dispatcher: *const Dispatcher, mu_max: *mut f64, nu_max: *mut f64) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let mu_max = raw::output("mu_max", mu_max)?;
        let nu_max = raw::output("nu_max", nu_max)?;
        let motion = exclusive("dispatcher", &dispatcher.0)?.motion();
        mu_max.write(motion.mu_max);
        nu_max.write(motion.nu_max);
        Ok(())
    }

    fn w4ax_dispatcher_observe(dispatcher: *mut Dispatcher, actions: *const f64, len: usize) {
        observe(dispatcher, actions, len)
    }

    fn w4ax_dispatcher_observe_f32(dispatcher: *mut Dispatcher, actions: *const f32, len: usize) {
        observe(dispatcher, actions, len)
    }

    fn w4ax_dispatcher_decide(dispatcher: *mut Dispatcher, decision: *mut Decision) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let decision = raw::output("decision", decision)?;
        let decided = exclusive("dispatcher", &dispatcher.0)?.decide();
        let (held_count, held_pending) = match decided.reason {
            Reason::Held { count, pending } => (count, pending.number()),
            _ => (0, 0),
        };
        decision.write(Decision {
            sensitivity: decided.sensitivity,
            target: decided.target.number(),
            active: decided.active.number(),
            reason: ReasonKind::from(decided.reason).number(),
            held_count,
            held_pending,
            reserved: 0,
        });
        Ok(())
    }

    fn w4ax_dispatcher_active(dispatcher: *const Dispatcher, width: *mut u32) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        let width = raw::output("width", width)?;
        width.write(exclusive("dispatcher", &dispatcher.0)?.active().number());
        Ok(())
    }

    fn w4ax_dispatcher_reset(dispatcher: *mut Dispatcher) {
        let dispatcher = raw::handle("dispatcher", dispatcher)?;
        exclusive("dispatcher", &dispatcher.0)?.reset();
        Ok(())
    }
}

free_functions! {
    w4ax_dispatcher_free(dispatcher: Dispatcher);
}

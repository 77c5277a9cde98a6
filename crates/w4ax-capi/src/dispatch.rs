//! The dispatcher.

use std::ffi::c_char;
use std::sync::Mutex;

use super::cpu::exclusive;
use super::status::{Result, Status, entry};
use super::{raw, types};
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{self, DispatchConfig, MotionScale, Reason, Thresholds};

/// `w4ax_dispatcher`. The lock finds two calls at once.
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
            // A window is at most `DispatchConfig::MAX_WINDOW`.
            window_macro: config.window_macro() as u32,
            window_micro: config.window_micro() as u32,
            k: config.k(),
            algorithm: types::algorithm_code(config.algorithm()),
        }
    }
}

impl Config {
    fn checked(&self) -> Result<DispatchConfig> {
        Ok(DispatchConfig::new(
            MotionScale {
                mu_max: self.mu_max,
                nu_max: self.nu_max,
            },
            Thresholds {
                theta_24: self.theta_24,
                theta_48: self.theta_48,
                theta_fp: self.theta_fp,
            },
        )
        .with_lambda(self.lambda)
        .with_window_macro(self.window_macro as usize)
        .with_window_micro(self.window_micro as usize)
        .with_k(self.k)
        .with_algorithm(types::algorithm(self.algorithm)?))
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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatch_config_init(config: *mut Config) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let config = unsafe { raw::output("config", config)? };
        // What only a calibration knows is left as a number that is refused.
        let unknown = f64::NAN;
        let motion = MotionScale {
            mu_max: unknown,
            nu_max: unknown,
        };
        let thresholds = Thresholds {
            theta_24: unknown,
            theta_48: unknown,
            theta_fp: DispatchConfig::THETA_FP,
        };
        config.write(DispatchConfig::new(motion, thresholds).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatch_config_load(
    path: *const c_char,
    task: *const c_char,
    config: *mut Config,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (path, task, config) = unsafe {
            (
                raw::text("path", path)?,
                raw::text("task", task)?,
                raw::output("config", config)?,
            )
        };
        config.write(Calibration::load(path)?.dispatch_config(task)?.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_create(
    config: *const Config,
    dispatcher: *mut *mut Dispatcher,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let config = unsafe { raw::arguments("config", config)? };
            let made = dispatch::Dispatcher::new(&config.checked()?)?;
            Ok(Dispatcher(Mutex::new(made)))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("dispatcher", dispatcher, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_free(dispatcher: *mut Dispatcher) {
    entry(|| {
        // SAFETY: the contract of this function.
        unsafe { raw::free(dispatcher) };
        Ok(())
    });
}

/// # Safety
/// As [`raw::handle`] and [`raw::slice`].
unsafe fn observe<T: bytemuck::Pod + Into<f64>>(
    dispatcher: *mut Dispatcher,
    actions: *const T,
    len: usize,
) -> Status {
    entry(|| {
        // SAFETY: passed on.
        let (dispatcher, actions) = unsafe {
            (
                raw::handle("dispatcher", dispatcher)?,
                raw::slice("actions", actions, len),
            )
        };
        let mut dispatcher = exclusive("dispatcher", &dispatcher.0)?;
        match actions {
            Ok(actions) => Ok(dispatcher.observe_chunk(actions)?),
            Err(failure) => {
                // Nothing can be read there: a bad action like any other, so BF16 from here on.
                let _ = dispatcher.observe_chunk::<T>(&[]);
                Err(failure)
            }
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_observe(
    dispatcher: *mut Dispatcher,
    actions: *const f64,
    len: usize,
) -> Status {
    // SAFETY: the contract of this function.
    unsafe { observe(dispatcher, actions, len) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_observe_f32(
    dispatcher: *mut Dispatcher,
    actions: *const f32,
    len: usize,
) -> Status {
    // SAFETY: the contract of this function.
    unsafe { observe(dispatcher, actions, len) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_decide(
    dispatcher: *mut Dispatcher,
    decision: *mut Decision,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (dispatcher, decision) = unsafe {
            (
                raw::handle("dispatcher", dispatcher)?,
                raw::output("decision", decision)?,
            )
        };
        let decided = exclusive("dispatcher", &dispatcher.0)?.decide();
        let (held_count, held_pending) = match decided.reason {
            Reason::Held { count, pending } => (count, pending.bits()),
            _ => (0, 0),
        };
        decision.write(Decision {
            sensitivity: decided.sensitivity,
            target: decided.target.bits(),
            active: decided.active.bits(),
            reason: types::reason_code(decided.reason),
            held_count,
            held_pending,
            reserved: 0,
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_active(
    dispatcher: *const Dispatcher,
    width: *mut u32,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (dispatcher, width) = unsafe {
            (
                raw::handle("dispatcher", dispatcher)?,
                raw::output("width", width)?,
            )
        };
        width.write(exclusive("dispatcher", &dispatcher.0)?.active().bits());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_dispatcher_reset(dispatcher: *mut Dispatcher) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let dispatcher = unsafe { raw::handle("dispatcher", dispatcher)? };
        exclusive("dispatcher", &dispatcher.0)?.reset();
        Ok(())
    })
}

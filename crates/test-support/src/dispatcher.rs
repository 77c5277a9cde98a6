//! A dispatcher for tests that need any.

use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};

/// Returns a configuration: fast, steady motion enters its low-width bands, slow or rotating
/// motion leaves them.
pub fn dispatch_config() -> DispatchConfig {
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.275,
        theta_48: 0.4,
        theta_fp: 0.5,
    };
    DispatchConfig::new(motion, thresholds)
}

/// Returns a dispatcher of [`dispatch_config`].
///
/// # Panics
/// Never: the configuration is valid.
pub fn dispatcher() -> Dispatcher {
    Dispatcher::new(&dispatch_config()).expect("the configuration is valid")
}

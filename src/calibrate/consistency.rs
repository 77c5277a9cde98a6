//! The consistency rule in a calibration file.

use serde::{Deserialize, Serialize};

use crate::dispatch::{ConsistencyConfig, DispatchConfig, Tolerance, UncertaintyQuantiles};
use crate::{Error, Result, Width};

/// The parameters of a [`ConsistencyRule`](crate::dispatch::ConsistencyRule) for all tasks of a
/// policy.
///
/// In JSON it is an object with the optional fields `low` and `high` (widths in bits), `d_acc`,
/// `eta` and `tau_max` or `tau`, `gate`, `alpha`, `refresh`, `floors` (widths in bits, `[layers]`),
/// and `uncertainty_low` and `uncertainty_high` (101 quantiles each, in action units).
///
/// The floors and the quantiles are those of profiles with the widths `low` and `high`. They have
/// no effect between other widths, see [`applies_to`](Self::applies_to).
#[derive(Clone, Debug, PartialEq)]
pub struct ConsistencyCalibration {
    /// The step width of the low profile, if it is fixed. Otherwise costs and errors choose it.
    pub low: Option<Width>,
    /// The step width of the high profile, if it is fixed.
    pub high: Option<Width>,
    /// How far a low action may be from the last one.
    pub tolerance: Tolerance,
    /// The rank of the uncertainty above which the low profile is not tried.
    pub gate: f64,
    /// How far an accepted low action is followed.
    pub alpha: f64,
    /// The number of accepted low runs in a row before a high run, 0 for no limit.
    pub refresh: u32,
    /// `[layers]`: the floors, if they were calibrated.
    pub floors: Option<Vec<Width>>,
    /// The distribution of the uncertainty, if it was recorded. Without it there is no gate.
    pub quantiles: Option<UncertaintyQuantiles>,
}

impl Default for ConsistencyCalibration {
    fn default() -> Self {
        Self {
            low: None,
            high: None,
            tolerance: Tolerance::default(),
            gate: ConsistencyConfig::GATE,
            alpha: 1.0,
            refresh: 0,
            floors: None,
            quantiles: None,
        }
    }
}

impl ConsistencyCalibration {
    /// Returns the configuration of a rule with a dispatcher's scale, windows and layout, between
    /// two step widths.
    ///
    /// # Errors
    /// As [`ConsistencyConfig::validate`].
    pub fn config(
        &self,
        kinematics: DispatchConfig,
        low: Width,
        high: Width,
    ) -> Result<ConsistencyConfig> {
        let mut config = ConsistencyConfig::with_kinematics(kinematics)
            .with_widths(low, high)
            .with_tolerance(self.tolerance)
            .with_alpha(self.alpha)
            .with_refresh(self.refresh);
        let quantiles = self.quantiles.as_ref();
        config = match quantiles.filter(|_| self.applies_to(low, high)) {
            Some(quantiles) => config.with_gate(self.gate, quantiles.clone()),
            None => config.with_online_gate(self.gate),
        };
        config.validate()?;
        Ok(config)
    }

    /// Returns whether the floors and the quantiles are those of profiles with these step widths.
    pub fn applies_to(&self, low: Width, high: Width) -> bool {
        self.low.is_none_or(|own| own == low) && self.high.is_none_or(|own| own == high)
    }

    /// Checks every field that does not depend on a task.
    pub(super) fn validate(&self, kinematics: DispatchConfig) -> Result<()> {
        let (low, high) = (
            self.low.unwrap_or(Width::A2),
            self.high.unwrap_or(Width::Bf16),
        );
        self.config(kinematics, low, high)?;
        if !(self.gate > 0.0 && self.gate <= 1.0) {
            let reason = format!("is {}: expected a value in (0, 1]", self.gate);
            return Err(Error::Config {
                field: "gate",
                reason,
            });
        }
        Ok(())
    }
}

/// The fields of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsistencyJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    low: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tau: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d_acc: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eta: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tau_max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floors: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncertainty_low: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncertainty_high: Option<Vec<f64>>,
}

impl From<&ConsistencyCalibration> for ConsistencyJson {
    fn from(rule: &ConsistencyCalibration) -> Self {
        let (tau, d_acc, eta, tau_max) = match rule.tolerance {
            Tolerance::Constant(tau) => (Some(tau), None, None, None),
            Tolerance::Motion {
                d_acc,
                eta,
                tau_max,
            } => (None, Some(d_acc), Some(eta), Some(tau_max)),
        };
        let bits = |widths: &Vec<Width>| widths.iter().map(|width| width.bits()).collect();
        let quantiles = rule.quantiles.as_ref();
        Self {
            low: rule.low.map(Width::bits),
            high: rule.high.map(Width::bits),
            tau,
            d_acc,
            eta,
            tau_max,
            gate: Some(rule.gate),
            alpha: Some(rule.alpha),
            refresh: Some(rule.refresh),
            floors: rule.floors.as_ref().map(bits),
            uncertainty_low: quantiles.map(|q| q.low().to_vec()),
            uncertainty_high: quantiles.map(|q| q.high().to_vec()),
        }
    }
}

impl TryFrom<ConsistencyJson> for ConsistencyCalibration {
    type Error = Error;

    fn try_from(json: ConsistencyJson) -> Result<Self> {
        let default = Self::default();
        let width = |field: &'static str, bits: u32| {
            Width::try_from(bits).map_err(|error| Error::Config {
                field,
                reason: format!("has {error}"),
            })
        };
        let of_motion = [json.d_acc, json.eta, json.tau_max];
        let tolerance = match (json.tau, default.tolerance) {
            (Some(_), _) if of_motion.iter().any(Option::is_some) => {
                return Err(Error::Config {
                    field: "tau",
                    reason: "is set together with d_acc, eta or tau_max: expected one form".into(),
                });
            }
            (Some(tau), _) | (None, Tolerance::Constant(tau)) => Tolerance::Constant(tau),
            (
                None,
                Tolerance::Motion {
                    d_acc,
                    eta,
                    tau_max,
                },
            ) => Tolerance::Motion {
                d_acc: json.d_acc.unwrap_or(d_acc),
                eta: json.eta.unwrap_or(eta),
                tau_max: json.tau_max.unwrap_or(tau_max),
            },
        };
        let quantiles = match (&json.uncertainty_low, &json.uncertainty_high) {
            (Some(low), Some(high)) => Some(UncertaintyQuantiles::new(low, high)?),
            (None, None) => None,
            (low, _) => {
                return Err(Error::Config {
                    field: match low {
                        Some(_) => "uncertainty_high",
                        None => "uncertainty_low",
                    },
                    reason: "is missing: expected the quantiles of both profiles".into(),
                });
            }
        };
        let floors = json.floors.map(|floors| {
            let floors = floors.into_iter().map(|floor| width("floors", floor));
            floors.collect::<Result<Vec<_>>>()
        });
        Ok(Self {
            low: json.low.map(|low| width("low", low)).transpose()?,
            high: json.high.map(|high| width("high", high)).transpose()?,
            tolerance,
            gate: json.gate.unwrap_or(default.gate),
            alpha: json.alpha.unwrap_or(default.alpha),
            refresh: json.refresh.unwrap_or(default.refresh),
            floors: floors.transpose()?,
            quantiles,
        })
    }
}

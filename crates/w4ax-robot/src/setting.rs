//! Settings of the guide and the controllers on a command line.

use std::fmt;
use std::str::FromStr;

use w4ax::skip::{SkipConfig, Verify};
use w4ax::{Error, Result};

/// Three comma-separated numbers: `ETA,ETA2,P`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// eta1, and the eta of verification.
    pub eta: f64,
    /// eta2.
    pub eta2: f64,
    /// A controller skips if its probability is above this.
    pub threshold: f32,
}

/// The setting for half of the layers, chosen on the validation episodes of the training data.
pub const HALF: Setting = Setting {
    eta: 0.2,
    eta2: 0.02,
    threshold: 0.5,
};

/// The setting for 30 % of the layers, chosen on the same episodes.
pub const FEW: Setting = Setting {
    eta: 0.2,
    eta2: 0.02,
    threshold: 0.28,
};

/// The rule of verification: when a step runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verification {
    /// Never
    Off,
    /// After a rise and then a drop
    Paper,
    /// After a drop that follows no drop
    FirstDrop,
}

impl From<Verification> for Verify {
    fn from(verification: Verification) -> Self {
        match verification {
            Verification::Off => Self::Off,
            Verification::Paper => Self::RiseThenDrop,
            Verification::FirstDrop => Self::FirstDrop,
        }
    }
}

impl Setting {
    /// Returns the configuration of the guide.
    pub fn config(self, verification: Verification) -> SkipConfig {
        SkipConfig::default()
            .with_eta1(self.eta)
            .with_eta(self.eta)
            .with_eta2(self.eta2)
            .with_threshold(self.threshold)
            .with_verify(verification.into())
    }
}

impl FromStr for Setting {
    type Err = Error;

    /// # Errors
    /// [`Error::Range`] for a text that does not have three parts, [`Error::Config`] for a part
    /// that is not a number. As [`SkipConfig::validate`].
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let &[eta, eta2, threshold] = parts.as_slice() else {
            return Err(Error::Range {
                what: "ETA,ETA2,P",
                value: format!("`{text}`"),
                range: "three comma-separated numbers",
            });
        };
        let number = |field, part: &str| {
            part.parse::<f64>().map_err(|_| Error::Config {
                field,
                reason: format!("is `{part}`: expected a number"),
            })
        };
        let (eta, eta2) = (number("eta", eta)?, number("eta2", eta2)?);
        let threshold = number("threshold", threshold)?;
        let setting = Self {
            eta,
            eta2,
            threshold: threshold as f32,
        };
        setting.config(Verification::FirstDrop).validate()?;
        Ok(setting)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.eta, self.eta2, self.threshold)
    }
}

//! The cost of a step at each width, and the widths that are worth choosing.

use serde::{Deserialize, Serialize};

use super::config::invalid;
use super::floors::LayerFloors;
use crate::{Result, Width};

/// The cost of a step at each width of one device, model and shape: a time, or any other measure
/// that is finite and above 0. Only ratios count.
///
/// # Dominated widths
/// A width is dominated if it is not at least [`MIN_GAIN`](Self::MIN_GAIN) cheaper than a more
/// precise width that is not dominated itself. A dominated width costs accuracy and saves nothing,
/// so a dispatcher with costs never chooses it. BF16 is never dominated.
///
/// ```
/// use w4ax::Width;
/// use w4ax::dispatch::StepCosts;
/// # fn main() -> w4ax::Result<()> {
/// // Predicted prefill of OpenVLA-OFT on an A100: A2 runs on the kernels of A4.
/// let costs = StepCosts::new([7.2, 7.2, 8.5, 12.1])?;
/// assert_eq!(costs.dominated_by(Width::A2), Some(Width::A4));
/// assert!(costs.useful().eq([Width::A4, Width::A8, Width::Bf16]));
/// assert_eq!(costs.at_least(Width::A2), Width::A4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepCosts {
    a2: f64,
    a4: f64,
    a8: f64,
    bf16: f64,
}

impl StepCosts {
    /// The smallest relative saving that makes a width useful.
    pub const MIN_GAIN: f64 = 0.03;

    /// Costs in proportion to the bits of an activation. They belong to no device.
    pub const BITS: Self = Self {
        a2: 2.0,
        a4: 4.0,
        a8: 8.0,
        bf16: 16.0,
    };

    /// Creates costs by [`Width::index`].
    ///
    /// # Errors
    /// As [`StepCosts::validate`].
    pub fn new([a2, a4, a8, bf16]: [f64; 4]) -> Result<Self> {
        let costs = Self { a2, a4, a8, bf16 };
        costs.validate()?;
        Ok(costs)
    }

    /// Parses `{"a2": x, "a4": y, "a8": z, "bf16": w}`. `file` is the name in errors.
    ///
    /// # Errors
    /// [`Error::Format`] for JSON without these four fields, or a cost that is out of range.
    ///
    /// [`Error::Format`]: crate::Error::Format
    pub fn from_json(json: &[u8], file: &str) -> Result<Self> {
        let failed = |reason: String| crate::Error::format(file, reason);
        let costs: Self =
            serde_json::from_slice(json).map_err(|error| failed(error.to_string()))?;
        costs
            .validate()
            .map_err(|error| failed(error.to_string()))?;
        Ok(costs)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), and as [`from_json`](Self::from_json).
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = std::fs::read(path).map_err(|error| crate::Error::io(path, error))?;
        Self::from_json(&json, &path.display().to_string())
    }

    /// Checks that each cost is finite and above 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the first field that is not.
    pub fn validate(&self) -> Result<()> {
        for (field, width) in ["a2", "a4", "a8", "bf16"].into_iter().zip(Width::ALL) {
            let cost = self.of(width);
            if !(cost.is_finite() && cost > 0.0) {
                let reason = format!("costs {cost}: expected a finite cost above 0");
                return invalid(field, reason);
            }
        }
        Ok(())
    }

    /// Returns the cost of a step at a width.
    pub const fn of(&self, width: Width) -> f64 {
        match width {
            Width::A2 => self.a2,
            Width::A4 => self.a4,
            Width::A8 => self.a8,
            Width::Bf16 => self.bf16,
        }
    }

    /// Returns the cost of a step whose layers run at `width` or at their floors, whichever is
    /// wider. `shares` holds the share of each layer in the step, `[layers]` with sum 1, such as
    /// its share of the products.
    ///
    /// # Panics
    /// If `shares` has another length than `floors`.
    pub fn with_floors(&self, width: Width, floors: &LayerFloors, shares: &[f64]) -> f64 {
        assert_eq!(floors.len(), shares.len(), "one share for each layer");
        let layers = shares.iter().enumerate();
        layers
            .map(|(layer, share)| share * self.of(floors.width(layer, width)))
            .sum()
    }

    /// Returns the more precise width that dominates a width, if any: the narrowest of those.
    pub fn dominated_by(&self, width: Width) -> Option<Width> {
        let wider = Width::ALL.into_iter().filter(|&wider| wider > width);
        let mut useful = wider.filter(|&wider| self.dominated_by(wider).is_none());
        useful.find(|&wider| self.of(width) > (1.0 - Self::MIN_GAIN) * self.of(wider))
    }

    /// Returns the widths that are not dominated, narrowest first. BF16 is the last one.
    pub fn useful(&self) -> impl Iterator<Item = Width> {
        let costs = *self;
        (Width::ALL.into_iter()).filter(move |&width| costs.dominated_by(width).is_none())
    }

    /// Returns the narrowest useful width that is at least as wide as `width`.
    pub fn at_least(&self, width: Width) -> Width {
        let mut wider = self.useful().filter(|&useful| useful >= width);
        wider.next().unwrap_or(Width::Bf16)
    }

    /// Returns the widths that a dispatcher can trade: the useful ones of which each is more
    /// accurate than all cheaper ones. `errors` holds the mean error of each width, by
    /// [`Width::index`].
    ///
    /// A width whose error is not at least [`MIN_GAIN`](Self::MIN_GAIN) below that of a cheaper
    /// width costs time and gains nothing. With one width the choice is static.
    pub fn choice(&self, errors: &[f64; 4]) -> WidthChoice {
        let mut widths: [Option<Width>; 2] = [None; 2];
        let mut best = f64::INFINITY;
        for width in self.useful() {
            let error = errors[width.index()];
            if error >= (1.0 - Self::MIN_GAIN) * best {
                continue;
            }
            best = error;
            match &mut widths {
                [low @ None, _] => *low = Some(width),
                [_, high @ None] => *high = Some(width),
                _ => break,
            }
        }
        match widths {
            [Some(low), Some(high)] => WidthChoice::Dynamic { low, high },
            [only, _] => WidthChoice::Static(only.unwrap_or(Width::Bf16)),
        }
    }
}

/// The widths that a rule with two widths trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WidthChoice {
    /// One width is at least as good as all others: nothing is left to choose.
    Static(Width),
    /// The two narrowest widths of which the wider one costs more and is more accurate.
    Dynamic {
        /// The cheap width.
        low: Width,
        /// The accurate width.
        high: Width,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn useful(costs: [f64; 4]) -> Vec<Width> {
        StepCosts::new(costs).unwrap().useful().collect()
    }

    #[test]
    fn width_that_saves_less_than_three_percent_is_dominated() {
        let all = Width::ALL.to_vec();
        assert_eq!(useful([1.0, 2.0, 3.0, 4.0]), all);
        // The smallest gain is inclusive.
        assert_eq!(useful([0.5, 0.75, 0.97, 1.0]), all);
        assert_eq!(
            useful([0.5, 0.75, 0.9701, 1.0]),
            [Width::A2, Width::A4, Width::Bf16]
        );
        // CPUs: A8 costs what A4 and A2 cost.
        assert_eq!(useful([1.0, 1.0, 1.0, 2.0]), [Width::A8, Width::Bf16]);
        assert_eq!(useful([1.0; 4]), [Width::Bf16]);
        assert_eq!(useful([4.0, 3.0, 2.0, 1.0]), [Width::Bf16]);
    }

    #[test]
    fn dominated_width_dominates_no_other() {
        // A8 saves 2 % and is dominated. A4 saves 4.5 % of BF16's cost, but only 2.6 % of A8's.
        let costs = StepCosts::new([0.5, 0.955, 0.98, 1.0]).unwrap();
        assert_eq!(costs.dominated_by(Width::A8), Some(Width::Bf16));
        assert_eq!(costs.dominated_by(Width::A4), None);
        assert_eq!(costs.at_least(Width::A8), Width::Bf16);
        assert_eq!(costs.at_least(Width::A4), Width::A4);
    }

    #[test]
    fn choice_needs_a_wider_width_that_is_more_accurate() {
        let errors = [0.293, 0.048, 0.0392, 0.0392];
        let choice = |costs| StepCosts::new(costs).unwrap().choice(&errors);
        let dynamic = |low, high| WidthChoice::Dynamic { low, high };
        assert_eq!(choice([2.0, 4.0, 8.0, 16.0]), dynamic(Width::A2, Width::A4));
        assert_eq!(choice([7.2, 7.2, 8.5, 12.1]), dynamic(Width::A4, Width::A8));
        // BF16 is not more accurate than A8.
        assert_eq!(choice([1.0, 1.0, 1.0, 2.0]), WidthChoice::Static(Width::A8));
        assert_eq!(choice([1.0; 4]), WidthChoice::Static(Width::Bf16));
    }

    #[test]
    fn cost_with_floors_weighs_each_layer_by_its_share() {
        let costs = StepCosts::new([2.0, 4.0, 8.0, 16.0]).unwrap();
        let floors = LayerFloors::new(vec![Width::A4, Width::A2]);
        assert_eq!(costs.with_floors(Width::A2, &floors, &[0.25, 0.75]), 2.5);
        assert_eq!(costs.with_floors(Width::A8, &floors, &[0.25, 0.75]), 8.0);
    }

    #[test]
    fn rejects_costs_that_are_not_positive() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = StepCosts::new([1.0, bad, 1.0, 1.0]).unwrap_err();
            assert!(error.to_string().contains("a4"), "{error}");
        }
        for json in [
            r#"{"a2":1,"a4":1,"a8":1}"#,
            r#"{"a2":1,"a4":0,"a8":1,"bf16":1}"#,
            "[1,2]",
        ] {
            assert!(
                StepCosts::from_json(json.as_bytes(), "c").is_err(),
                "{json}"
            );
        }
    }
}

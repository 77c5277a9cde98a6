//! Greedy calibration of floors: which layers are worth more than the width of the step.

use crate::dispatch::LayerFloors;
use crate::{Error, Width};

type Result<T, E = Error> = std::result::Result<T, E>;

/// One lowering of the greedy search: from here on the layer runs at the low width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lowering {
    /// The layer.
    pub layer: usize,
    /// The error after the lowering, as `measure` returns it.
    pub error: f64,
    /// The cost that the lowering saves, in the unit of `savings`.
    pub saved: f64,
}

/// The order in which layers lose the high width, and the error after each.
#[derive(Clone, Debug, PartialEq)]
pub struct FloorPath {
    layers: usize,
    high: Width,
    /// The error with every layer at the high width.
    pub error_high: f64,
    /// `[layers]`: the lowerings, cheapest first. After the last one, all layers run low.
    pub lowerings: Vec<Lowering>,
}

impl FloorPath {
    /// Finds the order: in each round the layer is lowered that adds the least error per cost
    /// saved.
    ///
    /// A step runs at the low width. `savings` holds what a step saves if a layer runs at the low
    /// width instead of `high`, `[layers]`, each finite and above 0, such as microseconds.
    /// `measure` returns the error of a step with these floors. It is called `layers + 1` times in
    /// the first round, and less often in each further one.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no layers or a saving is out of range. The errors of
    /// `measure`, and [`Error::Range`] if it returns NaN or infinity.
    pub fn search<E: From<Error>>(
        high: Width,
        savings: &[f64],
        mut measure: impl FnMut(&LayerFloors) -> Result<f64, E>,
    ) -> Result<Self, E> {
        check(savings)?;
        let mut floors = LayerFloors::new(vec![high; savings.len()]);
        let mut error = finite(measure(&floors)?)?;
        let mut path = Self {
            layers: savings.len(),
            high,
            error_high: error,
            lowerings: Vec::with_capacity(savings.len()),
        };
        for _ in 0..savings.len() {
            let mut best: Option<(f64, Lowering)> = None;
            for (layer, &saved) in savings.iter().enumerate() {
                if lowered(&path, layer) {
                    continue;
                }
                floors.set(layer, Width::A2);
                let after = finite(measure(&floors)?)?;
                floors.set(layer, high);
                let rate = (after - error) / saved;
                if best.is_none_or(|(least, _)| rate < least) {
                    let error = after;
                    best = Some((
                        rate,
                        Lowering {
                            layer,
                            error,
                            saved,
                        },
                    ));
                }
            }
            let (_, lowering) = best.expect("a layer is left in each round");
            floors.set(lowering.layer, Width::A2);
            error = lowering.error;
            path.lowerings.push(lowering);
        }
        Ok(path)
    }

    /// Returns the floors after the first `count` lowerings: the high width for all other layers.
    ///
    /// # Panics
    /// If `count` is above the number of layers.
    pub fn floors(&self, count: usize) -> LayerFloors {
        let mut floors = LayerFloors::new(vec![self.high; self.layers]);
        for lowering in &self.lowerings[..count] {
            floors.set(lowering.layer, Width::A2);
        }
        floors
    }

    /// Returns the largest number of lowerings whose error is at most `error`, all before it
    /// included. It is 0 if already the first exceeds it.
    pub fn within(&self, error: f64) -> usize {
        let within = self.lowerings.iter().take_while(|l| l.error <= error);
        within.count()
    }
}

fn lowered(path: &FloorPath, layer: usize) -> bool {
    path.lowerings
        .iter()
        .any(|lowering| lowering.layer == layer)
}

fn check(savings: &[f64]) -> Result<()> {
    if savings.is_empty() {
        return Err(Error::Config {
            field: "savings",
            reason: "is empty: expected one for each layer".into(),
        });
    }
    match savings
        .iter()
        .find(|saved| !(saved.is_finite() && **saved > 0.0))
    {
        None => Ok(()),
        Some(saved) => Err(Error::Config {
            field: "savings",
            reason: format!("has {saved}: expected finite values above 0"),
        }),
    }
}

fn finite(error: f64) -> Result<f64> {
    match error.is_finite() {
        true => Ok(error),
        false => Err(Error::Range {
            what: "error of a step with floors",
            value: error.to_string(),
            range: "finite numbers",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors add up over the layers that run low.
    fn additive(errors: &[f64]) -> impl FnMut(&LayerFloors) -> Result<f64> {
        move |floors| {
            let low = floors.as_slice().iter().zip(errors);
            Ok(low
                .filter(|(floor, _)| **floor == Width::A2)
                .map(|(_, e)| e)
                .sum())
        }
    }

    #[test]
    fn layer_with_least_error_per_saving_is_lowered_first() {
        // Rates: 3, 1 and .5.
        let path = FloorPath::search(Width::A4, &[1.0, 1.0, 4.0], additive(&[3.0, 1.0, 2.0]));
        let path = path.unwrap();
        let order: Vec<_> = path.lowerings.iter().map(|l| (l.layer, l.error)).collect();
        assert_eq!(order, [(2, 2.0), (1, 3.0), (0, 6.0)]);
        assert_eq!(path.error_high, 0.0);
        assert_eq!(
            (path.within(1.9), path.within(3.0), path.within(9.0)),
            (0, 2, 3)
        );
        let floors = path.floors(path.within(3.0));
        assert_eq!(floors.as_slice(), [Width::A4, Width::A2, Width::A2]);
        assert_eq!(path.floors(0).as_slice(), [Width::A4; 3]);
    }

    #[test]
    fn rejects_savings_and_errors_that_are_not_finite() {
        let search = |savings: &[f64]| FloorPath::search(Width::A4, savings, additive(&[0.0; 3]));
        for savings in [&[][..], &[1.0, 0.0, 1.0], &[1.0, f64::NAN, 1.0]] {
            let error = search(savings).unwrap_err().to_string();
            assert!(error.contains("savings"), "{error}");
        }
        let error = FloorPath::search(Width::A4, &[1.0], |_| Ok::<_, Error>(f64::NAN));
        assert!(error.is_err());
    }
}

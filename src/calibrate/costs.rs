//! Measures the cost of a step at each width on this device.

use std::time::{Duration, Instant};

use crate::Width;
use crate::dispatch::StepCosts;

type Result<T, E = crate::Error> = std::result::Result<T, E>;

/// The fewest runs of each width.
const MIN_ROUNDS: usize = 5;

/// Measures the cost of a step at each width in microseconds. `run` executes a step at a width and
/// waits for its end.
///
/// The widths take turns until `budget` is spent, so that a slow phase of the machine meets all of
/// them, after one run of each that is not counted. A cost is the median of a width's runs. There
/// are at least five runs of each, even if they exceed the budget.
///
/// # Errors
/// Those of `run`. [`Error::Config`](crate::Error::Config) if a clock that is too coarse measures
/// 0.
pub fn measure_costs<E: From<crate::Error>>(
    budget: Duration,
    mut run: impl FnMut(Width) -> Result<(), E>,
) -> Result<StepCosts, E> {
    for width in Width::ALL {
        run(width)?;
    }
    let begin = Instant::now();
    let mut micros = Width::ALL.map(|_| Vec::new());
    while micros[0].len() < MIN_ROUNDS || begin.elapsed() < budget {
        for (width, micros) in Width::ALL.into_iter().zip(&mut micros) {
            let start = Instant::now();
            run(width)?;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let median = |micros: &mut Vec<f64>| {
        micros.sort_by(f64::total_cmp);
        micros[micros.len() / 2]
    };
    let [a2, a4, a8, bf16] = &mut micros;
    let costs = StepCosts::new([median(a2), median(a4), median(a8), median(bf16)])?;
    Ok(costs)
}

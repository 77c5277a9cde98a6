//! Success and terminal deviation over the action error of one step.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use w4ax::Result;

use super::effects::{EffectBin, EffectSeries, name};
use crate::draw::{
    self, Area, BLUE, Chart, Drawn, GREEN, GREY, ORANGE, axes, legend, panel, titled,
};

const SIZE: (u32, u32) = (1200, 1000);
const COLORS: [RGBColor; 4] = [BLUE, ORANGE, GREEN, GREY];
/// The right margin of a panel.
const RIGHT: u32 = 30;
/// The smallest deviation of the picture, in millimeters.
const LEAST: f64 = 0.01;

/// The series of the picture.
pub struct Picture<'a>(pub &'a [EffectSeries]);

impl Picture<'_> {
    /// Draws to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`draw::write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        draw::write(path, |svg| self.draw(svg))
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let title = "One perturbed step: success and deviation at the end of the episode";
        let root = titled(svg, SIZE, title)?;
        let names = self.0.iter().map(|series| match series.mode.name() {
            "bc" => format!("{}: the policy goes on", name(series, self.0)),
            "ol" => format!("{}: recorded actions go on", name(series, self.0)),
            _ => format!("{}: a feedback expert goes on", name(series, self.0)),
        });
        let names: Vec<String> = names.collect();
        let colors = COLORS.into_iter().cycle();
        let entries: Vec<_> = colors.zip(names.iter().map(String::as_str)).collect();
        let rest = legend(&root, &entries)?;
        let (success, deviation) = rest.split_vertically(450);
        self.success(&success)?;
        self.deviation(&deviation)?;
        root.present()?;
        Ok(())
    }

    /// Returns the range of the axis of e_t.
    fn errors(&self) -> Range<f64> {
        let means = self.0.iter().flat_map(|series| &series.bins);
        let means = means.map(|bin| bin.mean_error.max(1e-3));
        let low = means.clone().fold(0.1, f64::min);
        low / 1.3..means.fold(0.1, f64::max) * 1.3
    }

    fn success(&self, area: &Area<'_>) -> Drawn {
        let bins = self.0.iter().flat_map(|series| &series.bins);
        let low = bins.map(|bin| bin.interval[0]).fold(1.0, f64::min);
        let low = (10.0 * low).floor() / 10.0;
        let range = low..1.0 + 0.02 * (1.0 - low);
        let mut chart = panel(area, RIGHT).build_cartesian_2d(self.errors().log_scale(), range)?;
        axes(
            &mut chart,
            ("", &short),
            ("success, 95 % (Wilson)", &|share| format!("{share:.1}")),
        )?;
        self.series(&mut chart, |bin| (bin.interval, bin.success))
    }

    fn deviation(&self, area: &Area<'_>) -> Drawn {
        let millimeters = |meters: f64| (1e3 * meters).max(LEAST);
        let bins = self.0.iter().flat_map(|series| &series.bins);
        let low = bins.clone().map(|bin| millimeters(bin.deviation.low));
        let high = bins.map(|bin| millimeters(bin.deviation.high));
        let range = low.fold(1.0, f64::min) / 1.5..high.fold(1.0, f64::max) * 1.5;
        let mut chart =
            panel(area, RIGHT).build_cartesian_2d(self.errors().log_scale(), range.log_scale())?;
        axes(
            &mut chart,
            (
                "action error e_t of the perturbed step (L2, action units)",
                &short,
            ),
            ("D_eef: median, quartiles (mm)", &short),
        )?;
        self.series(&mut chart, |bin| {
            let spread = bin.deviation;
            (
                [spread.low, spread.high].map(millimeters),
                millimeters(spread.median),
            )
        })
    }

    /// Draws a line through the values of each series, and their intervals.
    fn series<X, Y>(
        &self,
        chart: &mut Chart<'_, '_, X, Y>,
        figures: impl Fn(&EffectBin) -> ([f64; 2], f64),
    ) -> Drawn
    where
        X: Ranged<ValueType = f64>,
        Y: Ranged<ValueType = f64>,
    {
        for (at, (series, color)) in self.0.iter().zip(COLORS.into_iter().cycle()).enumerate() {
            // Series with the same e_t do not hide each other.
            let x = |bin: &EffectBin| bin.mean_error.max(1e-3) * 1.015_f64.powi(at as i32);
            let points: Vec<_> = (series.bins.iter())
                .map(|bin| (x(bin), figures(bin)))
                .collect();
            let bars = points.iter().map(|&(x, ([low, high], _))| {
                PathElement::new([(x, low), (x, high)], color.stroke_width(2))
            });
            chart.draw_series(bars)?;
            let line = points.iter().map(|&(x, (_, value))| (x, value));
            chart.draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?;
            chart.draw_series(line.map(|at| Circle::new(at, 5, color.filled())))?;
        }
        Ok(())
    }
}

/// Formats a number on a logarithmic axis.
fn short(value: &f64) -> String {
    // Rounds away the error of a power of ten.
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(*value);
    rounded.to_string()
}

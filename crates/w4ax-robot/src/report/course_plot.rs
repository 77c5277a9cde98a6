//! s_t, M and J over normalized time: a panel each, a line for each mode.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use w4ax::Result;

use super::course::{BINS, Course};
use super::interval::Spread;
use crate::draw::{self, BLUE, Chart, Drawn, GREEN, ORANGE, axes, legend, panel, titled};

const SIZE: (u32, u32) = (1200, 1180);
const COLORS: [RGBColor; 3] = [BLUE, ORANGE, GREEN];
/// The right margin of a panel.
const RIGHT: u32 = 30;

/// The courses of the picture.
pub struct Picture<'a>(pub &'a [Course]);

/// The spreads of a course in one panel.
type Bins = fn(&Course) -> &[Option<Spread>];

impl Picture<'_> {
    /// Draws to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`draw::write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        draw::write(path, |svg| self.draw(svg))
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let title = "Sensitivity and motion over normalized time: means and quartiles";
        let root = titled(svg, SIZE, title)?;
        let names: Vec<String> = (self.0.iter())
            .map(|course| {
                let (mode, episodes) = (course.mode.name(), course.episodes);
                let mut before = self.0.iter().take_while(|other| other.mode != course.mode);
                let same = |other: &&Course| alike(&other.macro_motion, &course.macro_motion);
                match before.find(same) {
                    Some(other) => format!("{mode}, M and J as {}", other.mode.name()),
                    None => format!("{mode}, {episodes} episodes"),
                }
            })
            .collect();
        let entries: Vec<_> = (COLORS.into_iter().cycle())
            .zip(names.iter().map(String::as_str))
            .collect();
        let rest = legend(&root, &entries)?;
        let (first, rest) = rest.split_vertically(360);
        let (second, third) = rest.split_vertically(350);
        self.sensitivity(&first)?;
        self.motion(&second, ("", "M, mean of the macro window"), |course| {
            &course.macro_motion
        })?;
        let time = "normalized time: step / steps of the undisturbed episode";
        self.motion(&third, (time, "J, mean of the micro window"), |course| {
            &course.micro_motion
        })?;
        root.present()?;
        Ok(())
    }

    fn sensitivity(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let spreads = self
            .0
            .iter()
            .flat_map(|course| course.sensitivity.iter().flatten());
        // `s = 0` has no logarithm.
        let low = spreads
            .clone()
            .map(|spread| spread.low)
            .filter(|s| *s > 0.0);
        let high = spreads.map(|spread| spread.high.max(spread.mean));
        let range = low.fold(0.1, f64::min) / 1.5..high.fold(0.1, f64::max) * 1.5;
        let floor = range.start;
        let mut chart = panel(area, RIGHT).build_cartesian_2d(0.0..1.0, range.log_scale())?;
        axes(
            &mut chart,
            ("", &|time| format!("{time:.1}")),
            ("s (m an action unit)", &|s| format!("{s:.0e}")),
        )?;
        self.lines(&mut chart, |course| &course.sensitivity, floor)
    }

    fn motion(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        (x, y): (&str, &str),
        bins: Bins,
    ) -> Drawn {
        let spreads = self
            .0
            .iter()
            .flat_map(|course| bins(course).iter().flatten());
        let low = spreads.clone().map(|spread| spread.low.min(spread.mean));
        let high = spreads.map(|spread| spread.high.max(spread.mean));
        let (low, high) = (low.fold(0.0, f64::min), high.fold(0.1, f64::max));
        let mut chart = panel(area, RIGHT).build_cartesian_2d(0.0..1.0, low..high * 1.05)?;
        axes(
            &mut chart,
            (x, &|time| format!("{time:.1}")),
            (y, &|value| format!("{value:.2}")),
        )?;
        self.lines(&mut chart, bins, low)
    }

    /// Draws the means of each course as a line and the quartiles as a band. Values below `floor`
    /// are drawn there.
    fn lines<Y>(
        &self,
        chart: &mut Chart<'_, '_, plotters::coord::types::RangedCoordf64, Y>,
        bins: Bins,
        floor: f64,
    ) -> Drawn
    where
        Y: Ranged<ValueType = f64>,
    {
        for (course, color) in self.0.iter().zip(COLORS.into_iter().cycle()) {
            let filled: Vec<(f64, Spread)> = (bins(course).iter().enumerate())
                .filter_map(|(at, spread)| Some(((at as f64 + 0.5) / BINS as f64, (*spread)?)))
                .collect();
            let above = filled
                .iter()
                .map(|(x, spread)| (*x, spread.high.max(floor)));
            let below = filled
                .iter()
                .rev()
                .map(|(x, spread)| (*x, spread.low.max(floor)));
            let band: Vec<_> = above.chain(below).collect();
            chart.draw_series([Polygon::new(band, color.mix(0.15).filled())])?;
            let means = filled
                .iter()
                .map(|(x, spread)| (*x, spread.mean.max(floor)));
            chart.draw_series(LineSeries::new(means.clone(), color.stroke_width(2)))?;
            chart.draw_series(means.map(|at| Circle::new(at, 3, color.filled())))?;
        }
        Ok(())
    }
}

/// Returns whether the means of all parts differ by less than a line's width.
fn alike(a: &[Option<Spread>], b: &[Option<Spread>]) -> bool {
    a.iter().zip(b).all(|pair| match pair {
        (Some(a), Some(b)) => (a.mean - b.mean).abs() < 1e-3,
        (a, b) => a.is_none() && b.is_none(),
    })
}

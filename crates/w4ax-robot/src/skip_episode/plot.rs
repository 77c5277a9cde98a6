//! A picture of one episode: continuity, the layers that ran and why, and widths over time.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use w4ax::skip::{Fate, Layers, SkipReport, Verdict};
use w4ax::{Result, Width};

use crate::draw::{
    self, Area, BLUE, Drawn, GREY, ORANGE, STEPS_A_SECOND, axes, legend, panel, seconds, titled,
    width_name,
};

const SIZE: (u32, u32) = (1200, 1000);
/// The right margin of a panel.
const RIGHT: u32 = 30;
const LIGHT_BLUE: RGBColor = RGBColor(152, 190, 228);
const SKIPPED: RGBColor = RGBColor(238, 238, 238);
const RED: RGBColor = RGBColor(190, 30, 45);

/// A control step.
pub struct Seen {
    /// The fates of the layers.
    pub report: SkipReport,
    /// The width of the layers that ran.
    pub width: Width,
}

/// An episode.
pub struct Picture {
    /// The title.
    pub title: String,
    /// Static layers and gaps.
    pub layers: Layers,
    /// `[steps]`.
    pub seen: Vec<Seen>,
}

impl Picture {
    /// Draws to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`draw::write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        draw::write(path, |svg| self.draw(svg))
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let root = titled(svg, SIZE, &self.title)?;
        let (continuity, rest) = root.split_vertically(260);
        let (layers, widths) = rest.split_vertically(450);
        self.continuity(&continuity)?;
        self.layers(&layers)?;
        self.widths(&widths)?;
        root.present()?;
        Ok(())
    }

    /// Returns the range of the time axis.
    fn time(&self) -> Range<f64> {
        0.0..seconds(self.seen.len())
    }

    fn again(&self) -> impl Iterator<Item = usize> + '_ {
        let steps = self.seen.iter().enumerate();
        steps.filter_map(|(t, s)| (s.report.verdict == Verdict::RanAgain).then_some(t))
    }

    fn continuity(&self, area: &Area<'_>) -> Drawn {
        let entries = [
            (BLUE, "C of the actions up to each step's"),
            (RED, "the step ran again"),
        ];
        let area = legend(area, &entries)?;
        let values: Vec<f64> = (self.seen.iter())
            .map(|seen| seen.report.judgment.continuity)
            .collect();
        let low = values.iter().fold(-0.1, |low: f64, &c| low.min(c)) * 1.08;
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), low..0.0)?;
        let label = |c: &f64| format!("{c:.2}");
        axes(&mut chart, ("", &f64::to_string), ("continuity C", &label))?;
        let points = values.iter().enumerate().map(|(t, &c)| (seconds(t), c));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        let again = self
            .again()
            .map(|t| Circle::new((seconds(t), values[t]), 4, RED.filled()));
        chart.draw_series(again)?;
        Ok(())
    }

    fn layers(&self, area: &Area<'_>) -> Drawn {
        let entries = [
            (BLUE, "static"),
            (LIGHT_BLUE, "ran: its controller said so"),
            (ORANGE, "ran: before the allow-point"),
            (GREY, "allow-points"),
            (RED, "whole stack, again"),
        ];
        let area = legend(area, &entries)?;
        let n = self.layers.len();
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), 0.0..n as f64)?;
        let label = |layer: &f64| format!("{layer:.0}");
        let layer = (
            "layer, from the input on",
            &label as &dyn Fn(&f64) -> String,
        );
        axes(&mut chart, ("", &f64::to_string), layer)?;
        let cells = self.seen.iter().enumerate().flat_map(|(t, seen)| {
            let fates = seen.report.fates.iter().enumerate();
            fates.map(move |(layer, fate)| {
                let color = match fate {
                    Fate::Static => BLUE,
                    Fate::Forced => ORANGE,
                    Fate::Declined(_) => LIGHT_BLUE,
                    _ => SKIPPED,
                };
                let corners = [
                    (seconds(t), layer as f64 + 0.08),
                    (seconds(t + 1), layer as f64 + 0.92),
                ];
                Rectangle::new(corners, color.filled())
            })
        });
        chart.draw_series(cells)?;
        for gap in 0..self.layers.gaps().len() {
            let corners = self.seen.iter().enumerate().flat_map(|(t, seen)| {
                let point = seen.report.allow_points[gap] as f64;
                [t, t + 1].map(|t| (seconds(t), point))
            });
            chart.draw_series(LineSeries::new(corners, GREY.stroke_width(2)))?;
        }
        let again = self.again().map(|t| {
            let at = seconds(t) + 0.5 / STEPS_A_SECOND;
            PathElement::new([(at, 0.0), (at, n as f64)], RED.stroke_width(2))
        });
        chart.draw_series(again)?;
        Ok(())
    }

    fn widths(&self, area: &Area<'_>) -> Drawn {
        let area = legend(area, &[(BLUE, "width of what ran")])?;
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), -0.3..3.3)?;
        let time = format!("time (s), {STEPS_A_SECOND} control steps a second");
        axes(
            &mut chart,
            (&time, &f64::to_string),
            ("activations (bits)", &width_name),
        )?;
        let corners = self
            .seen
            .iter()
            .enumerate()
            .flat_map(|(t, seen)| [t, t + 1].map(|t| (seconds(t), seen.width.index() as f64)));
        chart.draw_series(LineSeries::new(corners, BLUE.stroke_width(3)))?;
        Ok(())
    }
}

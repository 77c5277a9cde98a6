//! A picture of one episode: sensitivity, widths and action error over time.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use w4ax::dispatch::{Decision, Thresholds};
use w4ax::{Result, Width};

use super::rule::Rule;
use super::run::Step;
use crate::draw::{
    self, Area, BLUE, Drawn, FONT, GREY, ORANGE, STEPS_A_SECOND, axes, legend, panel, seconds,
    titled, width_name,
};

const SIZE: (u32, u32) = (1200, 1000);
/// The right margin of a panel.
const RIGHT: u32 = 135;

/// The height of a label.
const LABEL: i32 = 18;

/// The lower end of the error axis. The smallest error above 0 is one token off by one, 2/255. An
/// error of 0 is drawn at the lower end.
const FLOOR: f64 = 0.005;

/// An episode of the dynamic run.
pub struct Picture<'a> {
    /// The title.
    pub title: String,
    /// The rule of the dynamic run.
    pub rule: Rule,
    /// `[steps]`: the decisions.
    pub decisions: &'a [Decision],
    /// `[steps]`: the dynamic run.
    pub dynamic: &'a [Step],
    /// `[steps]`: the run at BF16 (W4A16), for comparison.
    pub widest: &'a [Step],
    /// The thresholds of the target width.
    pub thresholds: Thresholds,
}

/// Returns the first episode whose active width changes most often.
pub fn telling_episode(episodes: &[Range<usize>], decisions: &[Decision]) -> usize {
    let changes = |steps: &Range<usize>| {
        let pairs = decisions[steps.clone()].windows(2);
        pairs
            .filter(|pair| pair[0].active != pair[1].active)
            .count()
    };
    let mut best = (0, 0);
    for (at, steps) in episodes.iter().enumerate() {
        best = if changes(steps) > best.1 {
            (at, changes(steps))
        } else {
            best
        };
    }
    best.0
}

impl Picture<'_> {
    /// Draws to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`draw::write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        draw::write(path, |svg| self.draw(svg))
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let root = titled(svg, SIZE, &self.title)?;
        let (sensitivity, rest) = root.split_vertically(335);
        let (widths, errors) = rest.split_vertically(295);
        self.sensitivity(&sensitivity)?;
        self.widths(&widths)?;
        self.errors(&errors)?;
        root.present()?;
        Ok(())
    }

    /// Returns the range of the time axis.
    fn time(&self) -> Range<f64> {
        0.0..seconds(self.dynamic.len())
    }

    fn sensitivity(&self, area: &Area<'_>) -> Drawn {
        let area = legend(area, &[(BLUE, "S of the actions before each step")])?;
        let values = self.decisions.iter().map(|decision| decision.sensitivity);
        let top = values.clone().fold(1.0, f64::max) * 1.05;
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), 0.0..top)?;
        axes(
            &mut chart,
            ("", &f64::to_string),
            ("sensitivity S (no unit)", &|s| format!("{s:.1}")),
        )?;
        // Labels of close lines are moved apart.
        let mut above = i32::MAX;
        for (at, names) in self.threshold_lines() {
            let line = [0.0, self.time().end].map(|t| (t, at));
            let dashed = DashedLineSeries::new(line, 7, 5, GREY.stroke_width(1));
            chart.draw_series(dashed)?;
            let (x, y) = chart.backend_coord(&line[1]);
            let (x0, y0) = area.get_base_pixel();
            let font = (FONT, 17).into_font().color(&GREY);
            let left = font.pos(Pos::new(HPos::Left, VPos::Center));
            above = (y - y0).min(above.saturating_sub(LABEL));
            area.draw(&Text::new(names, (x - x0 + 8, above), left))?;
        }
        let points = values.enumerate().map(|(t, s)| (seconds(t), s));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        Ok(())
    }

    /// Returns the thresholds with their names. Equal ones share a line.
    fn threshold_lines(&self) -> Vec<(f64, String)> {
        let Thresholds {
            theta_24,
            theta_48,
            theta_fp,
        } = self.thresholds;
        let mut lines: Vec<(f64, String)> = Vec::new();
        for (at, name) in [(theta_24, "θ24"), (theta_48, "θ48"), (theta_fp, "θfp")] {
            match lines.last_mut() {
                Some((last, names)) if *last == at => *names += &format!(" = {name}"),
                _ => lines.push((at, name.into())),
            }
        }
        for (at, names) in &mut lines {
            let digits = format!("{at:.3}");
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            *names += &format!(" = {digits}");
        }
        lines
    }

    fn widths(&self, area: &Area<'_>) -> Drawn {
        let area = legend(
            area,
            &[
                (BLUE, "active width: what ran"),
                match self.rule {
                    Rule::Dyq => (ORANGE, "target width, Φ(S)"),
                    Rule::Consistency => (ORANGE, "width of the first run"),
                },
            ],
        )?;
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), -0.3..3.3)?;
        axes(
            &mut chart,
            ("", &f64::to_string),
            ("activation width (bits)", &width_name),
        )?;
        let corners = |width: fn(&Decision) -> Width| {
            let steps = self.decisions.iter().enumerate();
            let corners = steps.flat_map(move |(t, decision)| {
                [t, t + 1].map(|t| (seconds(t), width(decision).index() as f64))
            });
            corners.collect::<Vec<_>>()
        };
        let target = LineSeries::new(corners(|d| d.target), ORANGE.stroke_width(2));
        chart.draw_series(target)?;
        let active = LineSeries::new(corners(|d| d.active), BLUE.stroke_width(3));
        chart.draw_series(active)?;
        Ok(())
    }

    fn errors(&self, area: &Area<'_>) -> Drawn {
        let area = legend(
            area,
            &[
                (BLUE, "dynamic width"),
                (ORANGE, "BF16 activations throughout (W4A16)"),
            ],
        )?;
        let points = |steps: &[Step]| {
            let errors = steps.iter().enumerate();
            let points = errors.map(|(t, step)| (seconds(t), step.error.max(FLOOR)));
            points.collect::<Vec<_>>()
        };
        let (dynamic, widest) = (points(self.dynamic), points(self.widest));
        let top = (dynamic.iter().chain(&widest)).fold(1.0, |top: f64, point| top.max(point.1));
        let range = (FLOOR..top * 1.5).log_scale();
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(self.time(), range)?;
        let time = format!("time (s), {STEPS_A_SECOND} control steps a second");
        axes(
            &mut chart,
            (&time, &f64::to_string),
            ("action error (L2, action units)", &f64::to_string),
        )?;
        chart.draw_series(LineSeries::new(widest, ORANGE.stroke_width(2)))?;
        chart.draw_series(LineSeries::new(dynamic, BLUE.stroke_width(2)))?;
        Ok(())
    }
}

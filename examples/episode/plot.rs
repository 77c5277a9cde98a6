//! A picture of one episode: its sensitivity, its widths, its error, one above the other.

use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use w4ax::dispatch::{Decision, Thresholds};
use w4ax::{Error, Precision, Result};

use crate::run::Step;

/// Control steps a second, in the recorded data.
const STEPS_A_SECOND: f64 = 20.0;

const SIZE: (u32, u32) = (1200, 1000);
const FONT: &str = "sans-serif";
const BLUE: RGBColor = RGBColor(31, 95, 168);
const ORANGE: RGBColor = RGBColor(214, 105, 20);
const GREY: RGBColor = RGBColor(120, 120, 120);
const PALE: RGBColor = RGBColor(225, 225, 225);

/// The foot of the error's axis. The smallest error that is not 0 is a token off by one, 2/255; 0 is drawn at the foot.
const FLOOR: f64 = 0.005;

/// An episode of the dynamic run.
pub struct Picture<'a> {
    /// What stands above it.
    pub title: String,
    /// `[steps]`.
    pub decisions: &'a [Decision],
    /// `[steps]`.
    pub dynamic: &'a [Step],
    /// `[steps]`: the same steps at BF16 (W4A16), to compare the error with.
    pub widest: &'a [Step],
    /// Where the target width changes.
    pub thresholds: Thresholds,
}

/// The episode whose active width changes most often, the first of them.
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
    /// [`Error::Io`]; [`Error::Format`] if it cannot be drawn.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| Error::Format {
            file: path.display().to_string(),
            reason: error.to_string(),
        })?;
        w4ax::file::write_atomically(path, svg.as_bytes())
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root
            .margin(8, 0, 0, 0)
            .titled(&self.title, (FONT, 26).into_font())?;
        let (sensitivity, rest) = root.split_vertically(335);
        let (widths, errors) = rest.split_vertically(295);
        self.sensitivity(&sensitivity)?;
        self.widths(&widths)?;
        self.errors(&errors)?;
        root.present()?;
        Ok(())
    }

    /// The time axis.
    fn time(&self) -> Range<f64> {
        0.0..seconds(self.dynamic.len())
    }

    fn sensitivity(&self, area: &Area<'_>) -> Drawn {
        let area = legend(area, &[(BLUE, "S of the actions before each step")])?;
        let values = self.decisions.iter().map(|decision| decision.sensitivity);
        let top = values.clone().fold(1.0, f64::max) * 1.05;
        let mut chart = builder(&area).build_cartesian_2d(self.time(), 0.0..top)?;
        axes(&mut chart, "", "sensitivity S (no unit)", &|s| {
            format!("{s:.1}")
        })?;
        for (at, names) in self.threshold_lines() {
            let line = [0.0, self.time().end].map(|t| (t, at));
            let dashed = DashedLineSeries::new(line, 7, 5, GREY.stroke_width(1));
            chart.draw_series(dashed)?;
            let (x, y) = chart.backend_coord(&line[1]);
            let (x0, y0) = area.get_base_pixel();
            let font = (FONT, 17).into_font().color(&GREY);
            let left = font.pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(names, (x - x0 + 8, y - y0), left))?;
        }
        let points = values.enumerate().map(|(t, s)| (seconds(t), s));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        Ok(())
    }

    /// The thresholds and their names; equal ones share a line.
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
            *names += &format!(" = {at}");
        }
        lines
    }

    fn widths(&self, area: &Area<'_>) -> Drawn {
        let area = legend(
            area,
            &[
                (BLUE, "active width: what ran"),
                (ORANGE, "target width, Φ(S)"),
            ],
        )?;
        let mut chart = builder(&area).build_cartesian_2d(self.time(), -0.3..3.3)?;
        let name = |at: &f64| {
            let width = Precision::ALL.get(at.round() as usize);
            width.map_or(String::new(), |width| width.bits().to_string())
        };
        axes(&mut chart, "", "activation width (bits)", &name)?;
        let corners = |width: fn(&Decision) -> Precision| {
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
        let mut chart = builder(&area).build_cartesian_2d(self.time(), range)?;
        let time = format!("time (s), {STEPS_A_SECOND} control steps a second");
        axes(
            &mut chart,
            &time,
            "action error (L2, action units)",
            &f64::to_string,
        )?;
        chart.draw_series(LineSeries::new(widest, ORANGE.stroke_width(2)))?;
        chart.draw_series(LineSeries::new(dynamic, BLUE.stroke_width(2)))?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;
type Drawn = std::result::Result<(), Box<dyn StdError>>;

/// When a step begins.
fn seconds(step: usize) -> f64 {
    step as f64 / STEPS_A_SECOND
}

fn builder<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin_left(12)
        .margin_right(135)
        .x_label_area_size(50)
        .y_label_area_size(80);
    builder
}

/// The grid and the axes of a panel.
fn axes<Y>(
    chart: &mut Chart<'_, '_, Y>,
    x: &str,
    y: &str,
    y_label: &dyn Fn(&f64) -> String,
) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .y_labels(6)
        .x_label_formatter(&|t| t.to_string())
        .y_label_formatter(&y_label)
        .label_style((FONT, 17))
        .axis_desc_style((FONT, 18))
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// A line above a panel with what its colours mean; gives what is left of the panel.
fn legend<'a>(
    area: &Area<'a>,
    entries: &[(RGBColor, &str)],
) -> std::result::Result<Area<'a>, Box<dyn StdError>> {
    let (strip, rest) = area.split_vertically(30);
    let mut x = 100;
    for (color, name) in entries {
        let line = PathElement::new([(x, 15), (x + 30, 15)], color.stroke_width(3));
        strip.draw(&line)?;
        let font = (FONT, 17).into_font().color(&BLACK);
        let left = font.pos(Pos::new(HPos::Left, VPos::Center));
        strip.draw(&Text::new(*name, (x + 38, 15), left))?;
        x += 38 + 8 * name.chars().count() as i32 + 30;
    }
    Ok(rest)
}

//! A picture of the sensitivities over motion: a row of panels for each mode, windowed M and J in
//! columns.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use w4ax::Result;

use super::motion::Predictor;
use super::perturb::{Mode, Terminal};
use super::response::{Correlation, Group, Response};
use super::table::{estimate, find};
use crate::draw::{self, Area, BLUE, Drawn, FONT, GREY, ORANGE, axes, legend, titled};

const SIZE: (u32, u32) = (1200, 1180);
const COLOURS: [RGBColor; 6] = [
    BLUE,
    ORANGE,
    RGBColor(35, 135, 85),
    RGBColor(165, 45, 105),
    RGBColor(110, 85, 190),
    GREY,
];

/// The content of the picture.
pub struct Picture<'a> {
    /// The points.
    pub responses: &'a [Response],
    /// The correlations in the captions.
    pub correlations: &'a [Correlation],
    /// The terminal deviation D_T.
    pub terminal: Terminal,
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
        let title = format!(
            "Sensitivity to one step's error ({}) over its motion",
            self.terminal.column()
        );
        let root = titled(svg, SIZE, &title)?;
        let tasks = self.tasks();
        let entries: Vec<_> = COLOURS
            .into_iter()
            .cycle()
            .zip(tasks.iter().copied())
            .collect();
        let panels = legend(&root, &entries)?.split_evenly((Mode::ALL.len(), 2));
        let shown = Mode::ALL
            .into_iter()
            .flat_map(|mode| [(mode, Predictor::MWindow), (mode, Predictor::JWindow)]);
        for (area, (mode, predictor)) in panels.iter().zip(shown) {
            self.panel(area, mode, predictor, &tasks)?;
        }
        root.present()?;
        Ok(())
    }

    fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for response in self.responses {
            if !tasks.contains(&response.key.task.as_str()) {
                tasks.push(&response.key.task);
            }
        }
        tasks
    }

    fn panel(&self, area: &Area<'_>, mode: Mode, predictor: Predictor, tasks: &[&str]) -> Drawn {
        let group = Group {
            mode: Some(mode),
            task: None,
        };
        // `D_T = 0` has no logarithm.
        let point = |row: &Response| {
            let task = tasks.iter().position(|task| *task == row.key.task)?;
            let s = row.sensitivity(self.terminal).filter(|s| *s > 0.0)?;
            Some((task, (row.predictor(predictor)?, s)))
        };
        let points: Vec<_> = group
            .of(self.responses)
            .into_iter()
            .filter_map(point)
            .collect();
        let (x, y) = (
            range(points.iter().map(|(_, at)| at.0)),
            points.iter().map(|(_, at)| at.1),
        );
        let y = y.clone().fold(0.1, f64::min) / 2.0..y.fold(0.1, f64::max) * 2.0;
        let found = find(self.correlations, &group, self.terminal, predictor);
        let r = estimate(found.and_then(|c| c.pearson_log));
        let caption = format!("{}: r with log s {r}, {} rows", mode.name(), points.len());
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(caption, (FONT, 18))
            .margin_left(12)
            .margin_right(15)
            .x_label_area_size(50)
            .y_label_area_size(80);
        let mut chart = builder.build_cartesian_2d(x, y.log_scale())?;
        axes(
            &mut chart,
            (predictor.name(), &|x| format!("{x:.2}")),
            ("s (m an action unit)", &|s| format!("{s:.0e}")),
        )?;
        let circles = points.iter().map(|(task, at)| {
            let color = COLOURS[task % COLOURS.len()].mix(0.6);
            Circle::new(*at, 3, color.filled())
        });
        chart.draw_series(circles)?;
        Ok(())
    }
}

/// Returns the range of the values and 0, with a margin.
fn range(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let low = values.clone().fold(0.0, f64::min);
    let high = values.fold(low, f64::max);
    let margin = if high > low { 0.04 * (high - low) } else { 1.0 };
    low - margin..high + margin
}

//! Error, cost and shares over theta_fp.

use std::path::Path;

use plotters::prelude::*;
use w4ax::{Result, Width};

use super::sweep::{Sweep, SweepPoint};
use crate::draw::{self, Area, BLUE, Drawn, GREEN, GREY, ORANGE, axes, legend, panel, titled};

const SIZE: (u32, u32) = (1200, 1180);
/// The colors of the widths, by [`Width::index`].
const WIDTHS: [RGBColor; 4] = [ORANGE, BLUE, GREEN, GREY];
/// The right margin of a panel.
const RIGHT: u32 = 30;

/// The content of the picture.
pub struct Picture<'a> {
    /// The sweep.
    pub sweep: &'a Sweep,
    /// What the costs are.
    pub costs: &'a str,
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
            "theta_fp from 0 to 1 on {} recorded steps (calibrated: {})",
            self.sweep.steps, self.sweep.calibrated
        );
        let root = titled(svg, SIZE, &title)?;
        let (errors, rest) = root.split_vertically(430);
        let (costs, shares) = rest.split_vertically(350);
        self.errors(&errors)?;
        self.costs(&costs)?;
        self.shares(&shares)?;
        root.present()?;
        Ok(())
    }

    fn points(&self, value: impl Fn(&SweepPoint) -> f64) -> Vec<(f64, f64)> {
        let points = self.sweep.points.iter();
        points.map(|point| (point.theta_fp, value(point))).collect()
    }

    fn errors(&self, area: &Area<'_>) -> Drawn {
        let area = legend(
            area,
            &[
                (BLUE, "dyq"),
                (ORANGE, "random widths at its shares, +- 2 deviations"),
                (GREY, "static A4"),
            ],
        )?;
        let top = (self.sweep.points.iter())
            .map(|p| p.mean_action_error.max(p.random + 2.0 * p.random_std))
            .fold(0.05, f64::max);
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(0.0..1.0, 0.0..top * 1.08)?;
        axes(
            &mut chart,
            ("", &|theta| format!("{theta:.1}")),
            ("mean action error (L2)", &|error| format!("{error:.2}")),
        )?;
        let mut band = self.points(|p| p.random + 2.0 * p.random_std);
        band.extend(
            self.points(|p| p.random - 2.0 * p.random_std)
                .into_iter()
                .rev(),
        );
        chart.draw_series([Polygon::new(band, ORANGE.mix(0.2).filled())])?;
        let a4 = self.sweep.r#static.a4;
        let dashed = DashedLineSeries::new([(0.0, a4), (1.0, a4)], 7, 5, GREY.stroke_width(2));
        chart.draw_series(dashed)?;
        let random = self.points(|p| p.random);
        chart.draw_series(LineSeries::new(random, ORANGE.stroke_width(2)))?;
        let dyq = self.points(|p| p.mean_action_error);
        chart.draw_series(LineSeries::new(dyq.clone(), BLUE.stroke_width(2)))?;
        chart.draw_series(dyq.into_iter().map(|at| Circle::new(at, 4, BLUE.filled())))?;
        Ok(())
    }

    fn costs(&self, area: &Area<'_>) -> Drawn {
        let area = legend(area, &[(BLUE, "dyq"), (GREY, "static A4")])?;
        let costs = self.points(|p| p.cost);
        let most = self
            .sweep
            .costs
            .of(Width::Bf16)
            .max(self.sweep.costs.of(Width::A2));
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(0.0..1.0, 0.0..most * 1.05)?;
        let title = format!("mean cost of a step ({})", self.costs);
        axes(
            &mut chart,
            ("", &|theta| format!("{theta:.1}")),
            (&title, &|cost| format!("{cost}")),
        )?;
        let a4 = self.sweep.costs.of(Width::A4);
        let dashed = DashedLineSeries::new([(0.0, a4), (1.0, a4)], 7, 5, GREY.stroke_width(2));
        chart.draw_series(dashed)?;
        chart.draw_series(LineSeries::new(costs.clone(), BLUE.stroke_width(2)))?;
        chart.draw_series(
            costs
                .into_iter()
                .map(|at| Circle::new(at, 4, BLUE.filled())),
        )?;
        Ok(())
    }

    fn shares(&self, area: &Area<'_>) -> Drawn {
        let names = Width::ALL.map(|width| width.to_string());
        let entries: Vec<_> = WIDTHS
            .into_iter()
            .zip(names.iter().map(String::as_str))
            .collect();
        let area = legend(area, &entries)?;
        let mut chart = panel(&area, RIGHT).build_cartesian_2d(0.0..1.0, 0.0..1.02)?;
        axes(
            &mut chart,
            ("theta_fp", &|theta| format!("{theta:.1}")),
            ("share of steps", &|share| format!("{share:.1}")),
        )?;
        for (color, width) in WIDTHS.into_iter().zip(Width::ALL) {
            let points = self.points(|p| p.share.values()[width.index()]);
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
            chart.draw_series(
                points
                    .into_iter()
                    .map(|at| Circle::new(at, 3, color.filled())),
            )?;
        }
        Ok(())
    }
}

//! Draws the results of one thread at N = K = 4096: speeds relative to candle's kinds, and a
//! roofline.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::contenders::PEERS;
use crate::limits::Limits;
use crate::report::{Cache, Case, PeerReport};
use crate::tables::TARGET;

const SIZE: (u32, u32) = (1500, 680);
const FONT: &str = "sans-serif";
const SIDE: usize = 4096;
const BLUE: RGBColor = RGBColor(31, 95, 168);
const ORANGE: RGBColor = RGBColor(214, 105, 20);
const GREYS: [RGBColor; 3] = [
    RGBColor(190, 190, 190),
    RGBColor(145, 145, 145),
    RGBColor(100, 100, 100),
];
const PALE: RGBColor = RGBColor(225, 225, 225);
/// Lower left corner of the roofline: products per byte, GMAC/s.
const LEFT: f64 = 0.03;
const BOTTOM: f64 = 2.0;
/// Our two widths with names and colors.
const OURS: [(&str, &str, RGBColor); 2] = [("a8", "A8", BLUE), ("bf16", "BF16", ORANGE)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws to a file, which is replaced atomically.
pub fn write(report: &PeerReport, path: &Path) -> Result<()> {
    let mut svg = String::new();
    draw(report, &mut svg)?;
    Ok(w4ax::file::write_atomically(path, svg.as_bytes())?)
}

/// Returns the cases of the picture.
fn cases(report: &PeerReport, cache: Cache) -> Vec<&Case> {
    let mut cases = report.cases();
    cases.retain(|case| {
        (case.n, case.k, case.threads) == (SIDE, SIDE, 1)
            && (case.isa.as_str(), case.cache) == (report.isa.as_str(), cache)
    });
    cases
}

fn draw(report: &PeerReport, svg: &mut String) -> Result<()> {
    let warm = cases(report, Cache::Warm);
    let limits = warm.first().and_then(|case| report.limits(case));
    let limits = limits.ok_or("no rows of one thread at N = K = 4096")?;
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{}, {}: one thread, N = K = {SIDE}",
        report.device, report.isa
    );
    let root = root.margin(8, 8, 8, 8).titled(&title, (FONT, 26))?;
    let (left, right) = root.split_horizontally(720);
    bars(report, &warm, &left)?;
    roofline(report, &warm, limits, &right)?;
    root.present()?;
    Ok(())
}

fn style(size: i32, h: HPos, v: VPos) -> TextStyle<'static> {
    let font = (FONT, size).into_font().color(&BLACK);
    font.pos(Pos::new(h, v))
}

/// Draws a legend in a strip at the top of a panel. Returns the rest of the panel.
fn legend<'a>(area: &Area<'a>, entries: &[(String, Mark)]) -> Result<Area<'a>> {
    let (strip, rest) = area.split_vertically(30 * entries.len().div_ceil(5) as i32);
    for (at, (name, mark)) in entries.iter().enumerate() {
        let (x, y) = (85 + 130 * (at % 5) as i32, 15 + 30 * (at / 5) as i32);
        mark.draw(&strip, (x, y))?;
        strip.draw(&Text::new(
            name.as_str(),
            (x + 14, y),
            style(16, HPos::Left, VPos::Center),
        ))?;
    }
    Ok(rest)
}

/// The symbol of a series.
#[derive(Clone, Copy)]
enum Mark {
    Box(RGBColor),
    Disc(RGBColor),
    Ring(RGBColor),
}

impl Mark {
    fn draw(self, area: &Area<'_>, (x, y): (i32, i32)) -> Result<()> {
        match self {
            Self::Box(color) => {
                area.draw(&Rectangle::new(
                    [(x - 7, y - 7), (x + 7, y + 7)],
                    color.filled(),
                ))?;
            }
            Self::Disc(color) => area.draw(&Circle::new((x, y), 6, color.filled()))?,
            Self::Ring(color) => {
                area.draw(&Circle::new((x, y), 6, WHITE.filled()))?;
                area.draw(&Circle::new((x, y), 6, color.stroke_width(2)))?;
            }
        }
        Ok(())
    }
}

/// Draws the speeds relative to candle's fastest kind, labeled with milliseconds.
fn bars(report: &PeerReport, cases: &[&Case], area: &Area<'_>) -> Result<()> {
    let ours = OURS.map(|(_, name, color)| (format!("w4ax {name}"), Mark::Box(color)));
    let peers = PEERS.iter().zip(GREYS);
    let peers = peers.map(|((name, _), color)| ((*name).to_owned(), Mark::Box(color)));
    let area = legend(area, &ours.into_iter().chain(peers).collect::<Vec<_>>())?;

    // (speed, milliseconds) in the order of the legend.
    let mut groups: Vec<Vec<(f64, f64)>> = Vec::new();
    for case in cases {
        let best = report.best(case, "a8").ok_or("the results lack A8")?;
        let mut group = Vec::new();
        for (width, ..) in OURS {
            let row = report.best(case, width).ok_or("the results lack a width")?;
            group.push((row.ratio, row.ours_ms));
        }
        for (name, _) in PEERS {
            let mut rows = report.against(case, "a8").into_iter();
            let row = rows
                .find(|row| row.peer == name)
                .ok_or("the results lack a peer")?;
            group.push((best.peer_ms / row.peer_ms, row.peer_ms));
        }
        groups.push(group);
    }
    let top = groups
        .iter()
        .flatten()
        .fold(TARGET, |top, bar| top.max(bar.0));
    let mut chart = ChartBuilder::on(&area)
        .margin_right(20)
        .x_label_area_size(60)
        .y_label_area_size(65)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..top * 1.22)?;
    let names = |x: &f64| {
        let case = (x.fract() == 0.5).then(|| cases.get(*x as usize)).flatten();
        case.map_or(String::new(), |case| format!("M = {}", case.m))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * groups.len() + 1)
        .x_label_formatter(&names)
        .x_desc("tokens")
        .y_desc("speed, candle's fastest = 1 (labels: ms per call)")
        .label_style((FONT, 17))
        .axis_desc_style((FONT, 18))
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for at in [1.0, TARGET] {
        let line = [(0.0, at), (groups.len() as f64, at)];
        chart.draw_series(DashedLineSeries::new(line, 6, 5, GREYS[2].stroke_width(1)))?;
    }
    let name = format!("dashed: candle's fastest, and the target for A8, {TARGET}");
    let corner = (groups.len() as f64, top * 0.97);
    chart.draw_series([Text::new(name, corner, style(15, HPos::Right, VPos::Top))])?;
    let colors = OURS.map(|ours| ours.2).into_iter().chain(GREYS);
    let colors: Vec<RGBColor> = colors.collect();
    for (g, group) in groups.iter().enumerate() {
        for (b, ((speed, ms), color)) in group.iter().zip(&colors).enumerate() {
            let x = g as f64 + 0.1 + 0.16 * b as f64;
            let bar = Rectangle::new([(x, 0.0), (x + 0.15, *speed)], color.filled());
            chart.draw_series([bar])?;
            let upright = (FONT, 15).into_font().transform(FontTransform::Rotate270);
            let upright = upright
                .color(&BLACK)
                .pos(Pos::new(HPos::Left, VPos::Center));
            let place = (x + 0.075, speed + top * 0.015);
            chart.draw_series([Text::new(three_digits(*ms), place, upright)])?;
        }
    }
    Ok(())
}

fn three_digits(value: f64) -> String {
    let digits = (2 - value.log10().floor() as i32).clamp(0, 3) as usize;
    format!("{value:.digits$}")
}

/// Draws products per second over products per byte of weight, below the measured limits of the
/// machine.
fn roofline(report: &PeerReport, warm: &[&Case], limits: &Limits, area: &Area<'_>) -> Result<()> {
    let mut entries = Vec::new();
    for (_, name, color) in OURS {
        entries.push((format!("{name} warm"), Mark::Disc(color)));
        entries.push((format!("{name} cold"), Mark::Ring(color)));
    }
    let area = legend(area, &entries)?;
    let peaks = [&limits.bytes_peak, &limits.floats_peak]
        .into_iter()
        .flatten();
    let peaks: Vec<_> = peaks.collect();
    let roof = peaks
        .iter()
        .fold(100.0, |top: f64, peak| top.max(peak.gmacs));
    let mut chart = ChartBuilder::on(&area)
        .margin_right(20)
        .x_label_area_size(60)
        .y_label_area_size(75)
        .build_cartesian_2d((LEFT..1000.0).log_scale(), (BOTTOM..roof * 1.6).log_scale())?;
    chart
        .configure_mesh()
        .y_labels(5)
        .x_desc("products per byte of packed weight")
        .y_desc("1e9 products per second (GMAC/s)")
        .x_label_formatter(&|x| x.to_string())
        .y_label_formatter(&|y| y.to_string())
        .label_style((FONT, 17))
        .axis_desc_style((FONT, 18))
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for peak in &peaks {
        let line = [(LEFT, peak.gmacs), (1000.0, peak.gmacs)];
        chart.draw_series(LineSeries::new(line, BLACK.stroke_width(1)))?;
        let name = format!("{}, {:.0} GMAC/s", peak.instruction, peak.gmacs);
        let place = (LEFT * 1.1, peak.gmacs * 1.04);
        chart.draw_series([Text::new(name, place, style(16, HPos::Left, VPos::Bottom))])?;
    }
    // The names are placed away from all points: left of the steeper line, right of the other.
    for (name, read, at, text_at, side) in [
        ("warm", &limits.warm, 0.4, 0.36, HPos::Right),
        ("cold", &limits.cold, 3.2, 3.6, HPos::Left),
    ] {
        // The line starts where it enters the panel: a point outside would be moved to the edge,
        // which would change the slope.
        let left = LEFT.max(BOTTOM / read.median);
        let line = [(left, left * read.median), (roof / read.median, roof)];
        chart.draw_series(LineSeries::new(line, BLACK.stroke_width(1)))?;
        let name = format!("read {name}, {:.0} GB/s", read.median);
        let place = (text_at, at * read.median);
        chart.draw_series([Text::new(name, place, style(16, side, VPos::Center))])?;
    }
    for cache in [Cache::Warm, Cache::Cold] {
        for case in cases(report, cache) {
            for (width, _, color) in OURS {
                let Some(row) = report.ours(case, width) else {
                    continue;
                };
                let (x, y) = chart.backend_coord(&(row.intensity(), row.gmacs()));
                let (x0, y0) = area.get_base_pixel();
                let mark = match cache {
                    Cache::Warm => Mark::Disc(color),
                    Cache::Cold => Mark::Ring(color),
                };
                mark.draw(&area, (x - x0, y - y0))?;
            }
        }
    }
    for (at, case) in warm.iter().enumerate() {
        let Some(row) = report.ours(case, "a8") else {
            continue;
        };
        let line = [(row.intensity(), BOTTOM), (row.intensity(), BOTTOM * 1.2)];
        chart.draw_series(LineSeries::new(line, GREYS[2].stroke_width(1)))?;
        let name = format!("{}{}", if at == 0 { "M = " } else { "" }, case.m);
        let place = (row.intensity(), BOTTOM * 1.25);
        chart.draw_series([Text::new(
            name,
            place,
            style(15, HPos::Center, VPos::Bottom),
        )])?;
    }
    Ok(())
}

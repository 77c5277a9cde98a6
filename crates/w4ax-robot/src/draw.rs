//! Helpers of all pictures.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use w4ax::{Error, Result, Width};

/// The font of all texts.
pub const FONT: &str = "sans-serif";
/// The first color.
pub const BLUE: RGBColor = RGBColor(31, 95, 168);
/// The second color.
pub const ORANGE: RGBColor = RGBColor(214, 105, 20);
/// The third color.
pub const GREY: RGBColor = RGBColor(120, 120, 120);
/// The fourth color.
pub const GREEN: RGBColor = RGBColor(35, 135, 85);
const PALE: RGBColor = RGBColor(225, 225, 225);

/// An area of a picture.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A chart with the coordinates `X` and `Y`.
pub type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
/// The result of drawing.
pub type Drawn = std::result::Result<(), Box<dyn StdError>>;
/// The title of an axis, and the format of its numbers.
pub type Axis<'a> = (&'a str, &'a dyn Fn(&f64) -> String);

/// Draws an SVG and writes it to a file, whole or not at all.
///
/// # Errors
/// [`Error::Io`]. [`Error::Format`] if drawing fails.
pub fn write(path: &Path, draw: impl FnOnce(&mut String) -> Drawn) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|error| Error::Format {
        file: path.display().to_string(),
        reason: error.to_string(),
    })?;
    w4ax::file::write_atomically(path, svg.as_bytes())
}

/// Returns the path of a picture: `requested`, or the default `or`, whose folder is created.
///
/// # Errors
/// [`Error::Io`].
pub fn place(requested: Option<&Path>, or: &str) -> Result<PathBuf> {
    if let Some(path) = requested {
        return Ok(path.to_owned());
    }
    let path = PathBuf::from(or);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::Io {
            file: folder.display().to_string(),
            source,
        })?;
    }
    Ok(path)
}

/// Control steps per second of the recorded data.
pub const STEPS_A_SECOND: f64 = 20.0;

/// Returns the time of a step in seconds.
pub fn seconds(step: usize) -> f64 {
    step as f64 / STEPS_A_SECOND
}

/// Draws a white background and a title. Returns the area below.
///
/// # Errors
/// As the backend.
pub fn titled<'a>(
    svg: &'a mut String,
    size: (u32, u32),
    title: &str,
) -> std::result::Result<Area<'a>, Box<dyn StdError>> {
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.margin(8, 0, 0, 0);
    Ok(root.titled(title, (FONT, 26).into_font())?)
}

/// Returns a chart over time with a margin at its right.
pub fn panel<'a, 'b>(area: &'a Area<'b>, right: u32) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin_left(12)
        .margin_right(right)
        .x_label_area_size(50)
        .y_label_area_size(80);
    builder
}

/// Returns the label of a width at its position on an axis.
pub fn width_name(at: &f64) -> String {
    let width = Width::ALL.get(at.round() as usize);
    width.map_or(String::new(), |width| width.bits().to_string())
}

/// Draws the grid and the axes of a panel.
///
/// # Errors
/// As the backend.
pub fn axes<X, Y>(chart: &mut Chart<'_, '_, X, Y>, x: Axis<'_>, y: Axis<'_>) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(x.0)
        .y_desc(y.0)
        .y_labels(6)
        .x_label_formatter(&x.1)
        .y_label_formatter(&y.1)
        .label_style((FONT, 17))
        .axis_desc_style((FONT, 18))
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// Draws a legend above a panel. Returns the area below.
///
/// # Errors
/// As the backend.
pub fn legend<'a>(
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

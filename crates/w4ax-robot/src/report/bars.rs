//! Bars of named figures: the pictures of tables.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use w4ax::Result;

use crate::draw::{self, Area, BLUE, Drawn, FONT, GREY, titled};

/// The height of a bar with its space, in pixels.
const ROW: u32 = 34;
/// The height of a panel's caption, in pixels.
const CAPTION: u32 = 46;
/// The width of the names, in pixels.
const NAMES: i32 = 380;
/// The width of the bars, in pixels.
const BARS: i32 = 560;
/// The width of the picture, in pixels.
const WIDTH: u32 = 1200;

/// A named figure.
#[derive(Clone, Debug)]
pub struct Bar {
    /// The name.
    pub name: String,
    /// The figure; `None` draws no bar.
    pub value: Option<f64>,
    /// The ends of an interval around it.
    pub interval: Option<[f64; 2]>,
    /// The text beside the bar.
    pub label: String,
}

/// Bars with one scale.
#[derive(Clone, Debug)]
pub struct BarPanel {
    /// The quantity and its unit.
    pub caption: String,
    /// The value at the left end: 0 for a linear scale, otherwise the scale is logarithmic.
    pub left: f64,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// Panels below each other.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The title.
    pub title: String,
    /// The panels.
    pub panels: Vec<BarPanel>,
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
        let height = |panel: &BarPanel| CAPTION + ROW * panel.bars.len() as u32 + 14;
        let size = (WIDTH, 60 + self.panels.iter().map(height).sum::<u32>());
        let mut rest = titled(svg, size, &self.title)?;
        for panel in &self.panels {
            let (area, below) = rest.split_vertically(height(panel));
            panel.draw(&area)?;
            rest = below;
        }
        rest.present()?;
        Ok(())
    }
}

impl BarPanel {
    /// Returns the distance of a value from the left end of its bar, in pixels.
    fn length(&self, value: f64, most: f64) -> i32 {
        let share = match self.left > 0.0 {
            true => (value / self.left).ln() / (most / self.left).ln(),
            false => value / most,
        };
        (f64::from(BARS) * share.clamp(0.0, 1.0)).round() as i32
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let values = self.bars.iter().flat_map(|bar| {
            let ends = bar.interval.into_iter().flatten();
            bar.value.into_iter().chain(ends)
        });
        let most = values.fold(self.left.max(f64::MIN_POSITIVE), f64::max);
        let font = |size: u32, color: &RGBColor, side: HPos| {
            let font = (FONT, size).into_font().color(color);
            font.pos(Pos::new(side, VPos::Center))
        };
        let caption = Text::new(
            self.caption.as_str(),
            (20, 24),
            font(19, &BLACK, HPos::Left),
        );
        area.draw(&caption)?;
        for (at, bar) in self.bars.iter().enumerate() {
            let y = (CAPTION + ROW * at as u32 + ROW / 2) as i32;
            let name = font(17, &BLACK, HPos::Right);
            area.draw(&Text::new(bar.name.as_str(), (NAMES - 12, y), name))?;
            let mut end = NAMES;
            if let Some(value) = bar.value {
                end = NAMES + self.length(value, most);
                let corners = [(NAMES, y - 9), (end, y + 9)];
                area.draw(&Rectangle::new(corners, BLUE.mix(0.75).filled()))?;
            }
            if let Some(interval) = bar.interval {
                let [from, to] = interval.map(|end| NAMES + self.length(end, most));
                area.draw(&PathElement::new(
                    [(from, y), (to, y)],
                    GREY.stroke_width(3),
                ))?;
                end = end.max(to);
            }
            let label = font(17, &BLACK, HPos::Left);
            area.draw(&Text::new(bar.label.as_str(), (end + 10, y), label))?;
        }
        let (top, bottom) = (
            CAPTION as i32,
            (CAPTION + ROW * self.bars.len() as u32) as i32,
        );
        let line = PathElement::new([(NAMES, top), (NAMES, bottom)], BLACK.stroke_width(1));
        area.draw(&line)?;
        Ok(())
    }
}

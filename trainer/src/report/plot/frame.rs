//! What all plots have around their data: title, legend, axes and grid.

use plotters::prelude::DrawingBackend;
use plotters::style::RGBColor;

use super::canvas::{Align, Canvas, GRID, INK, MUTED, Type};
use super::scale::Ruler;
use super::{Axis, PlotError};

/// Room around everything.
const MARGIN: f64 = 16.0;
const LINE_HEIGHT: f64 = 20.0;
/// Between an axis and its tick labels.
const GAP: f64 = 8.0;
/// Below the data: tick labels and the axis' label.
const FOOT: f64 = 50.0;

const TITLE: Type = Type { size: 16.0, bold: true, colour: INK };
const LABEL: Type = Type { size: 12.0, bold: false, colour: MUTED };
const ENTRY: Type = Type { size: 13.0, bold: false, colour: INK };

/// What a legend's entry looks like.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    Line,
    Dashed,
    Dot,
}

/// An entry of the legend.
pub struct Entry {
    pub name: String,
    pub colour: RGBColor,
    pub mark: Mark,
}

/// Where the data lies on the canvas.
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// The horizontal axis or the vertical one, and the values on it.
pub struct Measured<'a> {
    pub axis: &'a Axis,
    pub values: Vec<f64>,
    /// Room beyond the values, as a share of what they span.
    pub room: f64,
}

/// Data with its axes.
pub struct Plane {
    pub frame: Frame,
    x: Ruler,
    y: Ruler,
}

impl Plane {
    /// Draws everything around the data.
    pub fn draw<B: DrawingBackend>(
        canvas: &Canvas<B>,
        title: &str,
        entries: &[Entry],
        x: &Measured,
        y: &Measured,
    ) -> Result<Self, PlotError> {
        let (width, height) = canvas.size();
        let mut top = draw_head(canvas, title, entries)?;
        if !y.axis.label.is_empty() {
            canvas.text(&y.axis.label, (MARGIN, top + 4.0), LABEL, Align::Left)?;
            top += LINE_HEIGHT;
        }
        let bottom = height - FOOT;
        let y_ruler = y.ruler(((bottom - top) / 60.0) as usize);
        let widths = y_ruler.ticks().map(|(_, label)| canvas.text_width(label, LABEL));
        let widest = widths.collect::<Result<Vec<_>, _>>()?.into_iter().fold(0.0, f64::max);
        let (left, right) = (MARGIN + widest + GAP, width - 1.5 * MARGIN);
        let x_ruler = x.ruler(((right - left) / 90.0) as usize);
        let plane = Self { frame: Frame { left, right, top, bottom }, x: x_ruler, y: y_ruler };
        plane.draw_axes(canvas, &x.axis.label)?;
        Ok(plane)
    }

    /// Where a value lies on the canvas; `None` where it has no place on an axis.
    pub fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.x_at(x)?, self.y_at(y)?))
    }

    /// Where a value of the horizontal axis lies.
    pub fn x_at(&self, x: f64) -> Option<f64> {
        Some(self.x.share(x)?.mul_add(self.frame.right - self.frame.left, self.frame.left))
    }

    /// Where a value of the vertical axis lies.
    pub fn y_at(&self, y: f64) -> Option<f64> {
        Some(self.y.share(y)?.mul_add(self.frame.top - self.frame.bottom, self.frame.bottom))
    }

    fn draw_axes<B: DrawingBackend>(&self, canvas: &Canvas<B>, x_label: &str) -> Result<(), PlotError> {
        let Frame { left, right, top, bottom } = self.frame;
        for (share, label) in self.y.ticks() {
            let y = share.mul_add(top - bottom, bottom);
            canvas.path(&[(left, y), (right, y)], GRID, 1.0)?;
            canvas.text(label, (left - GAP, y + 4.0), LABEL, Align::Right)?;
        }
        canvas.path(&[(left, bottom), (right, bottom)], MUTED, 1.0)?;
        let mut free_from = f64::NEG_INFINITY;
        for (share, label) in self.x.ticks() {
            let x = share.mul_add(right - left, left);
            canvas.path(&[(x, bottom), (x, bottom + 4.0)], MUTED, 1.0)?;
            let half = canvas.text_width(label, LABEL)? / 2.0;
            // A label that would run into the one before it is left out.
            if x - half > free_from {
                canvas.text(label, (x, bottom + 18.0), LABEL, Align::Centre)?;
                free_from = x + half + GAP;
            }
        }
        canvas.text(x_label, (f64::midpoint(left, right), bottom + 38.0), LABEL, Align::Centre)
    }
}

impl Measured<'_> {
    fn ruler(&self, ticks: usize) -> Ruler {
        Ruler::new(self.axis, self.values.iter().copied(), ticks.clamp(2, 8)).with_room(self.room)
    }
}

/// Draws title and legend, and returns where what comes below begins.
fn draw_head<B: DrawingBackend>(canvas: &Canvas<B>, title: &str, entries: &[Entry]) -> Result<f64, PlotError> {
    let right = canvas.size().0 - MARGIN;
    let mut baseline = MARGIN + 8.0;
    let mut line = String::new();
    for word in title.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if !line.is_empty() && MARGIN + canvas.text_width(&longer, TITLE)? > right {
            canvas.text(&line, (MARGIN, baseline), TITLE, Align::Left)?;
            baseline += LINE_HEIGHT;
            word.clone_into(&mut line);
        } else {
            line = longer;
        }
    }
    canvas.text(&line, (MARGIN, baseline), TITLE, Align::Left)?;
    baseline += LINE_HEIGHT + 4.0;
    draw_legend(canvas, entries, baseline)
}

/// Draws a legend above the data, in as many rows as it takes, so that it never covers any.
fn draw_legend<B: DrawingBackend>(canvas: &Canvas<B>, entries: &[Entry], first: f64) -> Result<f64, PlotError> {
    const SWATCH: f64 = 22.0;
    let right = canvas.size().0 - MARGIN;
    let (mut x, mut baseline) = (MARGIN, first);
    for Entry { name, colour, mark } in entries {
        let width = SWATCH + 6.0 + canvas.text_width(name, ENTRY)?;
        if x > MARGIN && x + width > right {
            (x, baseline) = (MARGIN, baseline + LINE_HEIGHT);
        }
        let middle = baseline - 4.0;
        match mark {
            Mark::Line => canvas.path(&[(x, middle), (x + SWATCH, middle)], *colour, 2.5)?,
            Mark::Dashed => canvas.dashed(((x, middle), (x + SWATCH, middle)), *colour, 1.5)?,
            Mark::Dot => canvas.dot((x + SWATCH / 2.0, middle), 4.0, *colour)?,
        }
        canvas.text(name, (x + SWATCH + 6.0, baseline), ENTRY, Align::Left)?;
        // A browser's font may be a little wider than the one that was measured.
        x += 1.05 * width + MARGIN;
    }
    Ok(if entries.is_empty() { first } else { baseline + LINE_HEIGHT })
}

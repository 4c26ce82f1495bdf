//! What plots are drawn on: one surface in CSS pixels over plotters' two backends.

use std::sync::LazyLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle, WHITE, register_font};

use super::{Plot, PlotError, curves, png, points};

/// The family under which the font is registered; what a browser has under this name is close enough in width.
const FAMILY: &str = "sans-serif";

/// The backends round coordinates to whole numbers, so an SVG is drawn larger and scaled down by its view box.
const SVG_SCALE: u32 = 8;
/// The bitmap backend does not smooth the edges of shapes, so a PNG is drawn larger and averaged.
const PNG_SCALE: u32 = 4;
const PNG_AVERAGED: u32 = 2;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
/// Labels.
pub const MUTED: RGBColor = RGBColor(0x52, 0x60, 0x6d);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
/// The first are told apart by colour-blind readers too (Okabe and Ito).
pub const PALETTE: [RGBColor; 11] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x7a, 0x51, 0x95),
    RGBColor(0x1f, 0x29, 0x33),
    RGBColor(0x8c, 0x4a, 0x2f),
    RGBColor(0x6b, 0x8e, 0x23),
    RGBColor(0x9a, 0xa5, 0xb1),
];

/// The colour of the n-th curve, line or series.
pub const fn colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub enum Align {
    Left,
    Centre,
    Right,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    /// Size of an em, in CSS pixels.
    pub size: f64,
    pub bold: bool,
    pub colour: RGBColor,
}

/// How a backend places text. It draws from the top of the line, and each means something else by a font's size.
#[derive(Debug, Clone, Copy)]
struct Typesetting {
    /// The backend's size of a font whose em is 1.
    size: f64,
    /// From the top of the line to the baseline, in ems.
    ascent: f64,
}

/// `plotters-svg` divides the size by 1.24 and shifts the line by 0.76 em.
const SVG_TYPESETTING: Typesetting = Typesetting { size: 1.24, ascent: 0.76 };
/// `ab_glyph` sizes a font by its height, 1.362 em in Noto Sans, and plotters puts the baseline half of that down.
const PNG_TYPESETTING: Typesetting = Typesetting { size: 1.362, ascent: 0.681 };

/// A surface measured in CSS pixels.
pub struct Canvas<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: f64,
    typesetting: Typesetting,
}

impl<B: DrawingBackend> Canvas<'_, B> {
    /// Width and height.
    pub fn size(&self) -> (f64, f64) {
        let (width, height) = self.area.dim_in_pixel();
        (f64::from(width) / self.scale, f64::from(height) / self.scale)
    }

    /// A line through the points.
    pub fn path(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Result<(), PlotError> {
        let points: Vec<_> = points.iter().map(|point| self.at(*point)).collect();
        self.area.draw(&PathElement::new(points, self.stroke(colour, width))).map_err(failed)
    }

    /// A dashed line.
    pub fn dashed(&self, (from, to): ((f64, f64), (f64, f64)), colour: RGBColor, width: f64) -> Result<(), PlotError> {
        const DASH: f64 = 6.0;
        const GAP: f64 = 4.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let along = |distance: f64| {
            let share = (distance / length).min(1.0);
            (dx.mul_add(share, from.0), dy.mul_add(share, from.1))
        };
        let mut start = 0.0;
        while start < length {
            self.path(&[along(start), along(start + DASH)], colour, width)?;
            start += DASH + GAP;
        }
        Ok(())
    }

    /// A filled shape that what is under it shines through.
    pub fn shade(&self, outline: &[(f64, f64)], colour: RGBColor) -> Result<(), PlotError> {
        let outline: Vec<_> = outline.iter().map(|point| self.at(*point)).collect();
        self.area.draw(&Polygon::new(outline, fill(colour.mix(0.18)))).map_err(failed)
    }

    /// A dot.
    pub fn dot(&self, centre: (f64, f64), radius: f64, colour: RGBColor) -> Result<(), PlotError> {
        let radius = (radius * self.scale).round() as i32;
        self.area.draw(&Circle::new(self.at(centre), radius, fill(colour.into()))).map_err(failed)
    }

    /// A text whose baseline is at `y`.
    pub fn text(&self, text: &str, (x, y): (f64, f64), face: Type, align: Align) -> Result<(), PlotError> {
        let h_pos = match align {
            Align::Left => HPos::Left,
            Align::Centre => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = style(face, face.size * self.typesetting.size * self.scale).pos(Pos::new(h_pos, VPos::Top));
        let top = self.typesetting.ascent.mul_add(-face.size, y);
        self.area.draw(&Text::new(text, self.at((x, top)), style)).map_err(failed)
    }

    /// How wide a text is.
    pub fn text_width(&self, text: &str, face: Type) -> Result<f64, PlotError> {
        // The font is measured the same way for both backends.
        let style = style(face, face.size * PNG_TYPESETTING.size * self.scale);
        let (width, _) = self.area.estimate_text_size(text, &style).map_err(failed)?;
        Ok(f64::from(width) / self.scale)
    }

    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn stroke(&self, colour: RGBColor, width: f64) -> ShapeStyle {
        ShapeStyle { color: colour.into(), filled: false, stroke_width: (width * self.scale).round().max(1.0) as u32 }
    }
}

const fn fill(color: RGBAColor) -> ShapeStyle {
    ShapeStyle { color, filled: true, stroke_width: 0 }
}

fn style(face: Type, size: f64) -> TextStyle<'static> {
    let weight = if face.bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = (FAMILY, size, weight).into_font();
    TextStyle { font, color: face.colour.to_backend_color(), pos: Pos::default() }
}

fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> PlotError {
    PlotError(error.to_string())
}

fn draw<B: DrawingBackend>(canvas: &Canvas<B>, plot: &Plot) -> Result<(), PlotError> {
    match plot {
        Plot::Curves(plot) => curves::draw(canvas, plot),
        Plot::Points(plot) => points::draw(canvas, plot),
    }
}

/// Registers the font; no system font and no C library is asked.
fn prepare() -> Result<(), PlotError> {
    static FONT: LazyLock<bool> = LazyLock::new(|| {
        register_font(FAMILY, FontStyle::Normal, notosans::REGULAR_TTF).is_ok()
            && register_font(FAMILY, FontStyle::Bold, notosans::BOLD_TTF).is_ok()
    });
    if *FONT { Ok(()) } else { Err(PlotError("its font cannot be read".to_owned())) }
}

/// Draws into an SVG element without a size of its own.
pub fn svg((width, height): (u32, u32), plot: &Plot) -> Result<String, PlotError> {
    prepare()?;
    let (drawn_width, drawn_height) = (width * SVG_SCALE, height * SVG_SCALE);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (drawn_width, drawn_height)).into_drawing_area();
    draw(&Canvas { area: &area, scale: f64::from(SVG_SCALE), typesetting: SVG_TYPESETTING }, plot)?;
    area.present().map_err(failed)?;
    drop(area);
    Ok(text.replacen(&format!("width=\"{drawn_width}\" height=\"{drawn_height}\" "), "", 1))
}

/// Draws plots of one size into a PNG file, side by side.
pub fn png((width, height): (u32, u32), columns: usize, plots: &[Plot]) -> Result<Vec<u8>, PlotError> {
    prepare()?;
    let rows = plots.len().div_ceil(columns);
    let (width, height) = (width * columns as u32, height * rows as u32);
    let size = (width * PNG_SCALE, height * PNG_SCALE);
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        for (plot, area) in plots.iter().zip(area.split_evenly((rows, columns))) {
            draw(&Canvas { area: &area, scale: f64::from(PNG_SCALE), typesetting: PNG_TYPESETTING }, plot)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(png::encode(&average(&pixels, size), (size.0 / PNG_AVERAGED, size.1 / PNG_AVERAGED)))
}

/// Averages squares of pixels.
fn average(pixels: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let (side, width) = (PNG_AVERAGED as usize, width as usize);
    let mut averaged = Vec::with_capacity(pixels.len() / (side * side));
    for row in 0..height as usize / side {
        for column in 0..width / side {
            for channel in 0..3 {
                let square = (0..side * side).map(|inner| {
                    let (y, x) = (row * side + inner / side, column * side + inner % side);
                    u32::from(pixels[3 * (y * width + x) + channel])
                });
                averaged.push((square.sum::<u32>() / (side * side) as u32) as u8);
            }
        }
    }
    averaged
}

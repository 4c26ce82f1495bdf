//! Plots: described as data, drawn by the same code into a page (SVG) and into a file (PNG).

mod canvas;
mod curves;
mod frame;
mod png;
mod points;
mod scale;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use scale::{Axis, Scale, significant};

/// A mean with the bounds of its interval; which interval is said where it is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The interval's lower bound.
    pub lower: f64,
    /// The interval's upper bound.
    pub upper: f64,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Where along the horizontal axis.
    pub x: f64,
    /// The value.
    pub mean: f64,
    /// The bounds of the value's interval.
    pub interval: Option<(f64, f64)>,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CurveStyle {
    /// Points joined by a line; intervals are a band.
    #[default]
    Line,
    /// A line that stays level up to the next point; intervals are not drawn.
    Steps,
    /// Separate dots; intervals are bars.
    Dots,
}

/// Values along an axis. A point that is not finite leaves a gap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, by `x`.
    pub points: Vec<CurvePoint>,
    /// How it is drawn.
    pub style: CurveStyle,
}

impl Curve {
    /// A line without intervals.
    #[must_use]
    pub fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().map(|(x, mean)| CurvePoint { x, mean, interval: None }).collect();
        Self { name: name.into(), points, style: CurveStyle::Line }
    }
}

/// A known value that curves are compared with, such as a baseline's mean return.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend, where its value is added.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// Curves, and the values they are compared with as dashed lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CurvePlot {
    /// Said above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves.
    pub curves: Vec<Curve>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// Estimates of one kind, one a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// An estimate for each group; `None` where there is none.
    pub estimates: Vec<Option<Estimate>>,
}

/// A table of estimates as a plot: a row a group, in it a dot with its interval for each series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PointPlot {
    /// Said above it.
    pub title: String,
    /// The axis of the values, which lies horizontally so that the groups' names stay readable.
    pub value: Axis,
    /// The groups' names, from above.
    pub groups: Vec<String>,
    /// The series.
    pub series: Vec<Series>,
    /// Known values to compare with.
    pub lines: Vec<Line>,
}

/// Anything that can be drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Plot {
    /// Curves.
    Curves(CurvePlot),
    /// Points with intervals.
    Points(PointPlot),
}

/// A plot that could not be drawn.
#[derive(Debug, Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

impl Plot {
    /// What is said above it.
    #[must_use]
    pub fn title(&self) -> &str {
        match self {
            Self::Curves(plot) => &plot.title,
            Self::Points(plot) => &plot.title,
        }
    }

    /// The plot as an `<svg>` element laid out for so many CSS pixels, which scales to the width it is given.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn svg(&self, width: u32, height: u32) -> Result<String, PlotError> {
        canvas::svg((width, height), self)
    }

    /// The plot as a PNG file laid out for so many CSS pixels, of two pixels each so that it stays sharp.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn png(&self, width: u32, height: u32) -> Result<Vec<u8>, PlotError> {
        canvas::png((width, height), 1, std::slice::from_ref(self))
    }

    /// Several plots side by side in one PNG file; the size is that of one of them.
    ///
    /// # Errors
    /// The drawing library fails.
    pub fn png_grid(plots: &[Self], columns: usize, width: u32, height: u32) -> Result<Vec<u8>, PlotError> {
        canvas::png((width, height), columns.clamp(1, plots.len().max(1)), plots)
    }
}

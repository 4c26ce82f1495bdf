//! Drawing a table of estimates: a row a group, dots with intervals.

use plotters::prelude::DrawingBackend;

use super::canvas::{Canvas, colour};
use super::curves::line_entries;
use super::frame::{Entry, Mark, Measured, Plane};
use super::{Axis, PlotError, PointPlot, Scale};

/// Draws the plot.
pub fn draw<B: DrawingBackend>(canvas: &Canvas<B>, plot: &PointPlot) -> Result<(), PlotError> {
    let estimates = plot.series.iter().flat_map(|series| series.estimates.iter().flatten());
    let values = estimates.flat_map(|estimate| [estimate.mean, estimate.lower, estimate.upper]);
    let values = values.chain(plot.lines.iter().map(|line| line.value)).collect();
    let value = Measured { axis: &plot.value, values, room: 0.05 };
    // The vertical axis grows upwards, the rows are read from above.
    let names = plot.groups.iter().rev().cloned().collect();
    let groups = Axis { label: String::new(), scale: Scale::Names(names) };
    let groups = Measured { axis: &groups, values: Vec::new(), room: 0.0 };
    // A single series is what the title says, and needs no legend.
    let named = plot.series.iter().enumerate().filter(|_| plot.series.len() > 1);
    let entries =
        named.map(|(index, series)| Entry { name: series.name.clone(), colour: colour(index), mark: Mark::Dot });
    let entries: Vec<_> = entries.chain(line_entries(&plot.lines, plot.series.len())).collect();
    let plane = Plane::draw(canvas, &plot.title, &entries, &value, &groups)?;

    for (index, line) in plot.lines.iter().enumerate() {
        if let Some(x) = plane.x_at(line.value) {
            let ends = ((x, plane.frame.top), (x, plane.frame.bottom));
            canvas.dashed(ends, colour(plot.series.len() + index), 1.5)?;
        }
    }
    for (index, series) in plot.series.iter().enumerate() {
        // The series of a group lie beside each other within 60 % of its row.
        let offset = 0.6 * ((index as f64 + 0.5) / plot.series.len() as f64 - 0.5);
        for (row, estimate) in series.estimates.iter().enumerate().take(plot.groups.len()) {
            let Some(estimate) = estimate else { continue };
            let from_below = (plot.groups.len() - 1 - row) as f64 - offset;
            let Some((x, y)) = plane.at(estimate.mean, from_below) else { continue };
            if let (Some(lower), Some(upper)) = (plane.x_at(estimate.lower), plane.x_at(estimate.upper)) {
                canvas.path(&[(lower, y), (upper, y)], colour(index), 2.0)?;
                for end in [lower, upper] {
                    canvas.path(&[(end, y - 5.0), (end, y + 5.0)], colour(index), 2.0)?;
                }
            }
            canvas.dot((x, y), 4.0, colour(index))?;
        }
    }
    Ok(())
}

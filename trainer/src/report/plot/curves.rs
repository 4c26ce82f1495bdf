//! Drawing curves with their intervals, and the lines they are compared with.

use plotters::prelude::DrawingBackend;
use plotters::style::RGBColor;

use super::canvas::{Canvas, colour};
use super::frame::{Entry, Mark, Measured, Plane};
use super::scale::significant;
use super::{Curve, CurvePlot, CurvePoint, CurveStyle, Line, PlotError};

/// Draws the plot.
pub fn draw<B: DrawingBackend>(canvas: &Canvas<B>, plot: &CurvePlot) -> Result<(), PlotError> {
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let bounds = |point: &CurvePoint| {
        let (lower, upper) = point.interval.unwrap_or((point.mean, point.mean));
        [point.mean, lower, upper]
    };
    let x = Measured { axis: &plot.x, values: points().map(|point| point.x).collect(), room: 0.01 };
    let values = points().flat_map(bounds).chain(plot.lines.iter().map(|line| line.value)).collect();
    let y = Measured { axis: &plot.y, values, room: 0.05 };
    // A curve that is alone is what the title says.
    let is_alone = plot.curves.len() == 1 && plot.lines.is_empty();
    let named = plot.curves.iter().enumerate().filter(|_| !is_alone).map(curve_entry);
    let entries: Vec<_> = named.chain(line_entries(&plot.lines, plot.curves.len())).collect();
    let plane = Plane::draw(canvas, &plot.title, &entries, &x, &y)?;

    for (index, line) in plot.lines.iter().enumerate() {
        if let Some(y) = plane.y_at(line.value) {
            let ends = ((plane.frame.left, y), (plane.frame.right, y));
            canvas.dashed(ends, colour(plot.curves.len() + index), 1.5)?;
        }
    }
    let most = (plane.frame.right - plane.frame.left) as usize;
    let (dots, others): (Vec<_>, Vec<_>) =
        plot.curves.iter().enumerate().partition(|(_, curve)| curve.style == CurveStyle::Dots);
    // Dots last, because a line would hide them.
    for (index, curve) in others.into_iter().chain(dots) {
        match curve.style {
            CurveStyle::Line => draw_line(canvas, &plane, &thinned(&curve.points, most), colour(index))?,
            CurveStyle::Steps => draw_steps(canvas, &plane, &curve.points, colour(index))?,
            CurveStyle::Dots => draw_dots(canvas, &plane, &curve.points, colour(index))?,
        }
    }
    Ok(())
}

fn curve_entry((index, curve): (usize, &Curve)) -> Entry {
    let mark = if curve.style == CurveStyle::Dots { Mark::Dot } else { Mark::Line };
    Entry { name: curve.name.clone(), colour: colour(index), mark }
}

/// The legend of the lines, which come after so many other entries.
pub fn line_entries(lines: &[Line], before: usize) -> impl Iterator<Item = Entry> {
    lines.iter().enumerate().map(move |(index, line)| Entry {
        name: format!("{} {}", line.name, significant(line.value)),
        colour: colour(before + index),
        mark: Mark::Dashed,
    })
}

/// At most so many points, each the mean of its neighbours: more cannot be told apart.
fn thinned(points: &[CurvePoint], most: usize) -> Vec<CurvePoint> {
    let group = points.len().div_ceil(most.max(1)).max(1);
    let mean_of = |points: &[CurvePoint]| {
        let mean = |value: &dyn Fn(&CurvePoint) -> f64| points.iter().map(value).sum::<f64>() / points.len() as f64;
        let bounds = |point: &CurvePoint| point.interval.unwrap_or((point.mean, point.mean));
        let interval = points
            .iter()
            .any(|point| point.interval.is_some())
            .then(|| (mean(&|point| bounds(point).0), mean(&|point| bounds(point).1)));
        CurvePoint { x: mean(&|point| point.x), mean: mean(&|point| point.mean), interval }
    };
    points.chunks(group).map(mean_of).collect()
}

fn draw_line<B: DrawingBackend>(
    canvas: &Canvas<B>,
    plane: &Plane,
    points: &[CurvePoint],
    colour: RGBColor,
) -> Result<(), PlotError> {
    let has_place = |point: &CurvePoint| plane.at(point.x, point.mean).is_some();
    let has_band = |point: &CurvePoint| {
        point.interval.is_some_and(|(lower, upper)| plane.y_at(lower).is_some() && plane.y_at(upper).is_some())
            && has_place(point)
    };
    for run in points.chunk_by(|a, b| has_band(a) == has_band(b)).filter(|run| run.len() > 1 && has_band(&run[0])) {
        let bound = |point: &CurvePoint, pick: fn((f64, f64)) -> f64| plane.at(point.x, point.interval.map(pick)?);
        let upper = run.iter().filter_map(|point| bound(point, |interval| interval.1));
        let lower = run.iter().rev().filter_map(|point| bound(point, |interval| interval.0));
        canvas.shade(&upper.chain(lower).collect::<Vec<_>>(), colour)?;
    }
    for run in points.chunk_by(|a, b| has_place(a) == has_place(b)) {
        let path: Vec<_> = run.iter().filter_map(|point| plane.at(point.x, point.mean)).collect();
        match path.as_slice() {
            [] => {}
            [alone] => canvas.dot(*alone, 3.0, colour)?,
            _ => canvas.path(&path, colour, 2.0)?,
        }
    }
    Ok(())
}

fn draw_steps<B: DrawingBackend>(
    canvas: &Canvas<B>,
    plane: &Plane,
    points: &[CurvePoint],
    colour: RGBColor,
) -> Result<(), PlotError> {
    let mut path = Vec::with_capacity(2 * points.len());
    for (x, y) in points.iter().filter_map(|point| plane.at(point.x, point.mean)) {
        if let Some((_, before)) = path.last().copied() {
            path.push((x, before));
        }
        path.push((x, y));
    }
    if path.len() > 1 { canvas.path(&path, colour, 2.0) } else { Ok(()) }
}

fn draw_dots<B: DrawingBackend>(
    canvas: &Canvas<B>,
    plane: &Plane,
    points: &[CurvePoint],
    colour: RGBColor,
) -> Result<(), PlotError> {
    for point in points {
        let Some((x, y)) = plane.at(point.x, point.mean) else { continue };
        if let Some((lower, upper)) = point.interval
            && let (Some(lower), Some(upper)) = (plane.y_at(lower), plane.y_at(upper))
        {
            canvas.path(&[(x, lower), (x, upper)], colour, 1.5)?;
        }
        canvas.dot((x, y), 3.5, colour)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_are_drawn_as_their_means() {
        let points: Vec<_> = (0..10)
            .map(|index| {
                let mean = f64::from(index);
                CurvePoint { x: mean, mean: 2.0 * mean, interval: Some((mean, 4.0 * mean)) }
            })
            .collect();
        assert_eq!(thinned(&points, 10), points);
        let few = thinned(&points, 4);
        assert_eq!(few.len(), 4);
        assert_eq!(few[0], CurvePoint { x: 1.0, mean: 2.0, interval: Some((1.0, 4.0)) });
        assert_eq!(few[3], points[9]);
    }
}

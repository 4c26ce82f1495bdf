//! Axes: from values to places, with ticks at round values.

/// How values are laid out along an axis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By their logarithm; values of 0 and below are left out.
    Log,
    /// Value `i` is the `i`-th of these names.
    Names(Vec<String>),
}

/// An axis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How values lie on it.
    pub scale: Scale,
}

impl Axis {
    /// An axis on which values lie evenly.
    #[must_use]
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }

    /// An axis on which values lie by their logarithm.
    #[must_use]
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log }
    }
}

/// A round value on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The value, as the scale lays it out.
    at: f64,
    /// As it is written.
    pub label: String,
}

/// An axis fitted to values.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruler {
    is_log: bool,
    from: f64,
    to: f64,
    ticks: Vec<Tick>,
}

impl Ruler {
    /// Fits an axis to values, with about `ticks` ticks.
    pub fn new(axis: &Axis, values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        if let Scale::Names(names) = &axis.scale {
            let named = |(index, name): (usize, &String)| Tick { at: index as f64, label: name.clone() };
            let ticks = names.iter().enumerate().map(named).collect();
            return Self { is_log: false, from: -0.5, to: names.len() as f64 - 0.5, ticks };
        }
        let is_log = axis.scale == Scale::Log;
        let placed = values.into_iter().filter_map(|value| place(is_log, value));
        let (mut from, mut to) =
            placed.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if from > to {
            (from, to) = (0.0, 1.0);
        } else if (to - from) <= 1e-9 * from.abs().max(to.abs()).max(1e-9) {
            let room = if is_log { 0.5 } else { (0.1 * from.abs()).max(0.5) };
            (from, to) = (from - room, to + room);
        }
        let ticks = if is_log { log_ticks(from, to, ticks) } else { linear_ticks(from, to, ticks) };
        Self { is_log, from, to, ticks }
    }

    /// Makes room beyond the least and the greatest value, as a share of what they span.
    pub fn with_room(mut self, share: f64) -> Self {
        let room = share * (self.to - self.from);
        (self.from, self.to) = (self.from - room, self.to + room);
        self
    }

    /// Where a value lies, from 0 to 1; `None` where it has no place.
    pub fn share(&self, value: f64) -> Option<f64> {
        Some((place(self.is_log, value)? - self.from) / (self.to - self.from))
    }

    /// The ticks that lie on the axis, each with its place from 0 to 1.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        let share = |tick: &Tick| (tick.at - self.from) / (self.to - self.from);
        self.ticks.iter().map(move |tick| (share(tick), tick.label.as_str())).filter(|(at, _)| (0.0..=1.0).contains(at))
    }
}

fn place(is_log: bool, value: f64) -> Option<f64> {
    let placed = if is_log { value.log10() } else { value };
    placed.is_finite().then_some(placed)
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(from: f64, to: f64, count: usize) -> Vec<Tick> {
    let rough = (to - from) / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    // The nearest by ratio, so that there are neither many more ticks than asked for nor many fewer.
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    let apart = |step: f64| (step / rough).ln().abs();
    let step = steps.into_iter().min_by(|a, b| apart(*a).total_cmp(&apart(*b))).unwrap_or(rough);
    // One more on each side, for the room that is made.
    let (first, last) = ((from / step).floor() as i64, (to / step).ceil() as i64);
    let tick = |index: i64| {
        let at = index as f64 * step;
        Tick { at, label: written(at, step) }
    };
    (first..=last).map(tick).collect()
}

/// Powers of ten, or 1, 2 and 5 times them where few powers fit.
fn log_ticks(from: f64, to: f64, count: usize) -> Vec<Tick> {
    let (first, last) = (from.floor() as i32, to.ceil() as i32);
    let decades = to - from;
    let digits: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = (decades / count.max(1) as f64).ceil().max(1.0) as i32;
    let powers = (first..=last).filter(|power| power.rem_euclid(every) == 0);
    let tick = |power: i32, digit: f64| {
        let value = digit * 10_f64.powi(power);
        Tick { at: value.log10(), label: significant(value) }
    };
    powers.flat_map(|power| digits.iter().map(move |digit| tick(power, *digit))).collect()
}

/// A value to four significant digits at most, short whatever its size.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e12).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trimmed(digits));
    }
    let decimals = if size == 0.0 { 0.0 } else { 3.0 - size.log10().floor() };
    written(value, 10_f64.powf(-decimals))
}

/// A multiple of `step`, with as many digits as tell it from the next one.
fn written(value: f64, step: f64) -> String {
    let (divisor, suffix) = match value.abs().max(step.abs()) {
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / divisor).log10()).ceil().clamp(0.0, 6.0) as usize;
    let text = format!("{:.decimals$}", value / divisor);
    let text = trimmed(&text);
    if matches!(text, "0" | "-0") { "0".to_owned() } else { format!("{text}{suffix}") }
}

/// Without zeros at the end of a fraction.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: [f64; 2], ticks: usize) -> Vec<String> {
        Ruler::new(axis, values, ticks).ticks().map(|(_, label)| label.to_owned()).collect()
    }

    #[test]
    fn ticks_stand_at_round_values() {
        let linear = Axis::linear("");
        assert_eq!(labels(&linear, [0.0, 1_000_000.0], 5), ["0", "200k", "400k", "600k", "800k", "1M"]);
        assert_eq!(labels(&linear, [-0.3, 0.31], 4), ["-0.2", "0", "0.2"]);
        assert_eq!(labels(&linear, [10.0, 226.0], 5), ["50", "100", "150", "200"]);
        assert_eq!(labels(&linear, [1.25, 1.75], 5), ["1.3", "1.4", "1.5", "1.6", "1.7"]);
        let log = Axis::log("");
        assert_eq!(labels(&log, [1e-5, 1e-2], 6), ["1e-5", "1e-4", "0.001", "0.01"]);
        assert_eq!(labels(&log, [16.0, 260.0], 6), ["20", "50", "100", "200"]);
        assert_eq!(labels(&log, [1e-12, 1.0], 4), ["1e-12", "1e-9", "1e-6", "0.001", "1"]);
    }

    #[test]
    fn an_axis_fits_whatever_it_is_given() {
        let empty = Ruler::new(&Axis::linear(""), [], 5);
        assert_eq!(empty.share(0.5), Some(0.5));
        let single = Ruler::new(&Axis::linear(""), [200.0], 5);
        assert_eq!(single.share(200.0), Some(0.5));
        let log = Ruler::new(&Axis::log(""), [1e-4, 0.0, f64::NAN, 1e-2], 5);
        assert_eq!(log.share(0.0), None);
        assert!((log.share(1e-3).unwrap() - 0.5).abs() < 1e-12);
        let names = Axis { label: String::new(), scale: Scale::Names(vec!["a".to_owned(), "b".to_owned()]) };
        assert_eq!(Ruler::new(&names, [], 5).share(0.0), Some(0.25));
    }

    #[test]
    fn values_are_written_shortly() {
        let written = [225.94, 0.012_346, 12_346.0, 1e-6, 0.0, -3.5, 1_250_000.0].map(significant);
        assert_eq!(written, ["225.9", "0.01235", "12.35k", "1e-6", "0", "-3.5", "1.25M"]);
    }
}

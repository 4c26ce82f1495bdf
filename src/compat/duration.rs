//! Durations of ISO 8601, as far as the Personalizer's contracts use them: days, hours, minutes and seconds.

/// Milliseconds of a duration such as `PT10M` or `P1DT12H`; `None` where it is none, or has years or months, whose length
/// depends on the calendar.
pub fn parse(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None if rest.is_empty() => return None,
        None => (rest, ""),
    };
    let mut milliseconds = 0.0;
    for (part, units) in
        [(days, &[('W', 604_800.0), ('D', 86_400.0)][..]), (time, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])]
    {
        let mut units = units.iter();
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
            let letter = rest[end..].chars().next()?;
            // Each unit once, in this order.
            let (_, seconds) = units.find(|(unit, _)| *unit == letter)?;
            let digits = &rest[..end];
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let number: f64 = digits.parse().ok().filter(|_| plain)?;
            milliseconds += number * seconds * 1000.0;
            rest = &rest[end + 1..];
        }
    }
    (milliseconds <= 1e15).then_some(milliseconds.round() as u64)
}

/// The duration of so many milliseconds, in its usual form.
pub fn write(milliseconds: u64) -> String {
    let (days, rest) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, (rest % 60_000) as f64 / 1000.0);
    let part = |number: u64, letter: char| if number == 0 { String::new() } else { format!("{number}{letter}") };
    let seconds = if seconds == 0.0 { String::new() } else { format!("{seconds}S") };
    let time = part(hours, 'H') + &part(minutes, 'M') + &seconds;
    match (part(days, 'D'), time.is_empty()) {
        (days, true) if days.is_empty() => "PT0S".to_owned(),
        (days, true) => format!("P{days}"),
        (days, false) => format!("P{days}T{time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, milliseconds) in [
            ("PT10M", 600_000),
            ("PT5S", 5_000),
            ("PT0.5S", 500),
            ("P1D", 86_400_000),
            ("P1DT12H30M", 131_400_000),
            ("PT0S", 0),
        ] {
            assert_eq!(parse(text), Some(milliseconds), "{text}");
            assert_eq!(write(milliseconds), text);
        }
        assert_eq!(parse("P2W"), parse("P14D"));
        assert_eq!(parse("PT90M"), parse("PT1H30M"));
        for bad in ["", "P", "PT", "10M", "PT10", "P1Y", "P1M", "PT1S1M", "PT-1S", "PT1e3S", "P1DT", "PT1M1M", "PTé"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

//! The best that can be had of long-term satisfaction.

use super::LongTermSatisfactionSettings;

/// Points of the exposure between which values are interpolated.
const GRID: usize = 1501;
/// Clickbait scores of each range.
const SCORES: usize = 100;

impl LongTermSatisfactionSettings {
    /// The best possible mean return of an episode, with full knowledge of the user: dynamic programming backwards over the
    /// steps, on a grid of the exposure, of `V_t(x) = E max_c (E engagement(x, c) + V_{t+1}(m x - 2 (c - 1/2)))`. The expected
    /// maximum over the candidates drawn is exact for scores on a grid: the distribution of the maximum is the product of those
    /// of the candidates.
    ///
    /// `None` where it is not computed: candidates that are not drawn anew, slates of which the first is not chosen freely, a
    /// first exposure that is drawn, or noise of the exposure above 0.001.
    #[must_use]
    pub fn optimum(&self) -> Option<f64> {
        let first = self.first_exposure.filter(|_| self.resample_documents && self.innovation_stddev <= 1e-3)?;
        let ranges = &self.clickbait_ranges;
        let counts: Vec<i32> = (0..ranges.len())
            .map(|range| (0..self.candidates).filter(|candidate| candidate % ranges.len() == range).count() as i32)
            .collect();
        let scores: Vec<(usize, f64)> = ranges
            .iter()
            .enumerate()
            .flat_map(|(range, [least, greatest])| {
                (0..SCORES).map(move |place| (range, least + (greatest - least) * (place as f64 + 0.5) / SCORES as f64))
            })
            .collect();
        let bound = first.abs().max(1.0 / (1.0 - self.memory_discount));
        let step = 2.0 * bound / (GRID - 1) as f64;
        let mut values = vec![0.0; GRID];
        let at = |values: &[f64], x: f64| {
            let place = ((x + bound) / step).clamp(0.0, (GRID - 1) as f64);
            let below = (place as usize).min(GRID - 2);
            let share = place - below as f64;
            values[below] * (1.0 - share) + values[below + 1] * share
        };
        for _ in 0..self.time_budget {
            let value = |point: usize| {
                let x = -bound + step * point as f64;
                let satisfaction = 1.0 / (1.0 + (-self.sensitivity * x).exp());
                let worth = |&(range, c): &(usize, f64)| {
                    let mean = (c * self.choc_mean + (1.0 - c) * self.kale_mean) * satisfaction;
                    let deviation = c * self.choc_stddev + (1.0 - c) * self.kale_stddev;
                    let engagement = (mean + deviation * deviation / 2.0).exp();
                    (engagement + at(&values, self.memory_discount * x - 2.0 * (c - 0.5)), range)
                };
                let mut worths: Vec<(f64, usize)> = scores.iter().map(worth).collect();
                worths.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
                let mut below = vec![0_usize; ranges.len()];
                let (mut before, mut expected) = (0.0, 0.0);
                for (worth, range) in worths {
                    below[range] += 1;
                    let share = |(below, count): (&usize, &i32)| (*below as f64 / SCORES as f64).powi(*count);
                    let distribution: f64 = below.iter().zip(&counts).map(share).product();
                    expected += worth * (distribution - before);
                    before = distribution;
                }
                expected
            };
            values = (0..GRID).map(value).collect();
        }
        Some(at(&values, first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tutorials_is_the_known_one() {
        let tutorial = LongTermSatisfactionSettings::tutorial();
        let found = tutorial.optimum().unwrap();
        assert!((found - 225.98).abs() < 0.3, "{found}");
        // Whoever never minds gets the sweetest every time: E exp(5 c / 2) over the maximum of ten draws from 0.8 to 1.
        let never = LongTermSatisfactionSettings { sensitivity: 0.0, ..tutorial.clone() };
        let density = |u: f64| 10.0 * u.powi(9) * (2.5 * (0.8 + 0.2 * u)).exp();
        let by_hand: f64 = (0..10_000).map(|place| density((f64::from(place) + 0.5) / 1e4) / 1e4).sum::<f64>() * 10.0;
        assert!((never.optimum().unwrap() - by_hand).abs() < 0.1, "{:?} {by_hand}", never.optimum());
        assert_eq!(LongTermSatisfactionSettings { first_exposure: None, ..tutorial }.optimum(), None);
    }
}

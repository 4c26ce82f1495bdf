//! Picking the next settings to try.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::SearchSpace;
use super::space::Domain;

/// What picks the next settings to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerSettings {
    /// Independent draws from the space.
    Random {},
    /// Every combination of evenly spread values.
    Grid {
        /// Values of each parameter, at most; a choice is tried whole.
        #[serde(default = "points")]
        points: u64,
    },
    /// Tree-structured Parzen estimator (Bergstra, Bardenet, Bengio & Kégl 2011, NeurIPS 24): each parameter is drawn
    /// where the density of the best tenth of the trials is greatest over that of the others.
    Tpe {
        /// Random trials before the first estimate.
        #[serde(default = "startup")]
        startup: u64,
    },
}

const fn points() -> u64 {
    5
}

const fn startup() -> u64 {
    10
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self::Tpe { startup: startup() }
    }
}

/// One coordinate of each parameter's span.
pub type Point = Vec<f64>;

impl SamplerSettings {
    /// The point of a trial, from `ranked`: the points tried so far, the best first.
    pub fn suggest(&self, space: &SearchSpace, seed: u64, trial: u64, ranked: &[&Point]) -> Point {
        // A stream for each trial, so that a trial's draws do not depend on how many others took.
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(trial);
        let domains = space.parameters().iter().map(|parameter| &parameter.domain);
        match self {
            Self::Grid { points } => {
                // The last parameter changes first.
                let mut index = trial as usize;
                let mut point: Point = domains
                    .rev()
                    .map(|domain| {
                        let levels = domain.levels(*points);
                        let level = index % levels.len();
                        index /= levels.len();
                        levels[level]
                    })
                    .collect();
                point.reverse();
                point
            }
            Self::Tpe { startup } if ranked.len() as u64 >= (*startup).max(1) => domains
                .enumerate()
                .map(|(parameter, domain)| {
                    let tried = ranked.iter().map(|point| point[parameter]);
                    estimate(domain, tried, &mut generator).unwrap_or_else(|| draw(domain, &mut generator))
                })
                .collect(),
            Self::Random {} | Self::Tpe { .. } => domains.map(|domain| draw(domain, &mut generator)).collect(),
        }
    }
}

fn draw(domain: &Domain, generator: &mut ChaCha8Rng) -> f64 {
    let (low, high) = domain.span();
    generator.random_range(low..high)
}

/// The coordinate that the estimator suggests after those tried so far, the best first.
fn estimate(domain: &Domain, tried: impl Iterator<Item = f64>, generator: &mut ChaCha8Rng) -> Option<f64> {
    let (low, high) = domain.span();
    let estimator =
        if matches!(domain, Domain::Choice(_)) { tpe::histogram_estimator() } else { tpe::parzen_estimator() };
    let mut optimizer = tpe::TpeOptimizer::new(estimator, tpe::range(low, high).ok()?);
    for (rank, coordinate) in tried.enumerate() {
        optimizer.tell(coordinate, rank as f64).ok()?;
    }
    optimizer.ask(generator).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        let text = "kind = { choice = [\"a\", \"b\", \"c\"] }\nrate = { log_uniform = [1e-5, 1e-1] }\n\
                    size = { integer = [1, 20] }\nshare = { uniform = [0, 1] }";
        text.parse::<toml::Table>().unwrap().try_into().unwrap()
    }

    /// Least at kind b, rate 1e-3, size 12 and share 0.3, in the order of the parameters' paths.
    fn loss(space: &SearchSpace, point: &Point) -> f64 {
        let [kind, rate, share, size] = &point[..] else { panic!("another space") };
        let is_b = space.parameters()[0].domain.value(*kind).as_str() == Some("b");
        (if is_b { 0.0 } else { 1.0 })
            + (rate - 1e-3_f64.ln()).powi(2) / 10.0
            + (share - 0.3).powi(2)
            + ((size - 12.0) / 10.0).powi(2)
    }

    /// The least loss of so many trials.
    fn best(sampler: SamplerSettings, seed: u64, trials: u64) -> f64 {
        let space = space();
        let mut tried: Vec<(f64, Point)> = Vec::new();
        for trial in 0..trials {
            let ranked: Vec<_> = tried.iter().map(|(_, point)| point).collect();
            let point = sampler.suggest(&space, seed, trial, &ranked);
            tried.push((loss(&space, &point), point));
            tried.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        tried[0].0
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    #[test]
    fn estimating_finds_a_known_minimum_better_than_chance() {
        let runs = |sampler| median((0..15).map(|seed| best(sampler, seed, 80)).collect());
        let (random, tpe) = (runs(SamplerSettings::Random {}), runs(SamplerSettings::default()));
        assert!(tpe < 0.5 * random, "random comes to {random}, the estimator to {tpe}");
    }

    #[test]
    fn a_trial_is_drawn_alike_whatever_came_before() {
        let (space, sampler) = (space(), SamplerSettings::Random {});
        let point = sampler.suggest(&space, 1, 7, &[]);
        assert_eq!(point, sampler.suggest(&space, 1, 7, &[&point]));
        assert_ne!(point, sampler.suggest(&space, 1, 8, &[]));
        assert_ne!(point, sampler.suggest(&space, 2, 7, &[]));
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let space = space();
        let grid = SamplerSettings::Grid { points: 2 };
        let mut points: Vec<_> = (0..24).map(|trial| grid.suggest(&space, 1, trial, &[])).collect();
        assert_eq!(points[1][3], 20.0, "the last parameter changes first");
        points.sort_by(|a, b| a.partial_cmp(b).unwrap());
        points.dedup();
        assert_eq!(points.len(), 3 * 2 * 2 * 2);
    }
}

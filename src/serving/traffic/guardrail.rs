//! What a canary must keep to, and the running figures that say whether it does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of a version on trial; those that are absent are not looked at, save the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guardrails {
    /// The greatest share of its requests that may fail.
    #[schema(example = 0.01, minimum = 0, maximum = 1)]
    pub max_error_rate: Option<f64>,
    /// At most one in a hundred of its requests may take longer than this, in milliseconds.
    #[schema(example = 50.0, minimum = 0)]
    pub max_p99_ms: Option<f64>,
    /// How much less mean reward a decision it may have than the version beside it; looked at once it is certain.
    #[schema(example = 0.0, minimum = 0)]
    pub max_reward_loss: Option<f64>,
    /// The probability with which a version as good as the other is taken back for its reward, over the whole trial.
    #[schema(example = 0.05, minimum = 1e-9, maximum = 0.5)]
    pub error_probability: f64,
    /// Requests before any of these is looked at.
    #[schema(example = 100, format = "uint64")]
    pub min_requests: u64,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            max_error_rate: Some(0.01),
            max_p99_ms: None,
            max_reward_loss: Some(0.0),
            error_probability: 0.05,
            min_requests: 100,
        }
    }
}

impl Guardrails {
    /// Checks the limits.
    ///
    /// # Errors
    /// The limit that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: Option<f64>, least: f64, most: f64| match value {
            Some(value) if !(value >= least && value <= most) => {
                Err(format!("`{name}` is {value}, allowed are {least} to {most}"))
            }
            _ => Ok(()),
        };
        within("max_error_rate", self.max_error_rate, 0.0, 1.0)?;
        within("max_p99_ms", self.max_p99_ms, 0.0, f64::MAX)?;
        within("max_reward_loss", self.max_reward_loss, 0.0, f64::MAX)?;
        within("error_probability", Some(self.error_probability), 1e-9, 0.5)
    }

    /// Why a canary is to be taken back, if it is.
    #[must_use]
    pub fn breach(&self, canary: &Figures, baseline: &Figures) -> Option<String> {
        let requests = canary.requests;
        if requests < self.min_requests.max(1) {
            return None;
        }
        if let Some(most) = self.max_error_rate {
            let rate = canary.errors as f64 / requests as f64;
            if rate > most {
                return Some(format!("error rate {rate:.4} over {requests} requests, allowed is {most}"));
            }
        }
        if let Some(limit) = self.max_p99_ms {
            let slow = canary.slow as f64 / requests as f64;
            if slow > 0.01 {
                return Some(format!("{slow:.4} of {requests} requests took longer than {limit} ms, allowed is 0.01"));
            }
        }
        let most = self.max_reward_loss?;
        // Half of the probability each; with no decision on one side its radius is infinite.
        let radius = |figures: &Figures| figures.rewards.radius(self.error_probability / 2.0);
        let (ours, theirs) = (canary.rewards.mean(), baseline.rewards.mean());
        let highest = ours - theirs + radius(canary) + radius(baseline);
        (highest < -most).then(|| {
            format!(
                "mean reward {ours:.5} over {} decisions against {theirs:.5} over {}: lower by at least {:.5}, allowed \
                 is {most}",
                canary.rewards.count, baseline.rewards.count, -highest
            )
        })
    }
}

/// What came of one version's requests since the route was last changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    /// Requests.
    #[schema(example = 1200)]
    pub requests: u64,
    /// Those that failed.
    #[schema(example = 0)]
    pub errors: u64,
    /// Those that took longer than the guardrail's limit.
    #[schema(example = 3)]
    pub slow: u64,
    /// The rewards of its decisions.
    pub rewards: Rewards,
}

/// Running moments of the reward of a decision. A decision without feedback so far has the reward 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rewards {
    /// Decisions.
    #[schema(example = 1200)]
    pub count: u64,
    /// Sum of their rewards.
    #[schema(example = 61.0)]
    pub sum: f64,
    /// Sum of the squares.
    #[schema(example = 61.0)]
    pub squares: f64,
}

impl Rewards {
    /// A decision was made.
    pub const fn decide(&mut self) {
        self.count += 1;
    }

    /// A decision's reward became `after`, from `before`.
    pub fn change(&mut self, before: f64, after: f64) {
        self.sum += after - before;
        self.squares += after * after - before * before;
    }

    /// Mean reward of a decision; 0 where there is none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The radius of a confidence sequence for the mean, which holds at all times at once with probability
    /// `1 - alpha`, however often it is looked at:
    /// `sd sqrt(2 (t r^2 + 1) / (t^2 r^2) ln(sqrt(t r^2 + 1) / alpha))` with t decisions; r is chosen so that it is
    /// narrowest at about 1,000 (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, arXiv:2103.06476, theorem 2.2).
    #[must_use]
    pub fn radius(&self, alpha: f64) -> f64 {
        const NARROWEST: f64 = 1_000.0;
        if self.count < 2 {
            return f64::INFINITY;
        }
        let t = self.count as f64;
        let variance = (self.squares / t - self.mean().powi(2)).max(0.0);
        let log = -2.0 * alpha.ln();
        let r2 = (log + log.ln() + 1.0) / NARROWEST;
        let scaled = t * r2 + 1.0;
        (variance * 2.0 * scaled / (t * t * r2) * (scaled.sqrt() / alpha).ln()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn figures(requests: u64, errors: u64, slow: u64) -> Figures {
        Figures { requests, errors, slow, ..Figures::default() }
    }

    #[test]
    fn errors_and_latency_break_after_enough_requests() {
        let guardrails = Guardrails { max_p99_ms: Some(20.0), ..Guardrails::default() };
        let fine = Figures::default();
        assert_eq!(guardrails.breach(&figures(99, 99, 99), &fine), None);
        assert_eq!(guardrails.breach(&figures(200, 2, 2), &fine), None);
        assert!(guardrails.breach(&figures(200, 3, 0), &fine).is_some_and(|why| why.contains("error rate")));
        assert!(guardrails.breach(&figures(200, 0, 3), &fine).is_some_and(|why| why.contains("20 ms")));
    }

    /// Feeds two versions decision by decision and looks each time, as the service does.
    fn trial(seed: u64, rates: [f64; 2], decisions: u64) -> bool {
        let guardrails = Guardrails { min_requests: 1, ..Guardrails::default() };
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut arms = [Figures::default(); 2];
        for _ in 0..decisions {
            for (arm, rate) in arms.iter_mut().zip(rates) {
                arm.requests += 1;
                arm.rewards.decide();
                if generator.random::<f64>() < rate {
                    arm.rewards.change(0.0, 1.0);
                }
            }
            if guardrails.breach(&arms[0], &arms[1]).is_some() {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_worse_canary_is_found_and_an_equal_one_is_left_however_often_it_is_looked_at() {
        let found = (0..50).filter(|&seed| trial(seed, [0.10, 0.20], 3_000)).count();
        assert!(found >= 48, "{found} of 50 worse canaries were found");
        let wronged = (0..200).filter(|&seed| trial(seed, [0.15, 0.15], 3_000)).count();
        assert!(wronged <= 10, "{wronged} of 200 equal canaries were taken back; 5 % is the promise");
    }
}

//! A window of the log, and two of them compared.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::features::{self, FeatureDrift, FeatureSample};
use super::propensities::{PropensityDrift, Sums};
use super::rewards::{self, RewardDrift, Sessions};
use super::settings::DriftSettings;
use crate::dataset::Round;

/// What is kept of a window, round by round: bounded but for a few numbers a session.
#[derive(Debug, Clone, Default)]
pub struct DriftWindow {
    features: FeatureSample,
    propensities: Sums,
    sessions: Sessions,
    until: Option<DateTime<Utc>>,
}

/// What changed from one window to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// By feature.
    pub features: Vec<FeatureDrift>,
    /// Propensities.
    pub propensities: PropensityDrift,
    /// By version that decided in both.
    pub rewards: Vec<RewardDrift>,
}

impl DriftWindow {
    /// Adds a round, in the order of time.
    pub fn add(&mut self, round: &Round, settings: &DriftSettings) {
        self.features.add(&round.decision, settings.sample);
        self.propensities.add(&round.decision);
        self.sessions.add(round);
        self.until = Some(round.decision.time);
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.until.is_none()
    }
}

impl Drift {
    /// Whether a feature drifted.
    #[must_use]
    pub fn of_features(&self) -> bool {
        self.features.iter().any(|feature| feature.drifted)
    }

    /// Whether a reward drifted.
    #[must_use]
    pub fn of_rewards(&self) -> bool {
        self.rewards.iter().any(|reward| reward.drifted)
    }
}

/// Compares today's window with what a policy learned from, and its rewards with those `before`. Sessions with a decision in
/// the last `open_seconds` may go on, and their rewards are left out.
#[must_use]
pub fn compare(
    learned: &DriftWindow,
    before: &DriftWindow,
    current: &DriftWindow,
    open_seconds: f64,
    settings: &DriftSettings,
) -> Drift {
    let open = TimeDelta::milliseconds((1e3 * open_seconds) as i64);
    let until = current.until.map_or(DateTime::<Utc>::MIN_UTC, |until| until - open);
    Drift {
        features: features::compare(&learned.features, &current.features, settings),
        propensities: PropensityDrift {
            reference: learned.propensities.figures(),
            current: current.propensities.figures(),
        },
        rewards: rewards::compare(&before.sessions, &current.sessions, until, settings),
    }
}

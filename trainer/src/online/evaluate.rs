//! The return of the greedy policy, in episodes that it does not learn from.

use slated_contract::feature::FeatureSchema;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use crate::env::EnvironmentSettings;
use crate::learner::Learner;
use crate::rollout::{Actor, Model, Rollout, RolloutError, Summary};

/// What a policy is measured in.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    pub environment: EnvironmentSettings,
    pub features: FeatureSchema,
    pub session: SessionSettings,
}

impl Measure {
    /// The return of the learner's greedy policy in so many episodes.
    pub fn greedy(&self, learner: &dyn Learner, episodes: usize, seed: u64) -> Result<Summary, RolloutError> {
        let scorer = || Ok(learner.scorer());
        let model = Model {
            features: &self.features,
            session: &self.session,
            exploration: Exploration::Greedy,
            objective: learner.objective(),
            noise: None,
            scorer: &scorer,
        };
        let environment = || self.environment.build();
        let episodes = Rollout::new(&environment, episodes as u64, seed).run(&[Actor::Model(model).into()])?;
        let returns: Vec<f64> = episodes.iter().map(|episode| episode.total_reward).collect();
        Ok(Summary::of(&returns))
    }
}

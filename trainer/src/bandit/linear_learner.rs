//! The learner of the bandits that are one ridge regression: they differ in what they make of its posterior.

use super::{
    BanditError, BanditLearner, BanditModel, Example, FeatureMap, Interaction, LinearPosterior, LinearStatistics,
    Widths,
};
use crate::learner::{Checkpoint, CheckpointError};

/// The most features: the statistics are their square.
pub(super) const MAX_WIDTH: usize = 4096;

/// Gathers [`LinearStatistics`] over phi(s, a), and makes a model of their posterior at the end.
pub(super) struct LinearLearner {
    map: FeatureMap,
    lambda: f64,
    statistics: LinearStatistics,
    model: Box<dyn Fn(FeatureMap, LinearPosterior) -> Box<dyn BanditModel>>,
}

impl LinearLearner {
    pub fn new(
        interaction: Interaction,
        lambda: f64,
        widths: Widths,
        model: impl Fn(FeatureMap, LinearPosterior) -> Box<dyn BanditModel> + 'static,
    ) -> Result<Self, BanditError> {
        let map = map_of(interaction, widths, MAX_WIDTH, String::new())?;
        Ok(Self { map, lambda, statistics: LinearStatistics::new(map.width()), model: Box::new(model) })
    }
}

/// The features, if there are at most `most`; `of` says in the message with what.
pub(super) fn map_of(
    interaction: Interaction,
    widths: Widths,
    most: usize,
    of: String,
) -> Result<FeatureMap, BanditError> {
    let Widths { state, item } = widths;
    let map = FeatureMap { interaction, state_width: state, item_width: item };
    let width = map.width();
    if width > most { Err(BanditError::Width { state, item, width, most, of }) } else { Ok(map) }
}

impl BanditLearner for LinearLearner {
    fn add(&mut self, example: &Example) -> Result<(), BanditError> {
        self.statistics.add(example.reward, |phi| self.map.extend(example.state, example.item, phi));
        Ok(())
    }

    fn settle(&mut self) -> Result<(), BanditError> {
        self.statistics.flush_full();
        Ok(())
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.statistics.save(checkpoint);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.statistics = LinearStatistics::restored(checkpoint, self.map.width())?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Box<dyn BanditModel>, BanditError> {
        let posterior = self.statistics.posterior(self.lambda)?;
        Ok((self.model)(self.map, posterior))
    }
}

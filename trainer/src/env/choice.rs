//! How a user chooses from a slate.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::EnvironmentError;
use super::settings::require;

/// A choice model: from the value v of each item of a slate to the item that is consumed, or none. RecSim's four.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChoiceModel {
    /// Item i with probability `exp(v_i) / (exp(no_click_mass) + sum_j exp(v_j))`.
    MultinomialLogit {
        /// The value of choosing nothing.
        no_click_mass: f64,
    },
    /// Item i with probability `(v_i - m) / (no_click_mass - m + sum_j (v_j - m))`, m the least value.
    MultinomialProportional {
        /// m, subtracted so that no weight is negative; at most the least value that an item can have.
        min_normalizer: f64,
        /// The value of choosing nothing.
        no_click_mass: f64,
    },
    /// Looks at the items in order, stopping at the first that is chosen: with probability
    /// `attention_prob score_scaling exp(v_i)` each.
    ExponentialCascade {
        /// The probability of looking at an item at all.
        attention_prob: f64,
        /// Scales values to probabilities; what exceeds 1 counts as 1.
        score_scaling: f64,
    },
    /// Likewise, with probability `attention_prob score_scaling (v_i - m)` each, m the least value.
    ProportionalCascade {
        /// The probability of looking at an item at all.
        attention_prob: f64,
        /// Scales values to probabilities; what exceeds 1 counts as 1.
        score_scaling: f64,
        /// m, as for [`ChoiceModel::MultinomialProportional`].
        min_normalizer: f64,
    },
}

impl ChoiceModel {
    /// Checks the parameters, for items whose value is at least `least`.
    ///
    /// # Errors
    /// The first parameter outside its range.
    pub fn check(&self, least: f64) -> Result<(), EnvironmentError> {
        let normalizer = |m: f64| {
            let allowed = format!("it must be finite and at most {least}, the least value an item can have");
            require(m.is_finite() && m <= least, "choice.min_normalizer", m, allowed)
        };
        let cascade = |attention: f64, scaling: f64| {
            let is_probability = (0.0..=1.0).contains(&attention);
            require(is_probability, "choice.attention_prob", attention, "allowed are 0 to 1")?;
            let holds = scaling.is_finite() && scaling >= 0.0;
            require(holds, "choice.score_scaling", scaling, "it must be finite and at least 0")
        };
        match *self {
            Self::MultinomialLogit { no_click_mass } => {
                require(no_click_mass.is_finite(), "choice.no_click_mass", no_click_mass, "it must be finite")
            }
            Self::MultinomialProportional { min_normalizer, no_click_mass } => {
                normalizer(min_normalizer)?;
                let allowed = "it must be finite and at least `choice.min_normalizer`";
                let holds = no_click_mass.is_finite() && no_click_mass >= min_normalizer;
                require(holds, "choice.no_click_mass", no_click_mass, allowed)
            }
            Self::ExponentialCascade { attention_prob, score_scaling } => cascade(attention_prob, score_scaling),
            Self::ProportionalCascade { attention_prob, score_scaling, min_normalizer } => {
                normalizer(min_normalizer)?;
                cascade(attention_prob, score_scaling)
            }
        }
    }

    /// Writes the weight of each item into `weights` and returns the weight of choosing nothing: each is chosen with
    /// probability proportional to its weight. All are at least 0.
    pub fn weights(&self, values: &[f64], weights: &mut Vec<f64>) -> f64 {
        weights.clear();
        match *self {
            Self::MultinomialLogit { no_click_mass } => {
                let greatest = values.iter().copied().fold(no_click_mass, f64::max);
                weights.extend(values.iter().map(|value| (value - greatest).exp()));
                let nothing = (no_click_mass - greatest).exp();
                let total = nothing + weights.iter().sum::<f64>();
                weights.iter_mut().for_each(|weight| *weight /= total);
                nothing / total
            }
            Self::MultinomialProportional { min_normalizer, no_click_mass } => {
                weights.extend(values.iter().map(|value| value - min_normalizer));
                no_click_mass - min_normalizer
            }
            Self::ExponentialCascade { attention_prob, score_scaling } => {
                cascade(attention_prob, values.iter().map(|value| score_scaling * value.exp()), weights)
            }
            Self::ProportionalCascade { attention_prob, score_scaling, min_normalizer } => {
                cascade(attention_prob, values.iter().map(|value| score_scaling * (value - min_normalizer)), weights)
            }
        }
    }

    /// Draws the position that is chosen; `weights` is scratch.
    pub fn choose(&self, values: &[f64], weights: &mut Vec<f64>, generator: &mut ChaCha8Rng) -> Option<usize> {
        let nothing = self.weights(values, weights);
        let total = nothing + weights.iter().sum::<f64>();
        let mut left = generator.random::<f64>() * total;
        weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        })
    }

    /// The greatest weight that an item of value `value` can have.
    pub(super) fn greatest_weight(&self, value: f64) -> f64 {
        match *self {
            Self::MultinomialProportional { min_normalizer, .. } => value - min_normalizer,
            _ => 1.0,
        }
    }
}

fn cascade(attention: f64, scores: impl Iterator<Item = f64>, weights: &mut Vec<f64>) -> f64 {
    let mut reached = 1.0;
    weights.extend(scores.map(|score| {
        let chosen = attention * score.min(1.0);
        let weight = reached * chosen;
        reached *= 1.0 - chosen;
        weight
    }));
    reached
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Shares of choices in 100,000 draws, the last of choosing nothing.
    fn shares(model: ChoiceModel, values: &[f64]) -> Vec<f64> {
        let mut generator = ChaCha8Rng::seed_from_u64(3);
        let mut counts = vec![0.0; values.len() + 1];
        for _ in 0..100_000 {
            let chosen = model.choose(values, &mut Vec::new(), &mut generator);
            counts[chosen.unwrap_or(values.len())] += 1e-5;
        }
        counts
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        // Five standard errors.
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 0.008), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn items_are_chosen_as_often_as_the_formulas_say() {
        let values = [0.5, -1.0];
        let logit = ChoiceModel::MultinomialLogit { no_click_mass: 1.0 };
        let total = 1_f64.exp() + 0.5_f64.exp() + (-1_f64).exp();
        assert_near(&shares(logit, &values), &[0.5_f64.exp() / total, (-1_f64).exp() / total, 1_f64.exp() / total]);
        let proportional = ChoiceModel::MultinomialProportional { min_normalizer: -1.0, no_click_mass: 1.0 };
        assert_near(&shares(proportional, &values), &[1.5 / 3.5, 0.0, 2.0 / 3.5]);
        let exponential = ChoiceModel::ExponentialCascade { attention_prob: 0.5, score_scaling: 0.4 };
        let (first, second) = (0.2 * 0.5_f64.exp(), 0.2 * (-1_f64).exp());
        assert_near(&shares(exponential, &values), &[first, (1.0 - first) * second, (1.0 - first) * (1.0 - second)]);
        let cascade =
            ChoiceModel::ProportionalCascade { attention_prob: 0.5, score_scaling: 2.0, min_normalizer: -1.5 };
        // The first score, 4, counts as 1.
        assert_near(&shares(cascade, &values), &[0.5, 0.25, 0.25]);
    }

    #[test]
    fn nothing_is_chosen_where_nothing_weighs() {
        let model = ChoiceModel::MultinomialProportional { min_normalizer: -1.0, no_click_mass: -1.0 };
        assert_eq!(shares(model, &[-1.0, -1.0])[2].round(), 1.0);
    }

    #[test]
    fn a_normalizer_above_the_least_value_is_refused() {
        let model = ChoiceModel::MultinomialProportional { min_normalizer: -0.5, no_click_mass: 1.0 };
        assert!(model.check(-1.0).unwrap_err().to_string().contains("`choice.min_normalizer` is -0.5"));
    }
}

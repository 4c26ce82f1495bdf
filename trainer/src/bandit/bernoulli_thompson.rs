//! Bernoulli Thompson sampling: each item drawn from the beta posterior of its rate.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::Exploration;
use slated_contract::tensor::{NOISE, SCORES, Signature};

use super::beta::quantile_log_odds;
use super::learner::within;
use super::table::{Arm, Table, TableLearner, TableRule, place, place_of, places, signature};
use super::{BanditError, BanditLearner, BanditModel, BanditSettings, Example, Widths};
use crate::logistic::sigmoid;
use crate::onnx::{GraphBuilder, OnnxError};

/// Points of the normal distribution at which the quantiles are tabulated, from `-REACH` to `REACH`.
const POINTS: usize = 33;
const REACH: f64 = 4.0;

/// Settings of [`BernoulliThompson`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BernoulliThompsonSettings {
    /// Successes that every item is credited with beforehand.
    pub successes: f64,
    /// Failures that every item is charged with beforehand.
    pub failures: f64,
    /// How many places the items that were never shown share, by the hash of their id; those of a place are drawn alike.
    pub spare: u32,
}

impl Default for BernoulliThompsonSettings {
    fn default() -> Self {
        Self { successes: 1.0, failures: 1.0, spare: 64 }
    }
}

impl BanditSettings for BernoulliThompsonSettings {
    fn problem(&self) -> Option<String> {
        let shape = |key: &str, value: f64| {
            (!(value.is_finite() && (0.1..=1e6).contains(&value)))
                .then(|| format!("`algorithm.{key}` is {value}, allowed are 0.1 to 1,000,000"))
        };
        shape("successes", self.successes)
            .or_else(|| shape("failures", self.failures))
            .or_else(|| within("spare", self.spare as usize, 1, 1024))
    }

    fn exploration(&self) -> Exploration {
        Exploration::PosteriorSampling { draws: 100 }
    }

    fn reads_features(&self) -> bool {
        false
    }

    fn kept(&self) -> Value {
        json!({"state": "table"})
    }

    fn learner(&self, _: Widths, _: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        Ok(Box::new(TableLearner::new(self.clone())))
    }
}

impl TableRule for BernoulliThompsonSettings {
    const ALGORITHM: &'static str = "bernoulli_thompson";
    /// A decision takes a normal number for each, and for each of its draws.
    const MOST: usize = 4096;

    fn spare(&self) -> u32 {
        self.spare
    }

    fn check(&self, example: &Example) -> Result<(), BanditError> {
        if (0.0..=1.0).contains(&example.reward) {
            return Ok(());
        }
        Err(BanditError::Reward {
            decision_id: example.decision_id.to_owned(),
            item: example.item_id.to_owned(),
            reward: example.reward,
        })
    }

    fn model(&self, table: &Table) -> Result<Box<dyn BanditModel>, BanditError> {
        // A state that another table's bandit left may hold any reward.
        let fits = |arm: &Arm| arm.reward >= 0.0 && arm.reward <= arm.plays as f64;
        if let Some((item, _)) = table.iter().find(|(_, arm)| !fits(arm)) {
            return Err(BanditError::Rewards(item.clone()));
        }
        let posterior = |arm: Arm| (self.successes + arm.reward, self.failures + arm.plays as f64 - arm.reward);
        Ok(Box::new(BernoulliThompson::new(places(table, self.spare).into_iter().map(posterior))))
    }
}

/// `score(a) = Q_a(Phi(z_a))`: a draw of a's rate from its posterior `Beta(successes, failures)`, as its quantile Q at a
/// uniform number (Thompson 1933, doi:10.1093/biomet/25.3-4.285; Chapelle & Li 2011, "An empirical evaluation of Thompson
/// sampling"). z is the model's `noise`, one number for each place of the table.
///
/// A reward r between 0 and 1 counts as r of a success. The graph holds the log odds of Q at 33 points of z from -4 to 4
/// and interpolates linearly between them, where they are smooth: the probability that one item is drawn above another is
/// within 0.002 of the exact posterior's (measured by this file's test).
#[derive(Debug, Clone, PartialEq)]
pub struct BernoulliThompson {
    /// `[places, POINTS]`: the log odds of the quantiles.
    log_odds: Vec<Vec<f64>>,
}

impl BernoulliThompson {
    /// The model of beta posteriors `(successes, failures)` by place.
    pub fn new(posteriors: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let point = |at: usize| -REACH + at as f64 * 2.0 * REACH / (POINTS - 1) as f64;
        let mut rows: Vec<Vec<f64>> = Vec::new();
        let mut known = std::collections::HashMap::new();
        for (a, b) in posteriors {
            // Many items have the same few counts.
            let row = known
                .entry((a.to_bits(), b.to_bits()))
                .or_insert_with(|| (0..POINTS).map(|at| quantile_log_odds(a, b, point(at))).collect::<Vec<f64>>());
            rows.push(row.clone());
        }
        Self { log_odds: rows }
    }

    /// The draw of a place's rate for a standard normal z.
    #[must_use]
    pub fn draw(&self, place: usize, z: f64) -> f64 {
        let at = (z + REACH) * ((POINTS - 1) as f64 / (2.0 * REACH));
        let at = at.clamp(0.0, (POINTS - 1) as f64);
        let left = (at as usize).min(POINTS - 2);
        let row = &self.log_odds[place];
        sigmoid(row[left] + (at - left as f64) * (row[left + 1] - row[left]))
    }
}

impl BanditModel for BernoulliThompson {
    fn signature(&self) -> Signature {
        signature(Some(self.log_odds.len()))
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let count = self.log_odds.len();
        let mut graph = GraphBuilder::new("bernoulli_thompson", self.signature());
        let places = place_of(&mut graph)?;
        let noise = graph.input(NOISE)?;
        let values: Vec<f32> = self.log_odds.iter().flatten().map(|&value| value as f32).collect();
        let table = graph.constant("log_odds", &[count, POINTS], &values)?;
        let rows = graph.node_with("Gather", &[&table, &places], "axis", 0);
        // Of each candidate the number of its own place.
        let own = graph.node_with("GatherElements", &[&noise, &places], "axis", 1);
        let scale = graph.constant("scale", &[1], &[(POINTS - 1) as f32 / (2.0 * REACH as f32)])?;
        let centre = graph.constant("centre", &[1], &[(POINTS - 1) as f32 / 2.0])?;
        let (zero, last) = (graph.constant("zero", &[], &[0.0])?, graph.constant("last", &[], &[(POINTS - 1) as f32])?);
        let at = graph.node("Mul", &[&own, &scale]);
        let at = graph.node("Add", &[&at, &centre]);
        let at = graph.node("Clip", &[&at, &zero, &last]);
        let point_axis = graph.integers("point_axis", &[2]);
        let at = graph.node("Unsqueeze", &[&at, &point_axis]);
        // Linear interpolation as hat functions: 1 - |at - point| where that is positive.
        let points: Vec<f32> = (0..POINTS).map(|point| point as f32).collect();
        let points = graph.constant("points", &[POINTS], &points)?;
        let one = graph.constant("one", &[1], &[1.0])?;
        let apart = graph.node("Sub", &[&at, &points]);
        let apart = graph.node("Abs", &[&apart]);
        let hats = graph.node("Sub", &[&one, &apart]);
        let hats = graph.node("Relu", &[&hats]);
        let parts = graph.node("Mul", &[&hats, &rows]);
        let log_odds = graph.node_with("ReduceSum", &[&parts, &point_axis], "keepdims", 0);
        let scores = graph.node("Sigmoid", &[&log_odds]);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }

    fn scores(&self, _: &[f32], items: &[Vec<f32>], noise: &[f32]) -> Vec<f64> {
        let score = |item: &Vec<f32>| {
            let place = place(item);
            self.draw(place, f64::from(noise[place]))
        };
        items.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use statrs::function::beta::beta_reg;

    use super::super::beta::normal_cdf;
    use super::*;

    /// `P(first > second)` with the first's value at z and the second's distribution function: the trapezoidal rule, which
    /// converges exponentially against the normal density.
    fn probability_of_above(first: impl Fn(f64) -> f64, below: impl Fn(f64) -> f64) -> f64 {
        const STEP: f64 = 0.005;
        let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (-1600..=1600).map(|at| f64::from(at) * STEP).map(|z| STEP * density(z) * below(first(z))).sum()
    }

    #[test]
    fn one_item_is_drawn_above_another_as_often_as_under_exact_beta_posteriors() {
        let shapes: [(f64, f64); 9] = [
            (1.0, 1.0),
            (0.1, 0.1),
            (0.5, 3.0),
            (3.0, 7.0),
            (30.0, 60.0),
            (1.0, 200.0),
            (4.0, 1000.0),
            (500.0, 99_500.0),
            (520.0, 99_480.0),
        ];
        let model = BernoulliThompson::new(shapes);
        let mut worst: f64 = 0.0;
        for (first, &(a, b)) in shapes.iter().enumerate() {
            for (second, &(c, d)) in shapes.iter().enumerate().filter(|(second, _)| *second != first) {
                // Of the model's second the share of z that draws less, by bisection; its draws ascend in z.
                let below = |value: f64| {
                    let (mut low, mut high) = (-8.0, 8.0);
                    for _ in 0..50 {
                        let middle = 0.5 * (low + high);
                        if model.draw(second, middle) < value { low = middle } else { high = middle }
                    }
                    normal_cdf(low)
                };
                let ours = probability_of_above(|z| model.draw(first, z), below);
                let exact =
                    probability_of_above(|z| sigmoid(quantile_log_odds(a, b, z)), |value| beta_reg(c, d, value));
                worst = worst.max((ours - exact).abs());
            }
        }
        assert!(worst < 0.002, "{worst}");
    }
}

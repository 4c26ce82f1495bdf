//! Bandits that know an item by its id alone: a row of a table for each item that was ever shown.
//!
//! Positions share the table: what an item earned counts the same wherever it stood.

use std::collections::BTreeMap;

use slated_contract::feature::{FeatureKind, FeatureSchema};
use slated_contract::tensor::{ITEMS, SCORES, Signature};

use super::{BanditError, BanditLearner, BanditModel, Example};
use crate::learner::{Checkpoint, CheckpointError};
use crate::onnx::{GraphBuilder, OnnxError, Value};

/// How often an item was shown, and what it earned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Arm {
    pub plays: u64,
    pub reward: f64,
}

/// A table by item id, in the order of the ids.
pub(super) type Table = BTreeMap<String, Arm>;

/// The most items of a table that is only looked up.
pub(super) const MOST: usize = 1 << 20;

/// What one algorithm makes of the table.
pub(super) trait TableRule {
    /// Its name, for messages.
    const ALGORITHM: &'static str;
    /// The most items.
    const MOST: usize;

    /// How many places the items that were never shown share.
    fn spare(&self) -> u32 {
        1
    }

    /// Refuses an example.
    fn check(&self, _: &Example) -> Result<(), BanditError> {
        Ok(())
    }

    /// The model of a table, with a row for each of its items in their order, and one for each spare place behind them.
    fn model(&self, table: &Table) -> Result<Box<dyn BanditModel>, BanditError>;
}

pub(super) struct TableLearner<R> {
    rule: R,
    table: Table,
}

impl<R: TableRule> TableLearner<R> {
    pub const fn new(rule: R) -> Self {
        Self { rule, table: Table::new() }
    }
}

/// The arms by place, the spare ones last.
pub(super) fn places(table: &Table, spare: u32) -> Vec<Arm> {
    table.values().copied().chain((0..spare).map(|_| Arm::default())).collect()
}

impl<R: TableRule> BanditLearner for TableLearner<R> {
    fn add(&mut self, example: &Example) -> Result<(), BanditError> {
        self.rule.check(example)?;
        let arm = match self.table.get_mut(example.item_id) {
            Some(arm) => arm,
            None => self.table.entry(example.item_id.to_owned()).or_default(),
        };
        arm.plays += 1;
        arm.reward += example.reward;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), BanditError> {
        let items = self.table.len();
        if items > R::MOST {
            return Err(BanditError::Items { algorithm: R::ALGORITHM, items, most: R::MOST });
        }
        Ok(())
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        let ids: Vec<&String> = self.table.keys().collect();
        checkpoint.text("items", serde_json::json!(ids).to_string());
        checkpoint.counts("plays", self.table.values().map(|arm| arm.plays).collect());
        checkpoint.doubles("rewards", &self.table.values().map(|arm| arm.reward).collect::<Vec<_>>());
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let absent = |_| CheckpointError::Absent("items".to_owned());
        let ids: Vec<String> = serde_json::from_str(checkpoint.get_text("items")?).map_err(absent)?;
        let plays = checkpoint.get_counts("plays")?;
        let rewards = checkpoint.read_doubles("rewards", ids.len())?;
        if plays.len() != ids.len() {
            let (found, expected) = (plays.len(), ids.len());
            return Err(CheckpointError::Length { name: "plays".to_owned(), found, expected });
        }
        let arms = plays.iter().zip(rewards).map(|(&plays, &reward)| Arm { plays, reward });
        self.table = ids.into_iter().zip(arms).collect();
        Ok(())
    }

    fn features(&self) -> Option<FeatureSchema> {
        let vocabulary = self.table.keys().cloned().collect();
        let item_id = Some(FeatureKind::Index { vocabulary, spare: self.rule.spare() });
        Some(FeatureSchema { item_id, ..FeatureSchema::default() })
    }

    fn finish(&mut self) -> Result<Box<dyn BanditModel>, BanditError> {
        self.rule.model(&self.table)
    }
}

/// The tensors of a model that reads the item's place in a table.
pub(super) fn signature(noise: Option<usize>) -> Signature {
    Signature { state_width: 0, item_width: 1, noise, ..Signature::default() }
}

/// Adds the items' places, counted from 0, to a graph: \[batch, candidates\] of integers.
pub(super) fn place_of(graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
    let items = graph.input(ITEMS)?;
    let column_axis = graph.integers("place_axis", &[2]);
    let places = graph.node("Squeeze", &[&items, &column_axis]);
    let places = graph.node_with("Cast", &[&places], "to", 7);
    let one = graph.integers("first_place", &[1]);
    Ok(graph.node("Sub", &[&places, &one]))
}

/// The place of an encoded item, counted from 0.
pub(super) fn place(item: &[f32]) -> usize {
    item.first().map_or(0, |&place| (place as usize).saturating_sub(1))
}

/// `score(a) = table[place of a]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableScores {
    /// The score of each place.
    pub scores: Vec<f64>,
}

impl BanditModel for TableScores {
    fn signature(&self) -> Signature {
        signature(None)
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let mut graph = GraphBuilder::new("table", self.signature());
        let places = place_of(&mut graph)?;
        let scores: Vec<f32> = self.scores.iter().map(|&score| score as f32).collect();
        let table = graph.constant("table", &[scores.len()], &scores)?;
        let scores = graph.node_with("Gather", &[&table, &places], "axis", 0);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }

    fn scores(&self, _: &[f32], items: &[Vec<f32>], _: &[f32]) -> Vec<f64> {
        items.iter().map(|item| self.scores[place(item)]).collect()
    }
}

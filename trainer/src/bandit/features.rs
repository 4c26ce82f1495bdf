//! phi(s, a): the features in which the linear bandits are linear.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::onnx::{GraphBuilder, OnnxError, Value};
use slated_contract::tensor::{ITEMS, STATE};

/// How state and item enter the features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interaction {
    /// `[1, s, x]`: every user gets the same ranking of items.
    Additive,
    /// `[1, s, x, vec(s x')]`: what is good for one user need not be for another.
    #[default]
    Outer,
}

/// The map from a state s (S numbers) and an item x (D numbers) to phi (d numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureMap {
    /// How state and item interact.
    pub interaction: Interaction,
    /// S.
    pub state_width: usize,
    /// D.
    pub item_width: usize,
}

impl FeatureMap {
    /// d, the number of features.
    #[must_use]
    pub const fn width(&self) -> usize {
        let additive = 1 + self.state_width + self.item_width;
        match self.interaction {
            Interaction::Additive => additive,
            Interaction::Outer => additive + self.state_width * self.item_width,
        }
    }

    /// Appends phi(s, x) to `phi`.
    pub fn extend(&self, state: &[f32], item: &[f32], phi: &mut Vec<f64>) {
        phi.push(1.0);
        phi.extend(state.iter().map(|&s| f64::from(s)));
        phi.extend(item.iter().map(|&x| f64::from(x)));
        if self.interaction == Interaction::Outer {
            for &s in state {
                phi.extend(item.iter().map(|&x| f64::from(s) * f64::from(x)));
            }
        }
    }

    /// `phi(s, x)' weights`.
    #[must_use]
    pub fn dot(&self, state: &[f32], item: &[f32], weights: &[f64]) -> f64 {
        let mut phi = Vec::with_capacity(self.width());
        self.extend(state, item, &mut phi);
        phi.iter().zip(weights).map(|(phi, weight)| phi * weight).sum()
    }

    /// Adds the same map to a graph: `state` \[batch, S\] and `items` \[batch, candidates, D\] become
    /// \[batch, candidates, d\].
    ///
    /// # Errors
    /// A signature without these inputs.
    pub fn graph(&self, graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
        let (state, items) = (graph.input(STATE)?, graph.input(ITEMS)?);
        let (s, d) = (self.state_width as i64, self.item_width as i64);
        let middle_axis = graph.integers("middle_axis", &[1]);
        let one = graph.constant("one", &[1, 1, 1], &[1.0])?;
        let shape = graph.node("Shape", &[&items]);
        let (zero, two) = (graph.integers("zero", &[0]), graph.integers("two", &[2]));
        let rows = graph.node("Slice", &[&shape, &zero, &two]);
        let single = graph.integers("single", &[1]);
        let ones_shape = graph.node_with("Concat", &[&rows, &single], "axis", 0);
        let ones = graph.node("Expand", &[&one, &ones_shape]);
        let state_width = graph.integers("state_width", &[s]);
        let states_shape = graph.node_with("Concat", &[&rows, &state_width], "axis", 0);
        let state_row = graph.node("Unsqueeze", &[&state, &middle_axis]);
        let states = graph.node("Expand", &[&state_row, &states_shape]);
        let mut parts = vec![ones, states.clone(), items.clone()];
        if self.interaction == Interaction::Outer {
            let line_axis = graph.integers("line_axis", &[2]);
            let column_axis = graph.integers("column_axis", &[3]);
            let columns = graph.node("Unsqueeze", &[&states, &column_axis]);
            let lines = graph.node("Unsqueeze", &[&items, &line_axis]);
            let products = graph.node("Mul", &[&columns, &lines]);
            let flat = graph.integers("flat", &[0, 0, s * d]);
            parts.push(graph.node("Reshape", &[&products, &flat]));
        }
        Ok(graph.node_with("Concat", &parts.iter().collect::<Vec<_>>(), "axis", 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_product_runs_over_items_first() {
        let map = FeatureMap { interaction: Interaction::Outer, state_width: 2, item_width: 2 };
        let mut phi = Vec::new();
        map.extend(&[2.0, 3.0], &[5.0, 7.0], &mut phi);
        assert_eq!(phi, [1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 15.0, 21.0]);
        assert_eq!(phi.len(), map.width());
    }
}

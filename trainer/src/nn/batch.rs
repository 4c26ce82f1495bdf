//! Observations gathered for one pass of a network.

use std::ops::Range;

use crate::rollout::Observation;

/// States with their candidates laid one after the other: each state has as many rows as it has candidates here, so
/// candidate sets of different sizes need no padding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// B, how many states.
    pub states: usize,
    /// `[B, S]`.
    pub state: Vec<f32>,
    /// `[R, D]`, where R is the number of rows of all states.
    pub items: Vec<f32>,
    /// `[B + 1]`: the rows of state b are `starts[b]..starts[b + 1]`.
    pub starts: Vec<usize>,
    /// `[B, H, F]`, zeros after the last interaction; empty where the network reads no history.
    pub history: Vec<f32>,
    /// `[B]`: how many interactions the history holds.
    pub lengths: Vec<usize>,
}

impl Batch {
    /// Takes every candidate of each observation. `window` is H, and 0 where the network reads no history.
    pub fn fill<'a>(&mut self, observations: impl IntoIterator<Item = &'a Observation>, window: usize, width: usize) {
        self.clear();
        for observation in observations {
            self.push_state(observation, window, width);
            self.items.extend_from_slice(&observation.items);
            self.close(observation.candidates);
        }
    }

    /// Takes the named candidates of each observation.
    pub fn fill_chosen<'a>(
        &mut self,
        chosen: impl IntoIterator<Item = (&'a Observation, &'a [usize])>,
        window: usize,
        width: usize,
    ) {
        self.clear();
        for (observation, candidates) in chosen {
            self.push_state(observation, window, width);
            let item_width = observation.items.len() / observation.candidates.max(1);
            for &candidate in candidates {
                self.items.extend_from_slice(&observation.items[candidate * item_width..][..item_width]);
            }
            self.close(candidates.len());
        }
    }

    /// Takes the states alone, a row each, for a network that reads no items.
    pub fn fill_states<'a>(
        &mut self,
        observations: impl IntoIterator<Item = &'a Observation>,
        window: usize,
        width: usize,
    ) {
        self.clear();
        for observation in observations {
            self.push_state(observation, window, width);
            self.close(1);
        }
    }

    fn clear(&mut self) {
        self.states = 0;
        self.state.clear();
        self.items.clear();
        self.starts.clear();
        self.starts.push(0);
        self.history.clear();
        self.lengths.clear();
    }

    fn push_state(&mut self, observation: &Observation, window: usize, width: usize) {
        self.states += 1;
        self.state.extend_from_slice(&observation.state);
        if window > 0 {
            self.history.extend_from_slice(&observation.history);
            self.history.resize(self.states * window * width, 0.0);
            self.lengths.push(observation.history.len() / width.max(1));
        }
    }

    fn close(&mut self, rows: usize) {
        self.starts.push(self.rows() + rows);
    }

    /// R, how many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The rows of each state.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The rows of some consecutive states.
    #[must_use]
    pub fn rows_of(&self, states: &Range<usize>) -> Range<usize> {
        self.starts[states.start]..self.starts[states.end]
    }

    /// Cuts the states into blocks of at most `rows` rows; a state of more is a block of its own.
    pub fn blocks(&self, rows: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let most = self.starts.get(start)? + rows;
            let fit = self.starts[start + 1..].partition_point(|&end| end <= most);
            let block = start..(start + fit.max(1)).min(self.states);
            start = block.end;
            (!block.is_empty()).then_some(block)
        })
    }
}

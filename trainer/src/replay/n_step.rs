//! From the steps of one session to n-step transitions.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Logged, Transition};
use crate::rollout::Observation;

/// Gathers the steps of one lane. A transition is complete once the slate that followed it is known, so that SARSA's
/// target can be had from it.
#[derive(Debug, Clone)]
pub struct NStep {
    steps: usize,
    discount: f64,
    pending: VecDeque<Step>,
}

/// A decision and what came of it.
#[derive(Debug, Clone)]
pub struct Step {
    /// What the policy saw.
    pub observation: Arc<Observation>,
    /// The slate it showed, by position: indices of candidates.
    pub slate: Vec<usize>,
    /// The position of the item that the user consumed, if any.
    pub consumed: Option<usize>,
    /// The reward of the whole slate.
    pub reward: f64,
    /// What else a log says; absent where the step is of no log.
    pub logged: Option<Arc<Logged>>,
}

impl NStep {
    /// Transitions over `steps` steps (at least one) under a discount.
    #[must_use]
    pub fn new(steps: usize, discount: f64) -> Self {
        Self { steps: steps.max(1), discount, pending: VecDeque::new() }
    }

    /// A decision and what came of it; hands over the transitions that it completes.
    pub fn push(&mut self, step: Step, mut emit: impl FnMut(Transition)) {
        if self.pending.len() == self.steps {
            let discount = self.discount.powi(self.steps as i32);
            emit(self.first(discount, Arc::clone(&step.observation), step.slate.clone()));
            self.pending.pop_front();
        }
        self.pending.push_back(step);
    }

    /// The session has ended; hands over what is left. Nothing follows the last step.
    pub fn end(&mut self, last: &Arc<Observation>, emit: impl FnMut(Transition)) {
        self.drain(false, last, emit);
    }

    /// The session was cut short, not ended: what is left is handed over with the value of `last` to follow.
    pub fn cut(&mut self, last: &Arc<Observation>, emit: impl FnMut(Transition)) {
        self.drain(true, last, emit);
    }

    fn drain(&mut self, goes_on: bool, last: &Arc<Observation>, mut emit: impl FnMut(Transition)) {
        while !self.pending.is_empty() {
            let discount = if goes_on { self.discount.powi(self.pending.len() as i32) } else { 0.0 };
            emit(self.first(discount, Arc::clone(last), Vec::new()));
            self.pending.pop_front();
        }
    }

    fn first(&self, discount: f64, next: Arc<Observation>, next_slate: Vec<usize>) -> Transition {
        let first = &self.pending[0];
        let reward = self.pending.iter().rev().fold(0.0, |after, step| step.reward + self.discount * after);
        Transition {
            observation: Arc::clone(&first.observation),
            slate: first.slate.clone(),
            consumed: first.consumed,
            reward: reward as f32,
            discount: discount as f32,
            next,
            next_slate,
            logged: first.logged.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mark: f32) -> Arc<Observation> {
        Arc::new(Observation { state: vec![mark], ..Observation::default() })
    }

    fn run(steps: usize, ended: bool) -> Vec<Transition> {
        let mut gathered = Vec::new();
        let mut n_step = NStep::new(steps, 0.5);
        for step in 0..4 {
            let taken = Step {
                observation: seen(step as f32),
                slate: vec![step],
                consumed: Some(0),
                reward: 1.0,
                logged: None,
            };
            n_step.push(taken, |transition| gathered.push(transition));
        }
        if ended {
            n_step.end(&seen(4.0), |transition| gathered.push(transition));
        } else {
            n_step.cut(&seen(4.0), |transition| gathered.push(transition));
        }
        gathered
    }

    #[test]
    fn each_step_begins_one_transition() {
        for steps in [1, 2, 3, 9] {
            for ended in [true, false] {
                let transitions = run(steps, ended);
                assert_eq!(transitions.len(), 4);
                for (start, transition) in transitions.iter().enumerate() {
                    let n = steps.min(4 - start);
                    assert_eq!(transition.observation, seen(start as f32));
                    assert_eq!(transition.next, seen((start + n) as f32));
                    assert_eq!(transition.reward, 2.0 - 0.5_f32.powi(n as i32 - 1));
                    let whole = n == steps && start + n < 4;
                    let follows = whole || !ended;
                    assert_eq!(transition.discount, if follows { 0.5_f32.powi(n as i32) } else { 0.0 });
                    assert_eq!(transition.next_slate, if whole { vec![start + n] } else { Vec::new() });
                }
            }
        }
    }
}

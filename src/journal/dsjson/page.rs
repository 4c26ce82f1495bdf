//! The decisions of one page, gathered from a stream of rounds.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use slated_trainer::dataset::Round;

/// The slots of a page are decided in one request: a round that comes so long after the first is no longer waited for.
const OPEN: TimeDelta = TimeDelta::seconds(60);

/// Hands over rounds in their order, those of a page together at the place of the first.
#[derive(Debug, Default)]
pub struct Pages {
    waiting: VecDeque<Vec<Round>>,
    /// How many were handed over before the first that waits.
    gone: usize,
    /// The number of each page that waits.
    numbers: HashMap<String, usize>,
}

impl Pages {
    /// Takes the next round.
    pub fn add(&mut self, round: Round) {
        let number = self.gone + self.waiting.len();
        if let Some(page) = &round.decision.page_id {
            let known = *self.numbers.entry(page.clone()).or_insert(number);
            if let Some(rounds) = self.waiting.get_mut(known - self.gone) {
                rounds.push(round);
                return;
            }
        }
        self.waiting.push_back(vec![round]);
    }

    /// The first rounds that belong together, where no more of them are waited for; `now` is the time of the latest
    /// round, and absent where there will be no other.
    pub fn take(&mut self, now: Option<DateTime<Utc>>) -> Option<Vec<Round>> {
        let first = &self.waiting.front()?.first()?.decision;
        if first.page_id.is_some() && now.is_some_and(|now| now - first.time < OPEN) {
            return None;
        }
        let rounds = self.waiting.pop_front()?;
        self.gone += 1;
        if let Some(page) = rounds.first().and_then(|round| round.decision.page_id.as_ref()) {
            self.numbers.remove(page);
        }
        Some(rounds)
    }
}

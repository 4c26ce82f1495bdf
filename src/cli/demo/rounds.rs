//! Real rounds, and the clicks they would have had.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback, SegmentReader, segments};

use super::service::Service;
use crate::api::RecommendResponse;

/// Requests in flight at once.
const CONCURRENCY: usize = 8;

/// The rounds of an imported log.
pub struct Rounds {
    rounds: Vec<Decision>,
    /// Times shown and clicked, by item and position.
    shown: HashMap<(String, String), (u32, u32)>,
    clicks: usize,
}

/// What came of a stream of rounds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rounds sent.
    pub rounds: usize,
    /// Clicks drawn.
    pub clicks: usize,
    /// Sum of the click rates of what was shown.
    pub expected: f64,
}

impl Rounds {
    /// Reads the rounds that an import wrote.
    pub fn read(journal: &Path) -> anyhow::Result<Self> {
        let clicked: std::collections::HashSet<String> =
            events::<Feedback>(journal)?.into_iter().map(|click| click.decision_id).collect();
        let mut read = Self { rounds: events::<Decision>(journal)?, shown: HashMap::new(), clicks: clicked.len() };
        for round in &read.rounds {
            for shown in &round.slate {
                let counts = read.shown.entry((shown.item.clone(), position(round))).or_default();
                counts.0 += 1;
                counts.1 += u32::from(clicked.contains(&round.decision_id));
            }
        }
        Ok(read)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// How many of them were clicked.
    pub fn clicks(&self) -> usize {
        self.clicks
    }

    /// Sends `count` rounds from the `first` on, again from the start at the end of the log, and the clicks they get.
    ///
    /// The draw of a click is seeded by the round alone, so that the outcome does not depend on the order in which
    /// concurrent requests are answered.
    pub async fn stream(&self, service: &Service, first: usize, count: usize, seed: u64) -> anyhow::Result<Tally> {
        let send = async |index: usize| -> anyhow::Result<(bool, f64)> {
            let round = &self.rounds[index % self.rounds.len()];
            let event_id = format!("demo-{index}");
            let answer: RecommendResponse = service.post("/recommend", &request(round, Some(&event_id), 1)).await?;
            let item = answer.slate.first().context("the slate is empty")?.item.clone();
            let (shown, clicked) = self.shown.get(&(item, position(round))).copied().unwrap_or_default();
            let rate = if shown == 0 { 0.0 } else { f64::from(clicked) / f64::from(shown) };
            let click = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1 << 32) ^ index as u64).random::<f64>() < rate;
            if click {
                let feedback = json!({
                    "feedback_id": format!("{event_id}-click"), "decision_id": event_id, "event": "click", "position": 0
                });
                service.post::<Value>("/feedback", &feedback).await?;
            }
            Ok((click, rate))
        };
        let answers = stream::iter((first..first + count).map(send)).buffered(CONCURRENCY);
        answers
            .try_fold(Tally::default(), async |mut tally, (click, rate)| {
                tally.rounds += 1;
                tally.clicks += usize::from(click);
                tally.expected += rate;
                Ok(tally)
            })
            .await
    }

    /// A request that a user may send by hand.
    pub fn example(&self) -> String {
        let Some(round) = self.rounds.first() else { return String::new() };
        let mut request = request(round, Some("my-first-decision"), 3);
        if let Some(candidates) = request["candidates"].as_array_mut() {
            candidates.truncate(5);
        }
        request.to_string()
    }
}

fn events<E: Event>(journal: &Path) -> anyhow::Result<Vec<E>> {
    let mut events = Vec::new();
    for path in segments::<E>(journal)?.into_iter().flat_map(|date| date.files) {
        for batch in SegmentReader::<E>::open(&path, 1024)? {
            events.extend(batch?);
        }
    }
    Ok(events)
}

fn position(round: &Decision) -> String {
    match round.context.get("position") {
        Some(slated_contract::feature::FeatureRef::Text(position)) => position.to_owned(),
        _ => String::new(),
    }
}

fn request(round: &Decision, event_id: Option<&str>, slate_size: usize) -> Value {
    let candidates =
        round.candidates.iter().map(|candidate| json!({"id": candidate.item, "features": candidate.features}));
    json!({
        "event_id": event_id,
        "user": round.user,
        "context": round.context,
        "candidates": candidates.collect::<Vec<_>>(),
        "slate_size": slate_size,
    })
}

//! Journalling a simulation: what would be in the log, had the simulated users been real.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::TimeDelta;
use serde_json::{Value, json};
use slated_contract::event::{Candidate, Decision, Feedback, Shown, deterministic_id};
use slated_contract::policy::sha256_hex;
use slated_trainer::env::Outcome;
use slated_trainer::rollout::{Decided, Observer, ObserverError};

use super::write_segment;

const SOURCE: &str = "simulator";
/// Decisions in one segment.
const SEGMENT: usize = 5000;
/// A session begins so many seconds after the one before it.
const ARRIVAL_SECONDS: i64 = 60;

/// What the journal says of a policy that acts.
#[derive(Debug, Clone, PartialEq)]
pub struct ActingPolicy {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// SHA-256 of its model, in hex; absent where it has none.
    pub model_sha256: Option<String>,
    /// How it explores, as JSON.
    pub exploration: String,
}

/// Writes one simulation into closed segments of a journal. The same simulation gives the same ids, names and bytes, so
/// writing it again changes nothing.
#[derive(Debug)]
pub struct SimulatedJournal {
    folder: PathBuf,
    /// Tells one simulation's ids from another's.
    digest: String,
    /// By part of the mixture.
    policies: Vec<ActingPolicy>,
    event: &'static str,
    decisions: AtomicU64,
    feedback: AtomicU64,
}

impl SimulatedJournal {
    /// The journal in `folder`, for a simulation that `identity` describes; responses are events of the type `event`.
    #[must_use]
    pub fn new(folder: &Path, identity: &Value, policies: Vec<ActingPolicy>, event: &'static str) -> Self {
        let acting =
            policies.iter().map(|policy| json!([policy.name, policy.version, policy.model_sha256, policy.exploration]));
        let identity = json!([identity, acting.collect::<Vec<_>>()]).to_string();
        Self {
            folder: folder.to_owned(),
            digest: sha256_hex(identity.as_bytes())[..16].to_owned(),
            policies,
            event,
            decisions: AtomicU64::new(0),
            feedback: AtomicU64::new(0),
        }
    }

    /// Journals one block of episodes.
    #[must_use]
    pub fn block(&self, block: u64) -> Box<dyn Observer + '_> {
        Box::new(Block { journal: self, block, segments: 0, decisions: Vec::new(), feedback: Vec::new() })
    }

    /// How many decisions and feedback events were written.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.decisions.load(Ordering::Relaxed), self.feedback.load(Ordering::Relaxed))
    }
}

struct Block<'a> {
    journal: &'a SimulatedJournal,
    block: u64,
    segments: usize,
    decisions: Vec<Decision>,
    feedback: Vec<Feedback>,
}

impl Block<'_> {
    fn write(&mut self) -> Result<(), ObserverError> {
        let journal = self.journal;
        let name = format!("simulate-{}-{:06}-{:04}", journal.digest, self.block, self.segments);
        self.segments += 1;
        write_segment(&journal.folder, &name, &self.decisions)?;
        write_segment(&journal.folder, &name, &self.feedback)?;
        journal.decisions.fetch_add(self.decisions.len() as u64, Ordering::Relaxed);
        journal.feedback.fetch_add(self.feedback.len() as u64, Ordering::Relaxed);
        self.decisions.clear();
        self.feedback.clear();
        Ok(())
    }
}

impl Observer for Block<'_> {
    fn decided(&mut self, decided: &Decided<'_>) -> Result<(), ObserverError> {
        let Decided { episode, step, part, lane, slate, scores, seed } = *decided;
        let (journal, environment) = (self.journal, lane.environment());
        let policy = &journal.policies[part];
        let arrival = TimeDelta::seconds(i64::try_from(episode)?.saturating_mul(ARRIVAL_SECONDS));
        let time = lane.now().checked_add_signed(arrival).ok_or("the simulation is too long for a calendar")?;
        let candidates: Vec<Candidate> = scores
            .iter()
            .enumerate()
            .map(|(candidate, &score)| Candidate {
                item: environment.item_id(candidate),
                features: environment.item(candidate),
                score: Some(score),
            })
            .collect();
        let parts = [SOURCE, &journal.digest, &episode.to_string(), &step.to_string()];
        self.decisions.push(Decision {
            decision_id: deterministic_id(time, &parts).to_string(),
            time,
            source: SOURCE.to_owned(),
            policy: policy.name.clone(),
            policy_version: policy.version,
            model_sha256: policy.model_sha256.clone(),
            exploration: Some(policy.exploration.clone()),
            seed: i64::try_from(seed.value()).ok(),
            user_id: Some(format!("user-{}-{episode}", journal.digest)),
            session_id: Some(format!("session-{}-{episode}", journal.digest)),
            user: environment.user(),
            session: lane.session_features(),
            slate: Shown::from_drawn(slate, &candidates),
            candidates,
            propensity: slate.propensities.joint(),
            propensity_draws: slate.propensities.draws.map(i32::try_from).transpose()?,
            ..Decision::default()
        });
        Ok(())
    }

    fn responded(&mut self, outcome: &Outcome) -> Result<(), ObserverError> {
        let decision = self.decisions.last().ok_or("a response came before its decision")?;
        if let Some(position) = outcome.consumed {
            // Half-way to the next decision.
            let time = decision.time + TimeDelta::microseconds((outcome.seconds * 5e5) as i64);
            self.feedback.push(Feedback {
                feedback_id: deterministic_id(time, &[SOURCE, &decision.decision_id, "response"]).to_string(),
                decision_id: decision.decision_id.clone(),
                time,
                occurred: time,
                source: SOURCE.to_owned(),
                event: self.journal.event.to_owned(),
                value: outcome.reward,
                item: Some(decision.slate[position].item.clone()),
                position: Some(decision.slate[position].position),
            });
        }
        if self.decisions.len() == SEGMENT { self.write() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), ObserverError> {
        if self.decisions.is_empty() { Ok(()) } else { self.write() }
    }
}

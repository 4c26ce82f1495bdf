//! What each logged session says of several policies.

use std::collections::{BTreeMap, HashMap};

use slated_contract::event::Decision;
use slated_contract::feature::Encoder;
use slated_contract::slate::next_choice;
use slated_trainer::dataset::{Dataset, DatasetSettings, DatasetSummary, Round, RoundDigest};
use slated_trainer::offline::{EpisodeSettings, is_kept_out, user_number};
use slated_trainer::ope::gate::{Evidence, Pair};
use slated_trainer::ope::sequence::{Episode, RandomFeatures, SequenceLog, Step};
use slated_trainer::progress::Progress;

use super::evidence::{Gathered, rescore};
use super::{EvidenceError, user};
use crate::journal::verify::{Verification, Verifier};
use crate::serving::{LoadedPolicy, Rescored};

/// Decisions that are scored together.
const BATCH: usize = 512;

/// Which sessions to evaluate on, and how.
#[derive(Debug, Clone)]
pub struct SessionEvidenceSettings {
    /// The log.
    pub data: DatasetSettings,
    /// Only users who are among this share, which learning has kept out (`episodes.validation`).
    pub kept_out: f64,
    /// How long a session of a user that is named by no id of its own may be silent, in seconds.
    pub gap_seconds: f64,
    /// Sessions with a decision in so many seconds after the log's first or before its last decision may be cut off, and are
    /// left out.
    pub open_seconds: f64,
    /// The most sessions; of more, a sample that their users' ids choose.
    pub most: usize,
    /// How many random features a value is linear in.
    pub features: usize,
    /// Seeds the features, and the draws of policies that sample their posterior.
    pub seed: u64,
}

/// Everything that was gathered.
#[derive(Debug)]
pub struct GatheredSessions {
    /// The same sessions in the same order, for each policy.
    pub logs: Vec<SequenceLog>,
    /// What was read.
    pub summary: DatasetSummary,
    /// Sessions left out, by why.
    pub excluded: BTreeMap<String, u64>,
    /// SHA-256 over the decisions and rewards that were used, in order, in hex.
    pub digest: String,
    /// How replaying the sessions went; absent where that was not asked for.
    pub replay: Option<Verification>,
}

impl SessionEvidenceSettings {
    /// How many random features there are unless told otherwise.
    pub const FEATURES: usize = 300;
    /// The most sessions unless told otherwise: a thousand numbers a decision are held in memory for each policy.
    pub const MOST: usize = 3000;

    /// All sessions of a log, as [`slated_trainer::offline::EpisodeSettings`] tells them apart by default.
    #[must_use]
    pub fn of(data: DatasetSettings, seed: u64) -> Self {
        let gap_seconds = EpisodeSettings::default().gap_seconds;
        Self { data, kept_out: 1.0, gap_seconds, open_seconds: 0.0, most: Self::MOST, features: Self::FEATURES, seed }
    }
}

impl GatheredSessions {
    /// The evidence on one of the policies against another, by their places among those that were asked about, or against
    /// whatever was logged.
    #[must_use]
    pub fn pair(&self, candidate: usize, baseline: Option<usize>) -> Gathered {
        let log = |index: usize| self.logs[index].clone();
        Gathered {
            evidence: Evidence::Sessions(Pair { candidate: log(candidate), baseline: baseline.map(log) }),
            summary: self.summary.clone(),
            excluded: self.excluded.clone(),
            digest: self.digest.clone(),
            replay: self.replay.clone(),
        }
    }
}

struct Session {
    id: String,
    rounds: Vec<Round>,
    /// Why it is no evidence.
    excluded: Option<String>,
}

/// Gathers sessions with each of the policies in mind. A `verifier` replays their decisions on the way. The first policy's features are what values are told by.
///
/// # Errors
/// A journal that does not read or holds no whole session, slates of several items, a decision that a policy does not
/// accept, a model that fails.
pub async fn gather_sessions(
    policies: &[&LoadedPolicy],
    settings: &SessionEvidenceSettings,
    mut verifier: Option<Verifier>,
    progress: &mut dyn Progress,
) -> Result<GatheredSessions, EvidenceError> {
    let mut excluded = BTreeMap::new();
    let (sessions, summary) = read(settings, &mut excluded, progress).await?;
    if sessions.is_empty() {
        let left = excluded.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ");
        return Err(EvidenceError::Sessions(format!("there is no whole session to evaluate on; left out: {left}")));
    }
    let Some(first) = policies.first() else {
        return Err(EvidenceError::Sessions("there is no policy to evaluate".to_owned()));
    };
    let encoder = Encoder::new(&first.manifest.features)?;
    let mut digest = RoundDigest::default();
    let mut rows = Vec::new();
    for round in sessions.iter().flat_map(|session| &session.rounds) {
        digest.add(round);
        rows.push(encode(&encoder, &round.decision)?);
    }
    let features = RandomFeatures::fit(rows.iter().flatten().map(Vec::as_slice), settings.features, settings.seed);
    progress.stage("scoring sessions", Some(rows.len() as u64));
    let mut logs = Vec::new();
    for _ in policies {
        logs.push(SequenceLog::new(1.0)?);
    }
    let mut next_row = rows.iter();
    for block in sessions.chunks(BATCH / 8) {
        let decisions: Vec<&Decision> =
            block.iter().flat_map(|session| &session.rounds).map(|round| &round.decision).collect();
        if let Some(verifier) = &mut verifier {
            verifier.check(&decisions).await?;
        }
        let mut scored = Vec::new();
        for policy in policies {
            scored.push(rescore(policy, &decisions, settings.seed).await?.into_iter());
        }
        for session in block {
            let mut steps: Vec<Vec<Owned>> = policies.iter().map(|_| Vec::new()).collect();
            for round in &session.rounds {
                let row = next_row.next().map_or(&[][..], Vec::as_slice);
                let all: Vec<Vec<f64>> = row
                    .iter()
                    .map(|candidate| {
                        let mut phi = vec![0.0; features.width()];
                        features.add(candidate, 1.0, &mut phi);
                        phi
                    })
                    .collect();
                for (steps, scored) in steps.iter_mut().zip(&mut scored) {
                    if let Some(rescored) = scored.next() {
                        steps.push(Owned::of(round, &rescored, &all)?);
                    }
                }
            }
            progress.advance(session.rounds.len() as u64);
            for (log, steps) in logs.iter_mut().zip(&steps) {
                let steps: Vec<Step> = steps.iter().map(Owned::step).collect();
                let user = session.rounds.first().and_then(|round| user(&round.decision));
                log.push(&Episode { id: &session.id, steps: &steps, user })?;
            }
        }
    }
    let replay = verifier.map(|verifier| verifier.report().clone());
    Ok(GatheredSessions { logs, summary, excluded, digest: digest.hex(), replay })
}

/// Reads the sessions of the users who were kept out, in the order in which they began.
async fn read(
    settings: &SessionEvidenceSettings,
    excluded: &mut BTreeMap<String, u64>,
    progress: &mut dyn Progress,
) -> Result<(Vec<Session>, DatasetSummary), EvidenceError> {
    let mut dataset = Dataset::open(&settings.data).await?;
    progress.stage("reading sessions", Some(dataset.total()));
    let (mut sessions, mut places): (Vec<Session>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    let mut leave_out = |why: &str| *excluded.entry(why.to_owned()).or_default() += 1;
    let (mut begin, mut end) = (None, None);
    while let Some(rounds) = dataset.next().await? {
        progress.advance(rounds.len() as u64);
        for round in rounds {
            let decision = &round.decision;
            begin.get_or_insert(decision.time);
            end = Some(decision.time);
            let Some(who) = user(decision) else {
                leave_out("of nobody who is named");
                continue;
            };
            if !is_kept_out(user_number(who), settings.kept_out) {
                continue;
            }
            if decision.slate.len() > 1 {
                let message = "slates of several items are evaluated decision by decision: set `evaluation.horizon = \"decision\"`";
                return Err(EvidenceError::Sessions(message.to_owned()));
            }
            let key = decision.session_id.as_ref().map_or_else(|| format!("user {who}"), |id| format!("session {id}"));
            let silent = |session: &Session| {
                let last = session.rounds.last().map_or(decision.time, |round| round.decision.time);
                (decision.time - last).as_seconds_f64() > settings.gap_seconds
            };
            let known = places.get(&key).copied().filter(|&at| decision.session_id.is_some() || !silent(&sessions[at]));
            let place = known.unwrap_or_else(|| {
                places.insert(key.clone(), sessions.len());
                sessions.push(Session { id: key, rounds: Vec::new(), excluded: None });
                sessions.len() - 1
            });
            let session = &mut sessions[place];
            session.excluded = session.excluded.take().or_else(|| decision.not_evaluable.clone());
            session.rounds.push(round);
        }
    }
    sessions.retain(|session| {
        let times = session.rounds.first().zip(session.rounds.last());
        let near = |a, b: Option<_>| {
            b.is_some_and(|b| (a - b) <= chrono::TimeDelta::milliseconds((1e3 * settings.open_seconds) as i64))
        };
        let whole = times.is_some_and(|(first, last)| {
            let after = settings.data.after.is_some() && near(first.decision.time, begin);
            !after && end.is_none_or(|end| (end - last.decision.time).as_seconds_f64() > settings.open_seconds)
        });
        match &session.excluded {
            Some(why) => leave_out(why),
            None if !whole => leave_out("that may be cut off"),
            None => return true,
        }
        false
    });
    if sessions.len() > settings.most {
        // By the ids alone, so that the sample does not depend on the order or on what else there is.
        let mut numbers: Vec<u64> = sessions.iter().map(|session| user_number(&session.id)).collect();
        numbers.sort_unstable();
        let limit = numbers[settings.most];
        let before = sessions.len();
        sessions.retain(|session| user_number(&session.id) < limit);
        excluded.insert("beyond the sample".to_owned(), (before - sessions.len()) as u64);
    }
    Ok((sessions, dataset.summary().clone()))
}

/// State and item of each candidate.
fn encode(encoder: &Encoder, decision: &Decision) -> Result<Vec<Vec<f32>>, EvidenceError> {
    let failed = |source| EvidenceError::Encode { decision_id: decision.decision_id.clone(), source };
    let mut state = Vec::with_capacity(encoder.state_width());
    encoder.encode_state(&decision.user, &decision.context, &decision.session, &mut state).map_err(failed)?;
    let row = |candidate: &slated_contract::event::Candidate| {
        let mut row = state.clone();
        encoder.encode_item(&candidate.item, &candidate.features, &mut row).map_err(failed)?;
        Ok(row)
    };
    decision.candidates.iter().map(row).collect()
}

/// One step, for one policy.
struct Owned {
    reward: f64,
    propensity: f64,
    evaluation: f64,
    taken: Vec<f64>,
    expected: Vec<f64>,
}

impl Owned {
    fn of(round: &Round, rescored: &Rescored, candidates: &[Vec<f64>]) -> Result<Self, EvidenceError> {
        let decision = &round.decision;
        let refused =
            |problem: String| EvidenceError::Sessions(format!("decision `{}`: {problem}", decision.decision_id));
        let scores = rescored.scores(candidates.len()).map_err(|error| refused(error.to_string()))?;
        let chances = next_choice(&rescored.exploration, &scores, &[], &rescored.constraints)
            .ok_or_else(|| refused("the policy's probabilities are not known".to_owned()))?;
        let shown = rescored.shown[0];
        let mut expected = vec![0.0; candidates[shown].len()];
        for (phi, chance) in candidates.iter().zip(&chances).filter(|(_, chance)| **chance > 0.0) {
            expected.iter_mut().zip(phi).for_each(|(sum, value)| *sum += chance * value);
        }
        Ok(Self {
            reward: round.rewards.iter().sum(),
            propensity: decision.propensity,
            evaluation: chances[shown].clamp(0.0, 1.0),
            taken: candidates[shown].clone(),
            expected,
        })
    }

    fn step(&self) -> Step<'_> {
        Step {
            reward: self.reward,
            propensity: self.propensity,
            evaluation: self.evaluation,
            features: Some((&self.taken, &self.expected)),
            ..Step::default()
        }
    }
}

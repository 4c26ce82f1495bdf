//! Replaying a journal: each decision of a bundle of ours is made again from what was logged, and must come out the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::Serialize;
use slated_contract::event::{Decision, Mode, SegmentError, SegmentReader};
use slated_contract::policy::{BundleError, read_manifest, versions};
use slated_contract::slate::{
    DecisionSeed, DrawError, Exploration, constrained_propensities, draw_constrained, draw_items, propensities,
};
use slated_trainer::dataset::{MirrorError, local, sound_segments};
use slated_trainer::ope::gate::Replay;
use thiserror::Error;

use crate::serving::{EngineSettings, LoadError, LoadedPolicy, ReplayError, ReplayErrorKind, Rescored};

/// Decisions read, and scored, at a time.
const BATCH: usize = 256;
/// Decisions that wait for the model at a time.
const IN_FLIGHT: usize = 64;
/// Mismatches that are told one by one; beyond it they are counted.
const TOLD: usize = 1000;
/// The source of decisions that the service made.
const SERVICE: &str = "service";

/// How a journal is verified.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// The folder of policy bundles.
    pub models: PathBuf,
    /// How far a score or probability may be from the logged one, relative to the greater of it and, for scores, 1. On
    /// the machine that made the decisions none is needed; another processor may round otherwise.
    pub tolerance: f64,
    /// The seed of the service, where it is known: each decision's seed must derive from it.
    pub service_seed: Option<u64>,
}

/// A journal that cannot be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// There is nothing to verify.
    #[error("{0} holds no decisions in closed segments; a running service closes them on POST /journal/seal")]
    Empty(PathBuf),
    /// An object store.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The folder of models.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A bundle that is there and does not run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A model that failed on a decision.
    #[error(transparent)]
    Replay(ReplayError),
}

/// What replaying found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verification {
    /// Decisions read.
    pub decisions: u64,
    /// Decisions that came out as they were logged.
    pub reproduced: u64,
    /// Decisions that did not.
    pub mismatched: u64,
    /// Of the reproduced and the mismatched, those that no bundle made: drawn again from their own logged scores.
    pub by_scores: u64,
    /// Decisions that no bundle of ours made and that do not hold what they were drawn by, by what wrote them.
    pub foreign: BTreeMap<String, u64>,
    /// Decisions that the policy did not draw, by why: their propensities say nothing.
    pub not_drawn: BTreeMap<String, u64>,
    /// Decisions whose bundle is not in the folder of models, by policy, version and hash.
    pub absent: BTreeMap<String, u64>,
    /// Decisions that need more than a decision holds, by policy and version.
    pub incomplete: BTreeMap<String, u64>,
    /// Decisions that were made with features that were not journalled, by policy, version and features.
    pub omitted: BTreeMap<String, u64>,
    /// The first mismatches.
    pub mismatches: Vec<Mismatch>,
    /// How many fields differ in all.
    pub fields: u64,
}

/// A field that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The decision.
    pub decision_id: String,
    /// The field, such as `slate[1].marginal_propensity`.
    pub field: String,
    /// What the journal says.
    pub logged: String,
    /// What the bundle gives.
    pub recomputed: String,
}

/// Replays decisions, in batches.
#[derive(Debug)]
pub struct Verifier {
    settings: VerifySettings,
    /// The bundles by the hash of their model: name and version.
    bundles: HashMap<String, Vec<(String, u64)>>,
    loaded: HashMap<(String, u64), Arc<LoadedPolicy>>,
    report: Verification,
}

impl Verifier {
    /// A verifier that knows the bundles of the folder of models.
    ///
    /// # Errors
    /// A folder or a manifest that cannot be read.
    pub fn new(settings: VerifySettings) -> Result<Self, VerifyError> {
        let mut bundles: HashMap<String, Vec<(String, u64)>> = HashMap::new();
        let entries = settings.models.read_dir().into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| !name.starts_with('.')) {
            for version in versions(&settings.models, &name)? {
                let manifest = read_manifest(&settings.models.join(&name).join(version.to_string()))?;
                bundles.entry(manifest.model_sha256).or_default().push((name.clone(), version));
            }
        }
        bundles.values_mut().for_each(|known| known.sort_unstable());
        Ok(Self { settings, bundles, loaded: HashMap::new(), report: Verification::default() })
    }

    /// Replays decisions; for each that came out as it was logged, what it was drawn by.
    ///
    /// # Errors
    /// A bundle that does not load, a model that fails.
    pub async fn check(&mut self, decisions: &[&Decision]) -> Result<Vec<Option<Rescored>>, VerifyError> {
        let mut made = Vec::with_capacity(decisions.len());
        for decision in decisions {
            made.push(self.made(decision)?);
        }
        let rescored: Vec<_> = stream::iter(decisions.iter().copied().zip(made))
            .map(async |(decision, made)| match made {
                Made::By { policy, exploration, seed } => {
                    let rescored = policy.rescore(decision, exploration, seed).await;
                    Some((rescored, Some(policy), seed))
                }
                Made::FromScores { rescored, seed } => Some((Ok(rescored), None, seed)),
                Made::Unknown => None,
            })
            .buffered(IN_FLIGHT)
            .collect()
            .await;
        let mut reproduced = Vec::with_capacity(decisions.len());
        for (decision, rescored) in decisions.iter().zip(rescored) {
            reproduced.push(match rescored {
                Some((rescored, policy, seed)) => self.compare(decision, policy.as_deref(), seed, rescored)?,
                None => None,
            });
        }
        Ok(reproduced)
    }

    /// What was found so far.
    #[must_use]
    pub const fn report(&self) -> &Verification {
        &self.report
    }

    /// How a decision was made; counts it where that is not known.
    fn made(&mut self, decision: &Decision) -> Result<Made, VerifyError> {
        self.report.decisions += 1;
        if decision.mode != Mode::Policy {
            let why = decision.not_evaluable.as_deref().unwrap_or("the caller's own order was shown");
            *self.report.not_drawn.entry(why.to_owned()).or_default() += 1;
            return Ok(Made::Unknown);
        }
        let seed = decision.seed.map(|seed| DecisionSeed::from_value(seed.unsigned_abs()));
        let (Some(hash), Some(seed)) = (&decision.model_sha256, seed) else {
            return Ok(match (Rescored::from_journal(decision), seed) {
                (Some(rescored), Some(seed)) => {
                    self.report.by_scores += 1;
                    Made::FromScores { rescored, seed }
                }
                _ => {
                    *self.report.foreign.entry(decision.source.clone()).or_default() += 1;
                    Made::Unknown
                }
            });
        };
        let named = (decision.policy.clone(), decision.policy_version.unsigned_abs());
        // Another bundle may hold the same model: trained alike, or copied. The decision's own name goes first.
        let known = self.bundles.get(hash);
        let bundle = known.and_then(|known| known.iter().find(|known| **known == named).or(known.first()));
        let Some((name, version)) = bundle.cloned() else {
            let bundle = format!("{} version {}, model {hash:.12}", decision.policy, decision.policy_version);
            *self.report.absent.entry(bundle).or_default() += 1;
            return Ok(Made::Unknown);
        };
        let policy = match self.loaded.get(&(name.clone(), version)) {
            Some(policy) => Arc::clone(policy),
            None => {
                let engine = EngineSettings { max_batch: IN_FLIGHT, ..EngineSettings::default() };
                let policy = Arc::new(LoadedPolicy::load(&self.settings.models, &name, Some(version), &engine)?);
                self.loaded.insert((name, version), Arc::clone(&policy));
                policy
            }
        };
        // A simulation may let a bundle explore otherwise; a service never does.
        let own = policy.manifest.exploration;
        let logged = logged_exploration(decision).filter(|logged| logged.score_rows() <= own.score_rows());
        let exploration = logged.filter(|_| decision.source != SERVICE).unwrap_or(own);
        Ok(Made::By { policy, exploration, seed })
    }

    fn compare(
        &mut self,
        decision: &Decision,
        policy: Option<&LoadedPolicy>,
        seed: DecisionSeed,
        rescored: Result<Rescored, ReplayError>,
    ) -> Result<Option<Rescored>, VerifyError> {
        let mut differences = Differences { decision, tolerance: self.settings.tolerance, found: Vec::new() };
        let rescored = match rescored {
            Ok(rescored) => Some(rescored),
            Err(ReplayError { source: ReplayErrorKind::History { policy, version }, .. }) => {
                *self.report.incomplete.entry(format!("{policy} version {version}")).or_default() += 1;
                return Ok(None);
            }
            Err(ReplayError { source: ReplayErrorKind::Omitted { policy, version, features }, .. }) => {
                let what = format!("{policy} version {version}: {features}");
                *self.report.omitted.entry(what).or_default() += 1;
                return Ok(None);
            }
            Err(error @ ReplayError { source: ReplayErrorKind::Engine(_), .. }) => {
                return Err(VerifyError::Replay(error));
            }
            // The policy would have refused this request, so it did not decide it as it stands.
            Err(error) => {
                differences.add("candidates", "a decision", error.source.to_string());
                None
            }
        };
        let derived = |service| DecisionSeed::derive(service, &decision.decision_id);
        if let Some(expected) = self.settings.service_seed.filter(|_| decision.source == SERVICE).map(derived)
            && expected != seed
        {
            differences.add("seed", seed.value(), expected.value());
        }
        if let Some(LoadedPolicy { manifest, .. }) = policy {
            differences.add_unlike("policy", &decision.policy, &manifest.name);
            differences.add_unlike("policy_version", &decision.policy_version, &(manifest.version as i64));
        }
        if let Some(rescored) = &rescored {
            if logged_exploration(decision) != Some(rescored.exploration) {
                let logged = decision.exploration.as_deref().unwrap_or("absent");
                differences.add("exploration", logged, serde_json::json!(rescored.exploration));
            }
            if let Err(error) = differences.draw_again(rescored, seed) {
                differences.add("slate", ids(decision, &rescored.shown), error.to_string());
            }
        }
        let found = differences.found;
        self.report.fields += found.len() as u64;
        if found.is_empty() {
            self.report.reproduced += 1;
            return Ok(rescored);
        }
        self.report.mismatched += 1;
        let room = TOLD.saturating_sub(self.report.mismatches.len());
        self.report.mismatches.extend(found.into_iter().take(room));
        Ok(None)
    }
}

/// How a decision was made.
enum Made {
    /// By a bundle that is at hand.
    By { policy: Arc<LoadedPolicy>, exploration: Exploration, seed: DecisionSeed },
    /// By no bundle, but it holds all the scores that its slate was drawn by.
    FromScores { rescored: Rescored, seed: DecisionSeed },
    /// That cannot be told.
    Unknown,
}

fn logged_exploration(decision: &Decision) -> Option<Exploration> {
    serde_json::from_str(decision.exploration.as_deref()?).ok()
}

/// The items at these indices, as text.
fn ids(decision: &Decision, items: &[usize]) -> String {
    let ids: Vec<&str> = items.iter().map(|&item| decision.candidates[item].item.as_str()).collect();
    ids.join(", ")
}

/// The fields of one decision that came out otherwise.
struct Differences<'a> {
    decision: &'a Decision,
    tolerance: f64,
    found: Vec<Mismatch>,
}

impl Differences<'_> {
    fn add(&mut self, field: impl Into<String>, logged: impl fmt::Display, recomputed: impl fmt::Display) {
        self.found.push(Mismatch {
            decision_id: self.decision.decision_id.clone(),
            field: field.into(),
            logged: logged.to_string(),
            recomputed: recomputed.to_string(),
        });
    }

    fn add_unlike<T: PartialEq + fmt::Display>(&mut self, field: &str, logged: &T, recomputed: &T) {
        if logged != recomputed {
            self.add(field, logged, recomputed);
        }
    }

    /// A difference beyond the tolerance, relative to the greater of the recomputed number and `floor`; NaN is one.
    fn add_far(&mut self, field: impl FnOnce() -> String, logged: f64, recomputed: f64, floor: f64) {
        let near = (logged - recomputed).abs() <= self.tolerance * recomputed.abs().max(floor);
        if !near {
            self.add(field(), logged, recomputed);
        }
    }

    /// Draws the slate again, and computes the propensities of the one that was logged.
    fn draw_again(&mut self, rescored: &Rescored, seed: DecisionSeed) -> Result<(), DrawError> {
        let decision = self.decision;
        let Rescored { exploration, shown, constraints, size, .. } = rescored;
        let scores = rescored.scores(decision.candidates.len())?;
        for (index, (candidate, &score)) in decision.candidates.iter().zip(scores.first()).enumerate() {
            let field = || format!("candidates[{index}].score");
            match candidate.score {
                Some(logged) => self.add_far(field, f64::from(logged), f64::from(score), 1.0),
                None => self.add(field(), "absent", score),
            }
        }
        let (drawn, propensities) = if constraints.is_empty() {
            let drawn = draw_items(exploration, &scores, shown.len(), seed)?;
            (drawn, propensities(exploration, &scores, shown, seed)?)
        } else {
            let drawn = draw_constrained(exploration, &scores, *size, constraints, seed)?;
            (drawn.items, constrained_propensities(exploration, &scores, shown, *size, constraints, seed)?)
        };
        if drawn != *shown {
            self.add("slate", ids(decision, shown), ids(decision, &drawn));
        }
        for (position, item) in decision.slate.iter().enumerate() {
            let field = |name: &'static str| move || format!("slate[{position}].{name}");
            if item.position != position as i32 {
                self.add(field("position")(), item.position, position);
            }
            self.add_far(field("cascade_propensity"), item.cascade_propensity, propensities.cascade[position], 0.0);
            self.add_far(field("marginal_propensity"), item.marginal_propensity, propensities.marginal[position], 0.0);
        }
        self.add_far(|| "propensity".to_owned(), decision.propensity, propensities.joint(), 0.0);
        let draws = |draws: Option<i64>| draws.map_or_else(|| "exact".to_owned(), |draws| draws.to_string());
        for (field, logged, recomputed) in [
            ("propensity_draws", decision.propensity_draws, propensities.draws),
            ("marginal_draws", decision.marginal_draws, propensities.marginal_draws),
        ] {
            self.add_unlike(field, &draws(logged.map(i64::from)), &draws(recomputed.map(i64::from)));
        }
        Ok(())
    }
}

/// Verifies the closed segments of a journal, a folder or an address in an object store. `advance` is told how many more decisions were read.
///
/// # Errors
/// A journal without decisions or that does not read, a bundle that does not load, a model that fails.
pub async fn verify(
    journal: &Path,
    settings: VerifySettings,
    advance: &mut dyn FnMut(u64),
) -> Result<Verification, VerifyError> {
    let (dates, _) = sound_segments::<Decision>(&local(journal, None).await?, None)?;
    if dates.is_empty() {
        return Err(VerifyError::Empty(journal.to_owned()));
    }
    let mut verifier = Verifier::new(settings)?;
    for path in dates.into_iter().flat_map(|date| date.files) {
        for decisions in SegmentReader::<Decision>::open(&path, BATCH)? {
            let decisions = decisions?;
            verifier.check(&decisions.iter().collect::<Vec<_>>()).await?;
            advance(decisions.len() as u64);
        }
    }
    Ok(verifier.report)
}

impl Verification {
    /// The counts that the gate judges by.
    #[must_use]
    pub fn counts(&self) -> Replay {
        let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        Replay {
            reproduced: self.reproduced,
            mismatched: self.mismatched,
            unknown: sum(&self.absent) + sum(&self.incomplete) + sum(&self.omitted),
            foreign: sum(&self.foreign) + sum(&self.not_drawn),
        }
    }

    /// Whether nothing that could be recomputed came out otherwise.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.mismatched == 0
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "decisions            {:>10}", self.decisions)?;
        let from_scores = match self.by_scores {
            0 => String::new(),
            count => format!("  {count} of those judged by the scores they hold, without a bundle"),
        };
        writeln!(formatter, "  reproduced         {:>10}{from_scores}", self.reproduced)?;
        write!(formatter, "  mismatched         {:>10}  in {} fields", self.mismatched, self.fields)?;
        for (what, counts) in [
            ("without bundle", &self.foreign),
            ("not drawn", &self.not_drawn),
            ("bundle not at hand", &self.absent),
            ("need the session", &self.incomplete),
            ("not journalled", &self.omitted),
        ] {
            for (name, count) in counts {
                write!(formatter, "\n  {what:18} {count:>10}  {name}")?;
            }
        }
        for mismatch in &self.mismatches {
            let Mismatch { decision_id, field, logged, recomputed } = mismatch;
            write!(
                formatter,
                "\ndecision `{decision_id}`: `{field}` is logged as {logged}, recomputed as {recomputed}"
            )?;
        }
        let untold = self.fields - self.mismatches.len() as u64;
        if untold > 0 { write!(formatter, "\nand {untold} more") } else { Ok(()) }
    }
}

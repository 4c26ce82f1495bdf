//! Replaying a journal: each decision of a bundle of ours is made again from what was logged, and must come out the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::Serialize;
use slated_contract::event::{Decision, SegmentError, SegmentReader, segments};
use slated_contract::policy::{BundleError, read_manifest, versions};
use slated_contract::slate::{DecisionSeed, DrawError, Exploration, Scores, draw, propensities};
use slated_trainer::ope::gate::Replay;
use thiserror::Error;

use crate::serving::{EngineSettings, LoadError, LoadedPolicy, ReplayError, ReplayErrorKind, Rescored};

/// Decisions read, and scored, at a time.
const BATCH: usize = 256;
/// Decisions that wait for the model at a time.
const IN_FLIGHT: usize = 64;
/// Mismatches that are told one by one; beyond it they are counted.
const TOLD: usize = 1000;

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
    /// Decisions that no bundle of ours made, by what wrote them: nothing can be recomputed.
    pub foreign: BTreeMap<String, u64>,
    /// Decisions whose bundle is not in the folder of models, by policy, version and hash.
    pub absent: BTreeMap<String, u64>,
    /// Decisions that need more than a decision holds, by policy and version.
    pub incomplete: BTreeMap<String, u64>,
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

/// A decision that came out as logged.
#[derive(Debug, Clone)]
pub struct Reproduced {
    /// The policy that made it.
    pub policy: Arc<LoadedPolicy>,
    /// What the slate was drawn by.
    pub rescored: Rescored,
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
    pub async fn check(&mut self, decisions: &[&Decision]) -> Result<Vec<Option<Reproduced>>, VerifyError> {
        let mut found = Vec::with_capacity(decisions.len());
        for decision in decisions {
            found.push(self.policy_of(decision)?);
        }
        let rescored: Vec<_> = stream::iter(decisions.iter().copied().zip(found))
            .map(async |(decision, policy)| match policy {
                Some((policy, seed)) => Some((policy.rescore(decision, seed).await, policy, seed)),
                None => None,
            })
            .buffered(IN_FLIGHT)
            .collect()
            .await;
        let mut reproduced = Vec::with_capacity(decisions.len());
        for (decision, rescored) in decisions.iter().zip(rescored) {
            reproduced.push(match rescored {
                Some((rescored, policy, seed)) => self.compare(decision, policy, seed, rescored)?,
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

    /// The policy that made a decision, with its seed; counts the decision where there is none.
    fn policy_of(&mut self, decision: &Decision) -> Result<Option<(Arc<LoadedPolicy>, DecisionSeed)>, VerifyError> {
        self.report.decisions += 1;
        let (Some(hash), Some(seed)) = (&decision.model_sha256, decision.seed) else {
            *self.report.foreign.entry(decision.source.clone()).or_default() += 1;
            return Ok(None);
        };
        let named = (decision.policy.clone(), decision.policy_version.unsigned_abs());
        // Another bundle may hold the same model: trained alike, or copied. The decision's own name goes first.
        let bundle =
            self.bundles.get(hash).and_then(|known| known.iter().find(|known| **known == named).or(known.first()));
        let Some((name, version)) = bundle.cloned() else {
            let bundle = format!("{} version {}, model {hash:.12}", decision.policy, decision.policy_version);
            *self.report.absent.entry(bundle).or_default() += 1;
            return Ok(None);
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
        Ok(Some((policy, DecisionSeed::from_value(seed.unsigned_abs()))))
    }

    fn compare(
        &mut self,
        decision: &Decision,
        policy: Arc<LoadedPolicy>,
        seed: DecisionSeed,
        rescored: Result<Rescored, ReplayError>,
    ) -> Result<Option<Reproduced>, VerifyError> {
        let mut differences = Differences { decision, tolerance: self.settings.tolerance, found: Vec::new() };
        let rescored = match rescored {
            Ok(rescored) => Some(rescored),
            Err(ReplayError { source: ReplayErrorKind::History { policy, version }, .. }) => {
                *self.report.incomplete.entry(format!("{policy} version {version}")).or_default() += 1;
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
        if let Some(expected) =
            self.settings.service_seed.map(|service| DecisionSeed::derive(service, &decision.decision_id))
            && expected != seed
        {
            differences.add("seed", seed.value(), expected.value());
        }
        differences.add_unlike("policy", &decision.policy, &policy.manifest.name);
        differences.add_unlike("policy_version", &decision.policy_version, &(policy.manifest.version as i64));
        let exploration = decision.exploration.as_deref().unwrap_or_default();
        if serde_json::from_str::<Exploration>(exploration).ok() != Some(policy.manifest.exploration) {
            differences.add("exploration", exploration, &policy.exploration_json);
        }
        if let Some(rescored) = &rescored
            && let Err(error) = differences.draw_again(&policy.manifest.exploration, rescored, seed)
        {
            differences.add("slate", ids(decision, &rescored.shown), error.to_string());
        }
        let found = differences.found;
        self.report.fields += found.len() as u64;
        if found.is_empty() {
            self.report.reproduced += 1;
            return Ok(rescored.map(|rescored| Reproduced { policy, rescored }));
        }
        self.report.mismatched += 1;
        let room = TOLD.saturating_sub(self.report.mismatches.len());
        self.report.mismatches.extend(found.into_iter().take(room));
        Ok(None)
    }
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
    fn draw_again(
        &mut self,
        exploration: &Exploration,
        rescored: &Rescored,
        seed: DecisionSeed,
    ) -> Result<(), DrawError> {
        let decision = self.decision;
        let Rescored { ranked, shown } = rescored;
        let scores = Scores::new(ranked, decision.candidates.len(), exploration)?;
        for (index, (candidate, &score)) in decision.candidates.iter().zip(scores.first()).enumerate() {
            if let Some(logged) = candidate.score {
                let field = || format!("candidates[{index}].score");
                self.add_far(field, f64::from(logged), f64::from(score), 1.0);
            }
        }
        let drawn = draw(exploration, &scores, shown.len(), seed)?;
        if drawn.items != *shown {
            self.add("slate", ids(decision, shown), ids(decision, &drawn.items));
        }
        let propensities = propensities(exploration, &scores, shown)?;
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
        let (logged, recomputed) = (decision.propensity_draws.map(i64::from), propensities.draws.map(i64::from));
        self.add_unlike("propensity_draws", &draws(logged), &draws(recomputed));
        Ok(())
    }
}

/// Verifies the closed segments of a journal. `advance` is told how many more decisions were read.
///
/// # Errors
/// A journal without decisions or that does not read, a bundle that does not load, a model that fails.
pub async fn verify(
    journal: &Path,
    settings: VerifySettings,
    advance: &mut dyn FnMut(u64),
) -> Result<Verification, VerifyError> {
    let dates = segments::<Decision>(journal)?;
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
            unknown: sum(&self.absent) + sum(&self.incomplete),
            foreign: sum(&self.foreign),
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
        writeln!(formatter, "  reproduced         {:>10}", self.reproduced)?;
        write!(formatter, "  mismatched         {:>10}  in {} fields", self.mismatched, self.fields)?;
        for (what, counts) in [
            ("of other systems", &self.foreign),
            ("bundle not at hand", &self.absent),
            ("need the session", &self.incomplete),
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

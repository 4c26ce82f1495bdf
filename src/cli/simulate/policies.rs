//! The policies that a command line names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use serde_json::json;
use slated_contract::policy::{Bundle, BundleError};
use slated_contract::slate::Exploration;
use slated_trainer::env::EnvironmentSpec;
use slated_trainer::rollout::{Actor, MakeScorer, Model, Part, Scorer, ScorerError};

use super::report::PartName;
use crate::cli::exit::BadInput;
use crate::journal::simulated::ActingPolicy;
use crate::serving::BundleScorer;

const RANDOM: &str = "random";
const EXPERT: &str = "expert";

/// The policies that can be named.
pub struct Policies<'a> {
    models: PathBuf,
    spec: &'a EnvironmentSpec,
    greedy: bool,
    expert: Option<&'a str>,
}

/// Policies with the probability that an episode belongs to each.
pub struct Mixture {
    /// As the command line wrote it.
    pub name: String,
    parts: Vec<(f64, Named)>,
}

/// A policy with its name.
enum Named {
    Random,
    Reference(String),
    Bundle { bundle: Arc<Bundle>, exploration: Exploration, scorer: Box<MakeScorer<'static>> },
}

impl<'a> Policies<'a> {
    pub fn new(models: &Path, spec: &'a EnvironmentSpec, greedy: bool, expert: Option<&'a str>) -> Self {
        Self { models: models.to_owned(), spec, greedy, expert }
    }

    /// A mixture for each policy and each mix of a command line; random where it names none.
    pub fn read(&self, policies: &[String], mixes: &[String]) -> anyhow::Result<Vec<Mixture>> {
        if policies.is_empty() && mixes.is_empty() {
            return self.read(&[RANDOM.to_owned()], &[]);
        }
        let single =
            policies.iter().map(|name| Ok(Mixture { name: name.clone(), parts: vec![(1.0, self.find(name)?)] }));
        single.chain(mixes.iter().map(|mix| self.mixture(mix))).collect()
    }

    /// `expert=0.2,random=0.8`.
    fn mixture(&self, text: &str) -> anyhow::Result<Mixture> {
        let part = |part: &str| {
            let share = part.rsplit_once('=').and_then(|(name, share)| Some((name, share.trim().parse::<f64>().ok()?)));
            let Some((name, share)) = share else {
                bail!(BadInput(format!("--mix {text}: `{part}` is not POLICY=SHARE, such as random=0.8")));
            };
            Ok((share, self.find(name.trim())?))
        };
        let parts = text.split(',').map(part).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Mixture { name: text.to_owned(), parts })
    }

    fn find(&self, name: &str) -> anyhow::Result<Named> {
        let name = match (name, self.expert) {
            (EXPERT, Some(EXPERT)) => bail!(BadInput("--expert cannot be `expert` itself".to_owned())),
            (EXPERT, Some(expert)) => return self.find(expert),
            (EXPERT, None) => self.spec.references.first().copied().unwrap_or(RANDOM),
            (name, _) => name,
        };
        if name == RANDOM {
            return Ok(Named::Random);
        }
        if self.spec.references.contains(&name) {
            return Ok(Named::Reference(name.to_owned()));
        }
        let bundle = self.open(name)?;
        let (limits, spec) = (bundle.manifest.slate, self.spec);
        if limits.max_size < spec.slate_size || limits.max_candidates < spec.candidates {
            bail!(BadInput(format!(
                "policy `{name}` was made for slates of at most {} from {} candidates; environment `{}` shows {} of {}",
                limits.max_size, limits.max_candidates, spec.name, spec.slate_size, spec.candidates
            )));
        }
        let exploration = if self.greedy { Exploration::Greedy } else { bundle.manifest.exploration };
        let bundle = Arc::new(bundle);
        let model = Arc::clone(&bundle);
        let scorer = Box::new(move || {
            let scorer = BundleScorer::load(&model).map_err(|error| ScorerError(error.to_string()))?;
            Ok(Box::new(scorer) as Box<dyn Scorer>)
        });
        Ok(Named::Bundle { bundle, exploration, scorer })
    }

    /// A bundle, as NAME or NAME:VERSION.
    fn open(&self, text: &str) -> anyhow::Result<Bundle> {
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => match version.parse() {
                Ok(version) => (name, Some(version)),
                Err(_) => bail!(BadInput(format!("policy `{text}`: `{version}` is not a version; write NAME:3"))),
            },
            None => (text, None),
        };
        Bundle::open(&self.models, name, version).map_err(|error| match error {
            BundleError::NoVersion { .. } => anyhow::Error::from(BadInput(format!(
                "there is no policy `{name}`: environment `{}` has {RANDOM}, {}; {} holds no such bundle",
                self.spec.name,
                self.spec.references.join(", "),
                self.models.display()
            ))),
            error => error.into(),
        })
    }
}

impl Mixture {
    /// The share of each part.
    pub fn shares(&self) -> Vec<f64> {
        self.parts.iter().map(|(share, _)| *share).collect()
    }

    /// What the report says of each part.
    pub fn names(&self) -> Vec<PartName> {
        let acting = self.acting().into_iter().zip(&self.parts);
        let name = |(acting, (share, _)): (ActingPolicy, &(f64, Named))| PartName {
            policy: acting.name,
            version: acting.model_sha256.map(|_| acting.version),
            share: *share,
        };
        acting.map(name).collect()
    }

    /// What the journal says of each part.
    pub fn acting(&self) -> Vec<ActingPolicy> {
        self.parts.iter().map(|(_, named)| named.acting()).collect()
    }

    /// The parts, for a rollout.
    pub fn parts(&self) -> Vec<Part<'_>> {
        self.parts.iter().map(|(share, named)| Part { share: *share, actor: named.actor() }).collect()
    }
}

impl Named {
    fn actor(&self) -> Actor<'_> {
        match self {
            Self::Random => Actor::Random,
            Self::Reference(name) => Actor::Reference(name),
            Self::Bundle { bundle, exploration, scorer } => Actor::Model(Model {
                features: &bundle.manifest.features,
                session: &bundle.manifest.session,
                exploration: *exploration,
                objective: bundle.manifest.objective,
                noise: bundle.manifest.signature.noise,
                scorer: scorer.as_ref(),
            }),
        }
    }

    fn acting(&self) -> ActingPolicy {
        let without_model = |name: &str, exploration: Exploration| ActingPolicy {
            name: name.to_owned(),
            version: 1,
            model_sha256: None,
            exploration: json!(exploration).to_string(),
        };
        match self {
            Self::Random => without_model(RANDOM, Actor::Random.exploration()),
            Self::Reference(name) => without_model(name, Actor::Reference(name).exploration()),
            Self::Bundle { bundle, exploration, .. } => ActingPolicy {
                name: bundle.manifest.name.clone(),
                // The manifest was checked: a version fits.
                version: bundle.manifest.version as i64,
                model_sha256: Some(bundle.manifest.model_sha256.clone()),
                exploration: json!(exploration).to_string(),
            },
        }
    }
}

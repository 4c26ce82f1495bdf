//! Rollouts: the returns that RecSim reports, the same whatever the number of threads, from any kind of policy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use slated_contract::feature::{Feature, FeatureKind, FeatureSchema, Missing, Normalisation};
use slated_contract::slate::{Exploration, SlateMethod, SlateObjective};
use slated_trainer::env::{Environment, EnvironmentSettings, Outcome};
use slated_trainer::rollout::{
    Actor, Decided, Episode, Model, Observation, Observer, ObserverError, Part, Rollout, RolloutError, Scored, Scorer,
    ScorerError, Summary, episode_seed,
};

fn preset(name: &str) -> EnvironmentSettings {
    EnvironmentSettings::named(name).unwrap()
}

fn run(settings: &EnvironmentSettings, episodes: u64, parts: &[Part]) -> Result<Vec<Episode>, RolloutError> {
    let make = || settings.build();
    Rollout { workers: 2, ..Rollout::new(&make, episodes, 1) }.run(parts)
}

fn returns(episodes: &[Episode]) -> Vec<f64> {
    episodes.iter().map(|episode| episode.total_reward).collect()
}

#[derive(Deserialize)]
struct Reference {
    mean_return: f64,
    se: f64,
    mean_length: f64,
}

/// The settings, policy and number of episodes behind a key such as `lts/tutorial/candidates=20/slate=1/random`.
fn read_key(key: &str) -> (EnvironmentSettings, &str, u64) {
    let (path, policy) = key.rsplit_once('/').unwrap();
    let number = |name: &str| path.split('/').find_map(|part| part.strip_prefix(name)).map(|n| n.parse().unwrap());
    let (candidates, slate) = (number("candidates=").unwrap(), number("slate=").unwrap());
    let (mut settings, episodes) = match path.split('/').next().unwrap() {
        "lts" if path.contains("tutorial") => (preset("lts-tutorial"), 1500),
        "lts" => (preset("lts"), 300),
        "interest_evolution" => (preset("interest-evolution"), 300),
        _ => (preset("interest-exploration"), 300),
    };
    let (of_candidates, of_slate) = match &mut settings {
        EnvironmentSettings::LongTermSatisfaction(own) => (&mut own.candidates, &mut own.slate_size),
        EnvironmentSettings::InterestEvolution(own) => (&mut own.candidates, &mut own.slate_size),
        EnvironmentSettings::InterestExploration(own) => {
            assert_eq!(Some(own.max_steps as usize), number("steps="));
            (&mut own.candidates, &mut own.slate_size)
        }
    };
    (*of_candidates, *of_slate) = (candidates, slate);
    (settings, policy, episodes)
}

#[test]
fn fixed_policies_return_what_they_return_in_recsim() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policy_returns.json");
    let references: BTreeMap<String, Reference> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(references.len(), 19);
    for (key, reference) in references {
        let (settings, policy, count) = read_key(&key);
        let actor = if policy == "random" { Actor::Random } else { Actor::Reference(policy) };
        let episodes = run(&settings, count, &[actor.into()]).unwrap();
        let found = Summary::of(&returns(&episodes));
        let error = found.standard_error.hypot(reference.se);
        assert!(
            (found.mean - reference.mean_return).abs() < 3.0 * error,
            "{key}: {} +- {}, RecSim {} +- {}",
            found.mean,
            found.standard_error,
            reference.mean_return,
            reference.se
        );
        // RecSim's table has no error for the length, so it is judged by ours.
        let lengths = Summary::of(&episodes.iter().map(|episode| f64::from(episode.steps)).collect::<Vec<_>>());
        assert!(
            (lengths.mean - reference.mean_length).abs() <= 4.5 * lengths.standard_error,
            "{key}: {lengths:?}, RecSim {}",
            reference.mean_length
        );
    }
}

/// Sweet at steps 3, 7 and 10, kale otherwise: nearly the best that can be done in the tutorial's environment.
struct Schedule;

impl Scorer for Schedule {
    fn score(&mut self, observations: &[&Observation], _: &[f32]) -> Result<Vec<Scored>, ScorerError> {
        let score = |observation: &&Observation| {
            let step = (observation.state[0] * 10.0).round() as u32 + 1;
            let sign = if [3, 7, 10].contains(&step) { 1.0 } else { -1.0 };
            Scored { scores: observation.items.iter().map(|score| sign * score).collect(), appeal: Vec::new() }
        };
        Ok(observations.iter().map(score).collect())
    }
}

#[test]
fn a_fixed_schedule_returns_nearly_the_optimum() {
    let settings = preset("lts-tutorial");
    let environment = settings.build().unwrap();
    let make = || Ok(Box::new(Schedule) as Box<dyn Scorer>);
    let episodes = run(&settings, 1000, &[Actor::Model(model(&*environment, &make)).into()]).unwrap();
    let found = Summary::of(&returns(&episodes));
    assert!((found.mean - 223.8).abs() < 0.05 + 3.0 * found.standard_error, "{found:?}");
    assert!(Some(found.mean) < environment.spec().optimum);
}

/// Scores an item by its first number, and counts how many observations each batch had.
struct FirstNumber(Arc<Mutex<Vec<usize>>>);

impl Scorer for FirstNumber {
    fn score(&mut self, observations: &[&Observation], _: &[f32]) -> Result<Vec<Scored>, ScorerError> {
        self.0.lock().unwrap().push(observations.len());
        let score = |observation: &&Observation| {
            let width = observation.items.len() / observation.candidates;
            Scored { scores: observation.items.iter().step_by(width).copied().collect(), appeal: Vec::new() }
        };
        Ok(observations.iter().map(score).collect())
    }
}

fn model<'a>(environment: &'a dyn Environment, make: &'a slated_trainer::rollout::MakeScorer<'a>) -> Model<'a> {
    let spec = environment.spec();
    Model {
        features: &spec.features,
        session: &spec.session,
        exploration: Exploration::Greedy,
        objective: None,
        noise: None,
        scorer: make,
    }
}

#[test]
fn a_model_that_scores_by_sweetness_is_the_sweetest_policy() {
    let settings = preset("lts-tutorial");
    let environment = settings.build().unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let make = || Ok(Box::new(FirstNumber(Arc::clone(&batches))) as Box<dyn Scorer>);
    let by_model = run(&settings, 200, &[Actor::Model(model(&*environment, &make)).into()]).unwrap();
    assert_eq!(by_model, run(&settings, 200, &[Actor::Reference("sweetest").into()]).unwrap());
    let batches = batches.lock().unwrap();
    assert_eq!(batches.iter().max(), Some(&Rollout::LANES));
    assert_eq!(batches.iter().sum::<usize>(), 2000, "every decision is scored once");
}

#[test]
fn a_rollout_is_the_same_whatever_the_number_of_threads() {
    let settings = preset("interest-evolution");
    let environment = settings.build().unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let make_scorer = || Ok(Box::new(FirstNumber(Arc::clone(&batches))) as Box<dyn Scorer>);
    let softmax =
        Model { exploration: Exploration::Softmax { temperature: 1.0 }, ..model(&*environment, &make_scorer) };
    let parts = [
        Part { share: 0.3, actor: Actor::Model(softmax) },
        Part { share: 0.5, actor: Actor::Random },
        Part { share: 0.2, actor: Actor::Reference("best_quality") },
    ];
    let make = || settings.build();
    let mut seen = Vec::new();
    for workers in [1, 2, 5] {
        let rollout = Rollout { workers, latent: true, ..Rollout::new(&make, 300, 9) };
        seen.push((rollout.run(&parts).unwrap(), std::mem::take(&mut *batches.lock().unwrap()).len()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    let episodes = &seen[0].0;
    assert!(episodes.iter().zip(0..).all(|(episode, index)| episode.index == index));
    let of_part = |part| episodes.iter().filter(|episode| episode.part == part).count();
    // Three standard errors are 24, 26 and 21 episodes.
    for (part, expected, error) in [(0, 90, 24), (1, 150, 26), (2, 60, 21)] {
        assert!(of_part(part).abs_diff(expected) < error, "part {part}: {}", of_part(part));
    }
    assert!(episodes.iter().all(|episode| episode.latent["time_budget"] < 200.0));
    // The first episodes of a longer rollout are those of a shorter one, model or not.
    let shorter = Rollout { latent: true, ..Rollout::new(&make, 50, 9) }.run(&parts).unwrap();
    assert_eq!(shorter[..], episodes[..50]);
    let other = Rollout { latent: true, ..Rollout::new(&make, 50, 10) }.run(&parts).unwrap();
    assert_ne!(other[..], episodes[..50]);
    assert_ne!(episode_seed(9, 0), episode_seed(10, 0));
}

/// One step, as an observer saw it.
struct Seen {
    episode: u64,
    step: u32,
    slate: Vec<usize>,
    reward: f64,
}

#[test]
fn what_is_watched_is_what_happened() {
    struct Watch<'a> {
        block: u64,
        seen: &'a Mutex<Vec<Seen>>,
        finished: &'a AtomicUsize,
    }
    impl Observer for Watch<'_> {
        fn decided(&mut self, decided: &Decided<'_>) -> Result<(), ObserverError> {
            assert_eq!(decided.episode / 128, self.block);
            let environment = decided.lane.environment();
            assert_eq!(decided.scores.len(), environment.spec().candidates);
            let propensities = &decided.slate.propensities;
            // Ordered slates of 3 from 10, each as likely as another.
            assert!((propensities.joint() - 1.0 / 720.0).abs() < 1e-12);
            assert!((propensities.cascade[1] - 1.0 / 90.0).abs() < 1e-12);
            assert!(propensities.marginal.iter().all(|marginal| (marginal - 0.1).abs() < 1e-12));
            let slate = decided.slate.items.clone();
            let seen = Seen { episode: decided.episode, step: decided.step, slate, reward: f64::NAN };
            self.seen.lock().unwrap().push(seen);
            Ok(())
        }

        fn responded(&mut self, outcome: &Outcome) -> Result<(), ObserverError> {
            self.seen.lock().unwrap().last_mut().unwrap().reward = outcome.reward;
            Ok(())
        }

        fn finish(&mut self) -> Result<(), ObserverError> {
            self.finished.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    let settings = preset("interest-evolution");
    let (seen, finished) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let make = || settings.build();
    let observe = |block| Box::new(Watch { block, seen: &seen, finished: &finished }) as Box<dyn Observer>;
    let rollout = Rollout { observe: Some(&observe), ..Rollout::new(&make, 140, 2) };
    let episodes = rollout.run(&[Actor::Random.into()]).unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(finished.into_inner(), 2);
    let mut slates = BTreeMap::new();
    for episode in &episodes {
        let mut own: Vec<&Seen> = seen.iter().filter(|seen| seen.episode == episode.index).collect();
        own.sort_by_key(|seen| seen.step);
        assert!(own.iter().zip(0..).all(|(seen, step)| seen.step == step));
        assert_eq!(own.len(), episode.steps as usize);
        assert_eq!(own.iter().map(|seen| seen.reward).sum::<f64>(), episode.total_reward);
        own.iter().for_each(|seen| *slates.entry(seen.slate.clone()).or_insert(0) += 1);
    }
    // About 10,000 decisions over 720 slates.
    assert_eq!(slates.len(), 720);
    assert!(slates.values().all(|&count| count < 60));
}

#[test]
fn a_choice_models_objective_makes_the_slate() {
    /// Every score is 1 but the last item's; the last item's is large, and its appeal nothing.
    struct Appeal;
    impl Scorer for Appeal {
        fn score(&mut self, observations: &[&Observation], noise: &[f32]) -> Result<Vec<Scored>, ScorerError> {
            assert!(noise.is_empty());
            let score = |observation: &&Observation| {
                let last = observation.candidates - 1;
                let of = |at: usize, own: f32, other: f32| if at == last { own } else { other };
                Scored {
                    scores: (0..=last).map(|at| of(at, 100.0, 1.0)).collect(),
                    appeal: (0..=last).map(|at| of(at, 0.0, 1.0)).collect(),
                }
            };
            Ok(observations.iter().map(score).collect())
        }
    }
    let settings = preset("lts-tutorial");
    let environment = settings.build().unwrap();
    let make = || Ok(Box::new(Appeal) as Box<dyn Scorer>);
    let plain = model(&*environment, &make);
    let objective = Some(SlateObjective { method: SlateMethod::TopK, no_choice: 1.0 });
    let by_score = run(&settings, 3, &[Actor::Model(plain).into()]).unwrap();
    let by_worth = run(&settings, 3, &[Actor::Model(Model { objective, ..plain }).into()]).unwrap();
    assert_ne!(by_score, by_worth, "the last item is not worth showing");
}

#[test]
fn a_model_that_takes_noise_gets_a_row_for_each_row_of_scores() {
    struct Noisy;
    impl Scorer for Noisy {
        fn score(&mut self, observations: &[&Observation], noise: &[f32]) -> Result<Vec<Scored>, ScorerError> {
            assert_eq!(noise.len(), observations.len() * 5 * 2);
            let score = |(observation, noise): (&&Observation, &[f32])| {
                let row = |noise: &[f32]| (0..observation.candidates).map(|at| noise[at % 2]).collect::<Vec<f32>>();
                Scored { scores: noise.chunks_exact(2).flat_map(row).collect(), appeal: Vec::new() }
            };
            Ok(observations.iter().zip(noise.chunks_exact(10)).map(score).collect())
        }
    }
    let settings = preset("lts-tutorial");
    let environment = settings.build().unwrap();
    let make = || Ok(Box::new(Noisy) as Box<dyn Scorer>);
    let posterior = Model {
        exploration: Exploration::PosteriorSampling { draws: 4 },
        noise: Some(2),
        ..model(&*environment, &make)
    };
    assert_eq!(run(&settings, 40, &[Actor::Model(posterior).into()]).unwrap().len(), 40);
}

#[test]
fn what_cannot_be_run_says_why() {
    let lts = preset("lts-tutorial");
    let refused = |result: Result<Vec<Episode>, RolloutError>, parts: &[&str]| {
        let message = result.unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    refused(
        run(&lts, 1, &[Actor::Reference("best").into()]),
        &["`best`", "long_term_satisfaction", "sweetest, kaliest"],
    );
    let half = |actor| Part { share: 0.4, actor };
    refused(run(&lts, 1, &[half(Actor::Random), half(Actor::Reference("kaliest"))]), &["[0.4, 0.4]", "sum to 1"]);
    refused(run(&lts, 1, &[]), &["[]"]);
    // A policy made for another environment.
    let evolution = preset("interest-evolution").build().unwrap();
    let batches = Arc::new(Mutex::new(Vec::new()));
    let make = || Ok(Box::new(FirstNumber(Arc::clone(&batches))) as Box<dyn Scorer>);
    let foreign = Actor::Model(model(&*evolution, &make));
    refused(run(&lts, 1, &[foreign.into()]), &["environment `long_term_satisfaction`", "user feature `interests`"]);
    let device = Feature {
        name: "device".to_owned(),
        kind: FeatureKind::Hashed { buckets: 4, salt: 0 },
        missing: Missing::Zeros,
    };
    let features = FeatureSchema { context: vec![device], ..FeatureSchema::default() };
    let foreign = Actor::Model(Model { features: &features, ..model(&*evolution, &make) });
    refused(run(&lts, 1, &[foreign.into()]), &["context feature `device`", "not there"]);
    // A model that fails, or scores with what cannot be ranked.
    struct Failing(f32);
    impl Scorer for Failing {
        fn score(&mut self, observations: &[&Observation], _: &[f32]) -> Result<Vec<Scored>, ScorerError> {
            if self.0 == 0.0 {
                return Err(ScorerError("out of memory".to_owned()));
            }
            let score = |o: &&Observation| Scored { scores: vec![self.0; o.candidates], appeal: Vec::new() };
            Ok(observations.iter().map(score).collect())
        }
    }
    let environment = lts.build().unwrap();
    for (score, part) in [(0.0, "out of memory"), (f32::NAN, "cannot be ranked")] {
        let make = || Ok(Box::new(Failing(score)) as Box<dyn Scorer>);
        refused(run(&lts, 1, &[Actor::Model(model(&*environment, &make)).into()]), &[part]);
    }
}

#[test]
fn a_policy_may_read_less_than_the_environment_says() {
    let settings = preset("lts");
    let environment = settings.build().unwrap();
    let mut features = FeatureSchema { item: environment.spec().features.item.clone(), ..FeatureSchema::default() };
    let FeatureKind::Numeric { normalisation, .. } = &mut features.item[0].kind else { panic!("not a number") };
    *normalisation = Normalisation::MinMax { min: 1.0, max: 2.0 };
    let batches = Arc::new(Mutex::new(Vec::new()));
    let make = || Ok(Box::new(FirstNumber(Arc::clone(&batches))) as Box<dyn Scorer>);
    let narrow = Model { features: &features, ..model(&*environment, &make) };
    let found = run(&settings, 20, &[Actor::Model(narrow).into()]).unwrap();
    assert_eq!(found, run(&settings, 20, &[Actor::Reference("sweetest").into()]).unwrap());
}

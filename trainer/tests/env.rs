//! The environments, held to what RecSim did.

use std::path::PathBuf;

use serde::Deserialize;
use slated_trainer::env::{
    Environment, EnvironmentError, EnvironmentSettings, IevDocument, IevUser, InterestEvolution,
    InterestEvolutionSettings, LongTermSatisfaction, LongTermSatisfactionSettings, LtsDocument, LtsUser,
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

#[derive(Deserialize)]
struct LtsStep {
    npe_before: f64,
    satisfaction_before: f64,
    time_budget_before: u32,
    clickbait_score: f64,
    reward: f64,
    npe_after: f64,
    satisfaction_after: f64,
    time_budget_after: u32,
    done: u8,
}

#[test]
fn every_step_of_long_term_satisfaction_is_recsims() {
    let settings = LongTermSatisfactionSettings::tutorial();
    let mut steps = 0;
    for step in csv::Reader::from_path(data("lts_tutorial_steps.csv")).unwrap().deserialize() {
        let step: LtsStep = step.unwrap();
        let of_range = |[least, greatest]: &[f64; 2]| (*least..*greatest).contains(&step.clickbait_score);
        assert!(settings.clickbait_ranges.iter().any(of_range), "{}", step.clickbait_score);
        let document = LtsDocument { id: 0, clickbait_score: step.clickbait_score };
        let mut user = LtsUser::new(&settings, step.npe_before);
        assert_near("satisfaction before", user.satisfaction, step.satisfaction_before, 1e-9);
        let (mean, deviation) = user.log_engagement(&settings, &document);
        assert_eq!(deviation, 0.0);
        assert_near("reward", mean.exp(), step.reward, 1e-9);
        user.time_budget = step.time_budget_before;
        user.consume(&settings, &document, 0.0);
        assert_near("exposure", user.net_positive_exposure, step.npe_after, 1e-4);
        assert_near("satisfaction", user.satisfaction, step.satisfaction_after, 1e-4);
        // With the innovation that RecSim drew.
        user = LtsUser::new(&settings, step.npe_after);
        assert_near("satisfaction after", user.satisfaction, step.satisfaction_after, 1e-9);
        assert_eq!(step.time_budget_before - 1, step.time_budget_after);
        assert_eq!(step.time_budget_after == 0, step.done == 1);
        steps += 1;
    }
    assert_eq!(steps, 2000);
}

#[derive(Deserialize)]
struct IevEpisode {
    interests: Vec<f64>,
    time_budget: f64,
    steps: Vec<IevStep>,
}

#[derive(Deserialize)]
struct IevStep {
    slate: Vec<(usize, f64)>,
    clicked_position: Option<usize>,
    reward: f64,
    time_budget: f64,
    interest: Option<f64>,
    done: bool,
}

#[test]
fn every_step_of_interest_evolution_is_recsims() {
    let settings = InterestEvolutionSettings::default();
    let text = std::fs::read_to_string(data("interest_evolution_steps.jsonl")).unwrap();
    let (mut steps, mut rises) = (0, 0);
    for line in text.lines() {
        let episode: IevEpisode = serde_json::from_str(line).unwrap();
        let mut user = IevUser { interests: episode.interests, time_budget: episode.time_budget };
        for step in episode.steps {
            match step.clicked_position {
                Some(position) => {
                    let (topic, quality) = step.slate[position];
                    let document = IevDocument { id: 0, topic, quality };
                    // Whether the interest rose was drawn; what was recorded says which.
                    let recorded = step.interest.unwrap();
                    let after = |rises| {
                        let mut after = user.clone();
                        let watched = after.watch(&settings, &document, rises);
                        (after, watched)
                    };
                    let is_recorded = |rises| (after(rises).0.interests[topic] - recorded).abs() <= 1e-9;
                    assert!(is_recorded(true) || is_recorded(false), "interest after {recorded}");
                    rises += usize::from(is_recorded(true));
                    let (next, watched) = after(is_recorded(true));
                    assert_near("reward", watched, step.reward, 1e-9);
                    user = next;
                }
                None => {
                    assert_eq!((step.interest, step.reward), (None, 0.0));
                    user.pass(&settings);
                }
            }
            assert_near("time budget", user.time_budget, step.time_budget, 1e-9);
            assert_eq!(user.time_budget <= 0.0, step.done);
            steps += 1;
        }
    }
    assert_eq!(steps, 1040);
    assert!((100..steps).contains(&rises), "the interest rose {rises} times");
}

#[test]
fn topics_rise_from_trash_to_nutrition() {
    let qualities = InterestEvolutionSettings::default().topic_qualities();
    assert_eq!(qualities.len(), 20);
    let expected = [(0, -3.0), (12, -3.0 / 13.0), (13, 0.0), (14, 0.0), (15, 0.6), (19, 3.0)];
    for (topic, expected) in expected {
        assert_near("quality", qualities[topic], expected, 1e-12);
    }
}

fn settings(text: &str) -> Result<EnvironmentSettings, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn absent_parameters_are_recsims() {
    for (name, preset) in [
        ("long_term_satisfaction", "lts"),
        ("interest_evolution", "interest-evolution"),
        ("interest_exploration", "interest-exploration"),
    ] {
        let read = settings(&format!("name = \"{name}\"")).unwrap();
        assert_eq!(Some(&read), EnvironmentSettings::preset(preset).as_ref());
        let written = toml::to_string(&read).unwrap();
        assert_eq!(settings(&written).unwrap(), read);
        assert_eq!(read.build().unwrap().spec().name, name);
    }
    assert_eq!(EnvironmentSettings::named("lts-tutorial").unwrap().build().unwrap().spec().optimum, Some(225.98));
    let unknown = EnvironmentSettings::named("mujoco").unwrap_err().to_string();
    assert!(unknown.contains("`mujoco`") && unknown.contains("lts-tutorial"), "{unknown}");
}

#[test]
fn bad_settings_name_the_key_and_the_range() {
    let refused = |text: &str, parts: &[&str]| {
        let message = match settings(text) {
            Ok(settings) => settings.build().err().map(|error| error.to_string()).unwrap_or_default(),
            Err(message) => message,
        };
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message:?}");
    };
    let lts = "name = \"long_term_satisfaction\"\n";
    refused(&format!("{lts}sensitivty = 1.0"), &["sensitivty", "sensitivity"]);
    refused(&format!("{lts}candidates = 3\nslate_size = 4"), &["`slate_size` is 4", "1 to the 3 candidates"]);
    refused(&format!("{lts}slate_size = 0"), &["`slate_size` is 0"]);
    refused(&format!("{lts}clickbait_ranges = [[0.2, 0.1]]"), &["`clickbait_ranges` is [[0.2, 0.1]]", "ascending"]);
    refused(&format!("{lts}memory_discount = 1.0"), &["`memory_discount` is 1", "below 1"]);
    refused(&format!("{lts}innovation_stddev = -0.1"), &["`innovation_stddev` is -0.1", "0 to 10"]);
    refused(&format!("{lts}choc_mean = nan"), &["`choc_mean` is NaN"]);
    refused(&format!("{lts}first_exposure = inf"), &["`first_exposure` is inf", "finite"]);
    refused(&format!("{lts}time_budget = 0"), &["`time_budget` is 0", "1 to 1000000"]);
    let iev = "name = \"interest_evolution\"\n";
    refused(&format!("{iev}step_penalty = 0.0"), &["`step_penalty` is 0", "above 0"]);
    refused(&format!("{iev}document_quality_factor = 2.0"), &["`user_update_alpha` is 0.26", "sessions to end"]);
    refused(
        &format!("{iev}choice = {{ model = \"multinomial_proportional\", min_normalizer = 0.0, no_click_mass = 1.0 }}"),
        &["`choice.min_normalizer` is 0", "at most -1"],
    );
    let iex = "name = \"interest_exploration\"\n";
    refused(&format!("{iex}topic_distribution = [0.5, 0.6]"), &["`topic_distribution` is [0.5, 0.6]", "sum to 1"]);
    refused(&format!("{iex}topic_quality_stddev = [0.1]"), &["`topic_quality_stddev`", "2 numbers"]);
    refused(&format!("{iex}user_document_mean_affinity = [[0.1, 0.2]]"), &["1 rows long", "each of the 2 entries"]);
    refused("name = \"go\"", &["go", "long_term_satisfaction"]);
}

/// Plays an episode of a fixed slate, and says everything that can be seen of it.
fn play(environment: &mut dyn Environment, seed: u64, slate: &[usize]) -> Vec<String> {
    environment.reset(seed);
    let mut seen = Vec::new();
    loop {
        let candidates = environment.spec().candidates;
        let items: Vec<_> = (0..candidates).map(|at| (environment.item_id(at), environment.item(at))).collect();
        let outcome = environment.step(slate).unwrap();
        seen.push(format!("{:?} {items:?} {outcome:?} {}", environment.user(), environment.latent()));
        if outcome.done {
            return seen;
        }
    }
}

#[test]
fn the_same_seed_is_the_same_episode_whatever_was_before() {
    for preset in EnvironmentSettings::PRESETS {
        let settings = EnvironmentSettings::named(preset).unwrap();
        let (mut one, mut other) = (settings.build().unwrap(), settings.build().unwrap());
        let slate: Vec<usize> = (0..one.spec().slate_size).rev().collect();
        let first = play(&mut *one, 7, &slate);
        play(&mut *other, 8, &slate);
        other.reset(9);
        other.step(&slate).unwrap();
        assert_eq!(play(&mut *other, 7, &slate), first, "{preset}");
        assert_ne!(play(&mut *other, 8, &slate), first, "{preset}");
    }
}

#[test]
fn two_policies_under_the_same_seed_are_offered_the_same_candidates() {
    let mut environment = InterestEvolution::new(&InterestEvolutionSettings::default()).unwrap();
    let mut offered = |slate: &[usize]| {
        environment.reset(4);
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(environment.documents().to_vec());
            environment.advance(slate).unwrap();
        }
        seen
    };
    assert_eq!(offered(&[0, 1, 2]), offered(&[9, 5, 3]));
}

#[test]
fn half_of_the_tutorials_documents_are_kale() {
    let mut environment = LongTermSatisfaction::new(&LongTermSatisfactionSettings::tutorial()).unwrap();
    for step in 0..10 {
        let kale = environment.documents().iter().filter(|document| document.clickbait_score < 0.2).count();
        let choc = environment.documents().iter().filter(|document| document.clickbait_score >= 0.8).count();
        assert_eq!((kale, choc), (10, 10), "step {step}");
        environment.advance(&[step]).unwrap();
    }
}

#[test]
fn documents_are_drawn_anew_or_stay() {
    let episode = |resample_documents, seed| {
        let settings = LongTermSatisfactionSettings { resample_documents, ..Default::default() };
        let mut environment = LongTermSatisfaction::new(&settings).unwrap();
        environment.reset(seed);
        let before = environment.documents().to_vec();
        environment.advance(&[0]).unwrap();
        (before, environment.documents().to_vec())
    };
    let (before, after) = episode(true, 1);
    assert_ne!(before, after);
    assert!(after.iter().zip(20..).all(|(document, id)| document.id == id), "ids go on counting: {after:?}");
    assert_ne!(episode(true, 2).0, before);
    let (before, after) = episode(false, 1);
    assert_eq!(before, after);
    assert_eq!(episode(false, 2).0, before, "a corpus that stays is the same in every episode");
}

#[test]
fn bad_slates_are_refused_and_change_nothing() {
    let mut environment = EnvironmentSettings::named("interest-evolution").unwrap().build().unwrap();
    environment.reset(1);
    let before = environment.latent();
    let item = |candidate| EnvironmentError::Item { candidate, candidates: 10 };
    for (slate, expected) in [
        (vec![], EnvironmentError::Size { given: 0, expected: 3 }),
        (vec![0, 1], EnvironmentError::Size { given: 2, expected: 3 }),
        (vec![0, 1, 1], item(1)),
        (vec![0, 1, 10], item(10)),
    ] {
        assert_eq!(environment.step(&slate), Err(expected));
    }
    assert_eq!(environment.latent(), before);
    while !environment.step(&[0, 1, 2]).unwrap().done {}
    assert_eq!(environment.step(&[0, 1, 2]), Err(EnvironmentError::Over));
}

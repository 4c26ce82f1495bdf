//! The gate: promotes what the log supports, and nothing else.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_contract::slate::Propensities;
use slated_trainer::ope::gate::*;
use slated_trainer::ope::single::*;
use slated_trainer::ope::slate::*;
use slated_trainer::ope::{IntervalMethod, IntervalSettings, OpeError};

const EVEN: [f64; 2] = [0.5, 0.5];

/// What the candidate does, what the baseline does, and the click rates of both actions.
#[derive(Clone, Copy)]
struct Case {
    candidate: [f64; 2],
    baseline: Option<[f64; 2]>,
    rates: [f64; 2],
    rounds: usize,
    claimed: [f64; 2],
    behaviour: bool,
}

const BETTER: Case =
    Case { candidate: [0.1, 0.9], baseline: None, rates: [0.2, 0.4], rounds: 4000, claimed: EVEN, behaviour: true };

fn evidence(case: &Case, seed: u64) -> Evidence {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut pair = Pair { candidate: SingleLog::new(), baseline: case.baseline.map(|_| SingleLog::new()) };
    for _ in 0..case.rounds {
        let shown = generator.random_range(0..2);
        let round = SingleRound {
            reward: if generator.random::<f64>() < case.rates[shown] { 1.0 } else { 0.0 },
            propensity: case.claimed[shown],
            shown,
            evaluation: &case.candidate,
            behaviour: case.behaviour.then_some(&case.claimed),
            predictions: Some(&[0.3, 0.3]),
            ..SingleRound::default()
        };
        pair.candidate.push(&round).unwrap();
        if let (Some(log), Some(policy)) = (&mut pair.baseline, &case.baseline) {
            log.push(&SingleRound { evaluation: policy, ..round }).unwrap();
        }
    }
    Evidence::Single(pair)
}

fn settings() -> GateSettings {
    let interval = IntervalSettings { confidence: 0.95, method: IntervalMethod::StudentT };
    GateSettings { interval, ..GateSettings::default() }
}

const REPLAYED: Option<Replay> = Some(Replay { reproduced: 4000, mismatched: 0, unknown: 0, foreign: 0 });

fn verdict(case: &Case, replay: Option<Replay>, settings: &GateSettings) -> Verdict {
    judge(&evidence(case, 1), replay, ("new:2", "live:1"), settings).unwrap()
}

#[test]
fn a_better_policy_passes_every_test() {
    for baseline in [None, Some([0.6, 0.4])] {
        let verdict = verdict(&Case { baseline, ..BETTER }, REPLAYED, &settings());
        assert!(verdict.passed(), "{verdict}");
        assert_eq!(verdict.comparisons[0].estimator, "dr");
        let improvement = verdict.comparisons[0].improvement.estimate().unwrap();
        let truth = 0.1 * 0.2 + 0.9 * 0.4 - baseline.map_or(0.3, |[a, b]| a * 0.2 + b * 0.4);
        assert!(improvement.interval.lower < truth && truth < improvement.interval.upper, "{verdict}");
        assert_eq!(verdict.rows, 4000);
        assert!(verdict.to_string().contains("new:2 may replace live:1"));
    }
}

#[test]
fn each_test_fails_for_its_own_reason_and_says_what_would_help() {
    let failed = |verdict: &Verdict, name: &str, words: &[&str]| {
        assert_eq!(verdict.failed(), [name], "{verdict}");
        let test = verdict.tests.iter().find(|test| test.name == name).unwrap();
        let text = format!("{} {}", test.finding, test.remedy.clone().unwrap());
        words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in {text}"));
        assert!(verdict.to_string().contains("may not replace"));
    };
    let worse = Case { rates: [0.4, 0.2], ..BETTER };
    failed(&verdict(&worse, REPLAYED, &settings()), "improvement", &["more data of this kind is not expected to help"]);
    let close = Case { rates: [0.28, 0.3], ..BETTER };
    let unsure = verdict(&close, REPLAYED, &settings());
    failed(&unsure, "improvement", &["times as large", "80%"]);
    let demanding = GateSettings { threshold: 0.2, ..settings() };
    failed(&verdict(&BETTER, REPLAYED, &demanding), "improvement", &["must exceed 0.2"]);
    let demanding = GateSettings { min_effective_sample_size: 5000.0, ..settings() };
    failed(&verdict(&BETTER, REPLAYED, &demanding), "effective sample size", &["of at least 5000", "rows"]);
    let rare = GateSettings { min_effective_rewards: 2000.0, ..settings() };
    failed(&verdict(&BETTER, REPLAYED, &rare), "effective sample size", &["effective rewards"]);
    let lied = Replay { reproduced: 3999, mismatched: 1, ..Replay::default() };
    failed(&verdict(&BETTER, Some(lied), &settings()), "replay", &["1 not", "slated journal verify"]);
    let lost = Replay { reproduced: 1, unknown: 3999, ..Replay::default() };
    failed(&verdict(&BETTER, Some(lost), &settings()), "replay", &["3999", "folder of models"]);
    // Clicks that hardly ever come are what is claimed, and the claim is half of the truth.
    let claimed = Case { claimed: [0.25, 0.75], behaviour: false, ..BETTER };
    let spoiled = verdict(&claimed, REPLAYED, &settings());
    assert!(spoiled.failed().contains(&"propensity calibration"), "{spoiled}");
}

#[test]
fn what_the_log_never_shows_is_not_promoted() {
    // The log always shows action 1 and says so.
    let mut log = SingleLog::new();
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..3000 {
        let round = SingleRound {
            reward: f64::from(u8::from(generator.random::<f64>() < 0.5)),
            propensity: 1.0,
            shown: 1,
            evaluation: &[0.4, 0.6],
            predictions: Some(&[0.9, 0.1]),
            ..SingleRound::default()
        };
        log.push(&round).unwrap();
    }
    let pair = Pair { candidate: log, baseline: None };
    let verdict = judge(&Evidence::Single(pair), None, ("new:2", "live:1"), &settings()).unwrap();
    assert!(verdict.failed().contains(&"support"), "{verdict}");
    assert!(verdict.to_string().contains("40.000% of what it would show"), "{verdict}");
    assert!(verdict.to_string().contains("explores"), "{verdict}");
    // The log of a policy that never agrees says nothing at all.
    let mut apart = SingleLog::new();
    for _ in 0..100 {
        let round = SingleRound {
            reward: 1.0,
            propensity: 0.5,
            shown: 0,
            evaluation: &[0.0, 1.0],
            predictions: Some(&EVEN),
            ..SingleRound::default()
        };
        apart.push(&round).unwrap();
    }
    let pair = Pair { candidate: apart, baseline: None };
    let verdict = judge(&Evidence::Single(pair), None, ("new:2", "live:1"), &settings()).unwrap();
    assert!(!verdict.passed() && verdict.to_string().contains("snips is undefined"), "{verdict}");
    assert!(verdict.failed().contains(&"effective sample size"));
}

#[test]
fn policies_that_are_no_better_are_hardly_ever_promoted() {
    let mut promoted = 0;
    for seed in 0..400 {
        let case = Case { rates: [0.3, 0.3], rounds: 300, ..BETTER };
        let verdict = judge(&evidence(&case, seed), None, ("a", "b"), &settings()).unwrap();
        promoted += usize::from(verdict.passed());
    }
    // One tail of a 95% interval is 2.5%: 10 of 400, with a deviation of 3.1.
    assert!(promoted <= 20, "{promoted} of 400");
}

fn slates(rounds: usize, dependence: Dependence) -> Verdict {
    let mut generator = ChaCha8Rng::seed_from_u64(2);
    let mut log = SlateLog::new();
    for round in 0..rounds {
        let user = format!("user-{}", round % 200);
        // Two positions, each with its own coin; the candidate prefers heads, and heads are clicked more.
        let heads = [generator.random::<bool>(), generator.random::<bool>()];
        let chance = |heads: bool| if heads { 0.8 } else { 0.2 };
        let rewards = heads.map(|heads| f64::from(u8::from(generator.random::<f64>() < if heads { 0.5 } else { 0.2 })));
        let marginal = heads.map(chance).to_vec();
        let behaviour =
            Propensities { cascade: vec![0.5, 0.25], marginal: vec![0.5, 0.5], draws: None, marginal_draws: None };
        let evaluation = Propensities {
            cascade: vec![marginal[0], marginal[0] * marginal[1]],
            marginal,
            draws: None,
            marginal_draws: None,
        };
        let predictions = SlatePredictions { shown: &[0.6, 0.3], expected: &[0.6, 0.3] };
        let round = SlateRound {
            id: "",
            rewards: &rewards,
            behaviour: &behaviour,
            evaluation: &evaluation,
            predictions: (dependence == Dependence::Cascade).then_some(predictions),
            pseudo_inverse: None,
            user: Some(&user),
        };
        log.push(&round).unwrap();
    }
    let pair = Pair { candidate: log, baseline: None };
    judge(&Evidence::Slates(pair), REPLAYED, ("new:2", "live:1"), &GateSettings { dependence, ..settings() }).unwrap()
}

#[test]
fn slates_are_judged_by_what_their_rewards_may_depend_on() {
    let cases = [(Dependence::Slate, "snsips"), (Dependence::Cascade, "cascade_dr"), (Dependence::Position, "sniips")];
    let mut sizes = Vec::new();
    for (dependence, estimator) in cases {
        let verdict = slates(4000, dependence);
        assert_eq!((verdict.comparisons[0].estimator.as_str(), verdict.users), (estimator, Some(200)));
        assert!(verdict.passed(), "{verdict}");
        let improvement = verdict.comparisons[0].improvement.estimate().unwrap();
        let truth = 2.0 * (0.8 * 0.5 + 0.2 * 0.2 - 0.35);
        assert!(improvement.interval.lower < truth && truth < improvement.interval.upper, "{verdict}");
        sizes.push(verdict.diagnostics.weights.effective_sample_size);
    }
    assert!(
        sizes[0] < sizes[1] && sizes[1] < sizes[2],
        "the less a reward may depend on, the more a log says: {sizes:?}"
    );
}

#[test]
fn a_verdict_is_a_page_that_stands_alone() {
    let case = Case { rates: [0.4, 0.2], ..BETTER };
    let verdict = judge(&evidence(&case, 1), REPLAYED, ("<new>:2", "live:1"), &settings()).unwrap();
    let page = verdict.html();
    for word in ["<!doctype html>", "&lt;new&gt;:2 may not replace live:1", "FAILED", "dr_os", "not expected to help"] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    for word in ["<script", "http", "<new>", "src="] {
        assert!(!page.contains(word), "{word} is in {page}");
    }
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["tests"][0]["outcome"], "failed");
    assert!(json["comparisons"][0]["improvement"]["interval"]["lower"].is_number());
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let empty = Evidence::Single(Pair { candidate: SingleLog::new(), baseline: None });
    assert_eq!(judge(&empty, None, ("a", "b"), &settings()), Err(OpeError::Empty("round")));
    let Evidence::Single(mut pair) = evidence(&BETTER, 1) else { panic!() };
    pair.baseline = Some(SingleLog::new());
    let uneven = judge(&Evidence::Single(pair), None, ("a", "b"), &settings());
    assert!(uneven.unwrap_err().to_string().contains("candidate's rows"));
    let interval = IntervalSettings { confidence: 2.0, ..IntervalSettings::default() };
    let refused = judge(&evidence(&BETTER, 1), None, ("a", "b"), &GateSettings { interval, ..settings() });
    assert!(refused.unwrap_err().to_string().contains("confidence"));
}

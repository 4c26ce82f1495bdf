//! Episodes, against a small problem solved exactly.

use slated_trainer::ope::gate::{Evidence, GateSettings, Pair, judge};
use slated_trainer::ope::sequence::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings, Log, OpeError};

const STATES: usize = 2;
const ACTIONS: usize = 2;
const HORIZON: usize = 3;
const DISCOUNT: f64 = 0.9;
/// Where episodes begin.
const INITIAL: [f64; STATES] = [0.25, 0.75];
/// The logging policy and the one to evaluate, by state.
const LOGGING: [[f64; ACTIONS]; STATES] = [[0.75, 0.25], [0.5, 0.5]];
const EVALUATION: [[f64; ACTIONS]; STATES] = [[0.2, 0.8], [0.9, 0.1]];
/// Where each state and action lead; what is left ends the episode.
const NEXT: [[[f64; STATES]; ACTIONS]; STATES] = [[[0.5, 0.5], [0.0, 0.75]], [[0.25, 0.25], [0.5, 0.0]]];

fn reward(state: usize, action: usize) -> f64 {
    [[1.0, -0.5], [2.0, 0.25]][state][action]
}

/// The value from a time on under a policy, and that of an action.
fn value(policy: &[[f64; ACTIONS]; STATES], time: usize, state: usize) -> f64 {
    (0..ACTIONS).map(|action| policy[state][action] * action_value(policy, time, state, action)).sum()
}

fn action_value(policy: &[[f64; ACTIONS]; STATES], time: usize, state: usize, action: usize) -> f64 {
    let next = |next: usize| NEXT[state][action][next] * value(policy, time + 1, next);
    let later: f64 = if time + 1 < HORIZON { (0..STATES).map(next).sum() } else { 0.0 };
    reward(state, action) + DISCOUNT * later
}

fn truth() -> f64 {
    (0..STATES).map(|state| INITIAL[state] * value(&EVALUATION, 0, state)).sum()
}

/// A visit: state and action.
type Visit = (usize, usize);

/// Every possible episode with its probability under the logging policy.
fn episodes() -> Vec<(Vec<Visit>, f64)> {
    fn go_on(before: &[Visit], state: usize, probability: f64, all: &mut Vec<(Vec<Visit>, f64)>) {
        for action in 0..ACTIONS {
            let taken = probability * LOGGING[state][action];
            let episode = [before, &[(state, action)]].concat();
            let mut ends = 1.0;
            if episode.len() < HORIZON {
                for next in 0..STATES {
                    let leads = NEXT[state][action][next];
                    ends -= leads;
                    if leads > 0.0 {
                        go_on(&episode, next, taken * leads, all);
                    }
                }
            }
            if ends > 0.0 {
                all.push((episode, taken * ends));
            }
        }
    }
    let mut all = Vec::new();
    (0..STATES).for_each(|state| go_on(&[], state, INITIAL[state], &mut all));
    all
}

/// What a log says beside the rewards.
#[derive(Clone, Copy)]
struct Claims {
    propensities: [[f64; ACTIONS]; STATES],
    /// `q(t, s, a)`.
    model: fn(usize, usize, usize) -> f64,
}

const HONEST: Claims =
    Claims { propensities: LOGGING, model: |time, state, action| (time + 2 * state) as f64 - action as f64 };

fn log<'a>(episodes: impl IntoIterator<Item = (&'a [Visit], Option<&'a str>)>, claims: Claims) -> SequenceLog {
    let mut log = SequenceLog::new(DISCOUNT).unwrap();
    for (visits, user) in episodes {
        // Tabular features: one for each time, state and action.
        let place = |time: usize, state: usize| STATES * time + state;
        let rows: Vec<[Vec<f64>; 3]> = visits
            .iter()
            .enumerate()
            .map(|(time, &(state, action))| {
                let mut taken = vec![0.0; ACTIONS * STATES * HORIZON];
                let (mut expected, mut own) = (taken.clone(), vec![0.0; STATES * HORIZON]);
                taken[ACTIONS * place(time, state) + action] = 1.0;
                expected[ACTIONS * place(time, state)..][..ACTIONS].copy_from_slice(&EVALUATION[state]);
                own[place(time, state)] = 1.0;
                [taken, expected, own]
            })
            .collect();
        let steps: Vec<Step> = visits
            .iter()
            .zip(&rows)
            .enumerate()
            .map(|(time, (&(state, action), [taken, expected, own]))| {
                let q = |action| (claims.model)(time, state, action);
                let v = (0..ACTIONS).map(|action| EVALUATION[state][action] * q(action)).sum();
                Step {
                    reward: reward(state, action),
                    propensity: claims.propensities[state][action],
                    evaluation: EVALUATION[state][action],
                    predictions: Some((q(action), v)),
                    features: Some((taken, expected)),
                    state: Some(own),
                }
            })
            .collect();
        log.push(&Episode { id: "", steps: &steps, user }).unwrap();
    }
    log
}

/// How many episodes the population has; all probabilities are multiples of its inverse.
const POPULATION: f64 = 4096.0;

/// The population.
fn population(claims: Claims) -> SequenceLog {
    let all = episodes();
    let copies = |probability: f64| {
        assert_eq!((probability * POPULATION).fract(), 0.0);
        (probability * POPULATION) as usize
    };
    log(all.iter().flat_map(|episode| std::iter::repeat_n((episode.0.as_slice(), None), copies(episode.1))), claims)
}

fn estimate(estimator: &dyn Estimator<SequenceLog>, log: &SequenceLog) -> f64 {
    estimator.contributions(log).unwrap().value().unwrap()
}

#[test]
fn all_give_the_truth_on_the_population() {
    let log = population(HONEST);
    let on_policy: f64 = (0..STATES).map(|state| INITIAL[state] * value(&LOGGING, 0, state)).sum();
    let returns = log.returns();
    assert!((returns.iter().sum::<f64>() / returns.len() as f64 - on_policy).abs() < 1e-9);
    assert!((on_policy - truth()).abs() > 0.1);
    let estimators: [&dyn Estimator<SequenceLog>; 9] = [
        &TrajectoryIs,
        &PerDecisionIs,
        &WeightedTrajectoryIs,
        &WeightedPerDecisionIs,
        &SequentialDoublyRobust,
        &WeightedDoublyRobust,
        &FittedQ { lambda: 0.0 },
        &StateMarginalisedIs { lambda: 0.0 },
        &DoubleReinforcement { lambda: 0.0, folds: 2 },
    ];
    for estimator in estimators {
        let found = estimate(estimator, &log);
        // Two halves of the population are not quite alike.
        let tolerance = if estimator.name() == "drl" { 2e-3 } else { 1e-9 };
        assert!((found - truth()).abs() < tolerance, "{}: {found} is not {}", estimator.name(), truth());
    }
}

#[test]
fn the_right_model_makes_up_for_wrong_propensities() {
    let claims = Claims {
        propensities: [[0.5; ACTIONS]; STATES],
        model: |time, state, action| action_value(&EVALUATION, time, state, action),
    };
    let log = population(claims);
    assert!((estimate(&SequentialDoublyRobust, &log) - truth()).abs() < 1e-9);
    for biased in [&PerDecisionIs as &dyn Estimator<SequenceLog>, &TrajectoryIs] {
        let error = (estimate(biased, &log) - truth()).abs();
        assert!(error > 0.01, "{}: off by {error}", biased.name());
    }
    // These need no propensities.
    assert!((estimate(&FittedQ { lambda: 0.0 }, &log) - truth()).abs() < 1e-9);
}

#[test]
fn predictions_of_fitted_q_are_the_values_of_the_problem() {
    let mut log = population(Claims { model: |_, _, _| 1000.0, ..HONEST });
    let before = log.clone();
    FittedQ { lambda: 0.0 }.predict(&mut log, 2).unwrap();
    assert!((estimate(&SequentialDoublyRobust, &log) - truth()).abs() < 1e-9);
    let error = |log: &SequenceLog| {
        let interval = IntervalSettings { method: IntervalMethod::StudentT, ..IntervalSettings::default() };
        SequentialDoublyRobust.estimate(log, &interval).unwrap().standard_error
    };
    assert!(error(&log) < 0.02 * error(&before), "a good model takes nearly all of the noise");
}

#[test]
fn the_dual_of_fitted_q_is_a_density_ratio() {
    let all = episodes();
    let log = population(HONEST);
    let ratios = FittedQ { lambda: 0.0 }.density_ratios(&log).unwrap();
    // mean(sum_t omega_t r_t) is the value again.
    let copies = all.iter().flat_map(|(visits, chance)| std::iter::repeat_n(visits, (chance * POPULATION) as usize));
    let rewards = copies.flatten().map(|&(state, action)| reward(state, action));
    let rewards: f64 = rewards.zip(&ratios).map(|(reward, ratio)| reward * ratio).sum();
    assert!((rewards / log.rows() as f64 - truth()).abs() < 1e-9);
    // At the first step it is the ratio of the policies' probabilities.
    let (state, action) = all[0].0[0];
    assert!((ratios[0] - EVALUATION[state][action] / LOGGING[state][action]).abs() < 1e-9);
}

#[test]
fn the_gate_judges_sessions_by_their_return() {
    let candidate = population(HONEST);
    // The logging policy itself, as a policy to evaluate.
    let all = episodes();
    let copies = |chance: f64| (chance * POPULATION) as usize;
    let mut baseline = SequenceLog::new(DISCOUNT).unwrap();
    for (visits, chance) in &all {
        let rows: Vec<[Vec<f64>; 2]> = visits
            .iter()
            .enumerate()
            .map(|(time, &(state, action))| {
                let mut taken = vec![0.0; ACTIONS * STATES * HORIZON];
                let mut expected = taken.clone();
                taken[ACTIONS * (STATES * time + state) + action] = 1.0;
                expected[ACTIONS * (STATES * time + state)..][..ACTIONS].copy_from_slice(&LOGGING[state]);
                [taken, expected]
            })
            .collect();
        let step = |(&(state, action), [taken, expected]): (&Visit, &[Vec<f64>; 2])| {
            (state, action, taken.clone(), expected.clone())
        };
        let owned: Vec<_> = visits.iter().zip(&rows).map(step).collect();
        let steps: Vec<Step> = owned
            .iter()
            .map(|(state, action, taken, expected)| {
                let (reward, chance) = (reward(*state, *action), LOGGING[*state][*action]);
                Step {
                    reward,
                    propensity: chance,
                    evaluation: chance,
                    features: Some((taken, expected)),
                    ..Step::default()
                }
            })
            .collect();
        for _ in 0..copies(*chance) {
            baseline.push(&Episode { id: "", steps: &steps, user: None }).unwrap();
        }
    }
    let on_policy: f64 = (0..STATES).map(|state| INITIAL[state] * value(&LOGGING, 0, state)).sum();
    let diagnostics = candidate.visits(&FittedQ { lambda: 0.0 }).unwrap();
    // In its own log the logging policy is where the log is, each step discounted: so many decisions of one weight.
    let own = baseline.visits(&FittedQ { lambda: 0.0 }).unwrap();
    let weighted = |power: i32| -> f64 {
        let of = |(visits, chance): &(Vec<Visit>, f64)| {
            let sum: f64 = (0..visits.len() as i32).map(|time| DISCOUNT.powi(power * time)).sum();
            sum * chance * POPULATION
        };
        all.iter().map(of).sum()
    };
    let by_hand = weighted(1).powi(2) / weighted(2);
    let decisions: usize = all.iter().map(|(visits, chance)| visits.len() * copies(*chance)).sum();
    let found = own.weights.effective_sample_size;
    assert!((found - by_hand).abs() < 1e-3 * by_hand, "{found} is not {by_hand}");
    assert!(diagnostics.weights.effective_sample_size < 0.9 * decisions as f64);
    assert!(diagnostics.weights.rows == decisions && (diagnostics.weights.mean - 1.0).abs() < 0.2);
    let evidence = Evidence::Sessions(Pair { candidate, baseline: Some(baseline) });
    let verdict = judge(&evidence, None, ("new", "old"), &GateSettings::default()).unwrap();
    let decisive = &verdict.comparisons[0];
    assert_eq!((decisive.estimator.as_str(), verdict.row), ("drl", "episode"));
    let found = decisive.improvement.estimate().unwrap();
    let better = truth() - on_policy;
    assert!((found.value - better).abs() < 5e-3, "{} is not {better}", found.value);
    assert_eq!(verdict.passed(), found.interval.lower > 0.0, "{verdict}");
}

#[test]
fn intervals_of_drawn_episodes_hold_the_truth() {
    use rand::{RngExt, SeedableRng};
    let all = episodes();
    let chances: Vec<f64> = all.iter().map(|(_, probability)| *probability).collect();
    let interval = IntervalSettings { confidence: 0.95, method: IntervalMethod::StudentT };
    let estimators: [&dyn Estimator<SequenceLog>; 6] = [
        &PerDecisionIs,
        &WeightedPerDecisionIs,
        &WeightedDoublyRobust,
        &FittedQ { lambda: 1e-3 },
        &StateMarginalisedIs { lambda: 1e-3 },
        &DoubleReinforcement { lambda: 1e-3, folds: 3 },
    ];
    let mut covered = [0; 6];
    let repeats = 200;
    for repeat in 0..repeats {
        let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(repeat);
        let mut draw = || all[crate::world::choose(&chances, generator.random())].0.as_slice();
        let drawn: Vec<_> = (0..400).map(|_| (draw(), None)).collect();
        let log = log(drawn, HONEST);
        for (estimator, covered) in estimators.iter().zip(&mut covered) {
            let interval = estimator.estimate(&log, &interval).unwrap().interval;
            *covered += usize::from(interval.lower <= truth() && truth() <= interval.upper);
        }
    }
    // 0.95 of 200 is 190, with a deviation of 3.1.
    for (estimator, covered) in estimators.iter().zip(covered) {
        assert!((180..=199).contains(&covered), "{}: {covered} of {repeats}", estimator.name());
    }
}

#[test]
fn users_are_resampled_whole() {
    let all = episodes();
    // Each of 40 users has the same episode ten times: 400 rows that say as much as 40.
    let names: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    let rows = (0..400).map(|row| (all[row % 40].0.as_slice(), Some(names[row % 40].as_str())));
    let by_user = log(rows.clone(), HONEST);
    let alone = log(rows.map(|(visits, _)| (visits, None)), HONEST);
    for method in [IntervalMethod::StudentT, IntervalMethod::Bootstrap { resamples: 1000, seed: 1 }] {
        let interval = IntervalSettings { confidence: 0.95, method };
        let width = |log: &SequenceLog| {
            let estimate = WeightedPerDecisionIs.estimate(log, &interval).unwrap();
            (estimate.interval.upper - estimate.interval.lower, estimate.units)
        };
        let ((wide, users), (narrow, rows)) = (width(&by_user), width(&alone));
        assert_eq!((users, rows), (40, 400));
        assert!((wide / narrow - 10_f64.sqrt()).abs() < 0.35, "{wide} / {narrow}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let step = Step { reward: 1.0, propensity: 0.5, evaluation: 0.5, ..Step::default() };
    let mut log = SequenceLog::new(1.0).unwrap();
    assert!(matches!(log.diagnostics(), Err(OpeError::Empty("episode"))));
    log.push(&Episode { id: "good", steps: &[step, step], user: None }).unwrap();
    let cases = [
        (vec![], "episode 1 (`bad`): `steps`"),
        (vec![step, Step { propensity: 0.0, ..step }], "episode 1 (`bad`), step 1: `propensity`"),
        (vec![Step { reward: f64::NAN, ..step }], "step 0: `reward`"),
        (vec![Step { evaluation: 1.5, ..step }], "`evaluation`"),
        (vec![step, Step { predictions: Some((1.0, 1.0)), ..step }], "`predictions` is given"),
        (vec![Step { state: Some(&[1.0]), ..step }], "`state` is given"),
    ];
    for (steps, words) in cases {
        let error = log.push(&Episode { id: "bad", steps: &steps, user: None }).unwrap_err().to_string();
        assert!(error.contains(words), "{words} is not in {error}");
    }
    assert_eq!((log.rows(), log.returns()), (1, vec![2.0]));
    assert!(SequenceLog::new(1.1).unwrap_err().to_string().contains("discount"));
    assert!(FittedQ { lambda: 0.0 }.contributions(&log).unwrap_err().to_string().contains("`features`"));
    // A feature that is always zero cannot be solved for without a ridge.
    let row = [1.0, 0.0];
    let mut log = SequenceLog::new(1.0).unwrap();
    log.push(&Episode { id: "", steps: &[Step { features: Some((&row, &row)), ..step }], user: None }).unwrap();
    assert!(matches!(FittedQ { lambda: 0.0 }.contributions(&log), Err(OpeError::Singular(_))));
    assert!(FittedQ { lambda: 1e-6 }.contributions(&log).is_ok());
    assert!(DoubleReinforcement { lambda: 1.0, folds: 1 }.contributions(&log).is_err());
}

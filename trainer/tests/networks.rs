//! Gradients of the networks, against differences.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use slated_contract::slate::{DecisionSeed, standard_normal};
use slated_trainer::nn::{Batch, CandidateNetwork, NetworkError, NetworkSettings, NetworkShape, Trace};
use slated_trainer::rollout::Observation;

const WINDOW: usize = 4;
const HISTORY_WIDTH: usize = 5;

fn observations(shape: NetworkShape) -> Vec<Observation> {
    let mut generator = DecisionSeed::from_value(3).slate_generator();
    // Sets of candidates and histories of different lengths, an empty history among them.
    [(3, 0), (1, 4), (5, 2)]
        .map(|(candidates, length)| Observation {
            state: standard_normal(&mut generator, shape.state_width),
            items: standard_normal(&mut generator, candidates * shape.item_width),
            candidates,
            history: standard_normal(&mut generator, length * HISTORY_WIDTH),
        })
        .to_vec()
}

/// The sum of the outputs, each times a number of its own.
fn objective(network: &CandidateNetwork, parameters: &[f32], batch: &Batch, weights: &[f32]) -> f64 {
    let mut trace = Trace::default();
    network.forward(parameters, batch, &mut trace);
    trace.outputs().iter().zip(weights).map(|(output, weight)| f64::from(output * weight)).sum()
}

fn check(settings: &NetworkSettings, outputs: usize, item_width: usize) {
    let shape = NetworkShape { state_width: 3, item_width, history: (WINDOW, HISTORY_WIDTH), outputs };
    let network = CandidateNetwork::new(settings, shape).unwrap();
    let mut parameters = network.initialise(&mut ChaCha8Rng::seed_from_u64(7));
    // Biases begin at zero, where ReLU has a kink for an item of zeros.
    parameters.iter_mut().for_each(|value| *value += 0.01);
    let mut batch = Batch::default();
    let seen = observations(shape);
    if item_width > 0 {
        batch.fill(&seen, network.window(), HISTORY_WIDTH);
    } else {
        batch.fill_states(&seen, network.window(), HISTORY_WIDTH);
    }
    let weights = standard_normal(&mut DecisionSeed::from_value(9).slate_generator(), batch.rows() * outputs);
    let mut trace = Trace::default();
    network.forward(&parameters, &batch, &mut trace);
    let mut gradient = vec![0.0; parameters.len()];
    network.backward(&parameters, &batch, &mut trace, &weights, &mut gradient);
    for tensor in network.layout().tensors() {
        let mut wrong = 0;
        for at in tensor.range.clone() {
            let moved = |by: f32| {
                let mut parameters = parameters.clone();
                parameters[at] += by;
                objective(&network, &parameters, &batch, &weights)
            };
            // A difference across one of ReLU's kinks is off, and a small one drowns in rounding: one of them must fit.
            let fits = [1e-2, 3e-3, 1e-3, 3e-4].into_iter().any(|step| {
                let difference = (moved(step) - moved(-step)) / f64::from(2.0 * step);
                (f64::from(gradient[at]) - difference).abs() <= 1e-2 * difference.abs().max(1.0)
            });
            wrong += usize::from(!fits);
        }
        assert_eq!(wrong, 0, "{settings:?}: {wrong} of {} numbers of `{}` are off", tensor.range.len(), tensor.name);
        assert!(gradient[tensor.range.clone()].iter().any(|value| *value != 0.0), "`{}` has no gradient", tensor.name);
    }
}

#[test]
fn gradients_equal_differences() {
    let plain = NetworkSettings { hidden: vec![6, 5], dueling: false, history_units: 0 };
    check(&plain, 1, 2);
    check(&plain, 3, 2);
    check(&plain, 1, 0);
    check(&NetworkSettings { hidden: Vec::new(), ..plain.clone() }, 1, 2);
    check(&NetworkSettings { dueling: true, ..plain.clone() }, 2, 2);
    check(&NetworkSettings { history_units: 4, ..plain.clone() }, 1, 2);
    check(&NetworkSettings { history_units: 4, dueling: true, ..plain }, 2, 2);
}

#[test]
fn scores_do_not_depend_on_what_else_is_in_the_batch() {
    let shape = NetworkShape { state_width: 3, item_width: 2, history: (WINDOW, HISTORY_WIDTH), outputs: 1 };
    let settings = NetworkSettings { hidden: vec![16], dueling: true, history_units: 3 };
    let network = CandidateNetwork::new(&settings, shape).unwrap();
    let parameters = network.initialise(&mut ChaCha8Rng::seed_from_u64(1));
    let seen = observations(shape);
    let outputs = |observations: &[Observation]| {
        let (mut batch, mut trace) = (Batch::default(), Trace::default());
        batch.fill(observations, network.window(), HISTORY_WIDTH);
        network.forward(&parameters, &batch, &mut trace);
        trace.outputs().to_vec()
    };
    let alone: Vec<f32> = seen.iter().flat_map(|one| outputs(std::slice::from_ref(one))).collect();
    for (alone, together) in alone.iter().zip(outputs(&seen)) {
        assert!((alone - together).abs() < 1e-5, "{alone} is not {together}");
    }
}

#[test]
fn networks_that_cannot_be_are_refused_by_name() {
    let shape = NetworkShape { state_width: 3, item_width: 2, history: (0, HISTORY_WIDTH), outputs: 1 };
    let of = |settings: NetworkSettings| CandidateNetwork::new(&settings, shape).unwrap_err();
    assert_eq!(of(NetworkSettings { hidden: vec![8, 0], ..NetworkSettings::default() }), NetworkError::Hidden(0));
    let error = of(NetworkSettings { history_units: 8, ..NetworkSettings::default() });
    assert!(error.to_string().contains("network.history_units"), "{error}");
}

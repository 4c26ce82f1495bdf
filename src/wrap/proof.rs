//! Proving that a wrapped model says what the framework said, alone and among others.

use slated_contract::policy::{Parity, SlateLimits};
use slated_contract::tensor::Signature;

use super::{Sample, WrapError};
use crate::serving::{ModelScorer, Output, Query};

/// How many samples are run as one batch.
const TOGETHER: usize = 8;
/// How far a list's scores may move when others stand beside it, relative to the greatest of them where that is above 1:
/// sums are added in another order then.
const BESIDE: f32 = 1e-5;

/// What was found.
#[derive(Debug, Clone)]
pub struct Proof {
    /// How many scores were compared.
    pub scores: usize,
    /// The greatest difference from the framework's, relative to the greatest score of its sample where that is above 1.
    pub greatest_deviation: f32,
    /// What the service will compare when it loads the bundle.
    pub parity: Parity,
}

/// Runs a model as the service does and compares it with the framework's samples.
///
/// # Errors
/// A model that does not run on every number of lists and candidates, whose scores are not the samples' within the
/// `tolerance`, change from run to run, or change with what else is in the batch.
pub fn prove(
    model: &[u8],
    signature: Signature,
    limits: SlateLimits,
    samples: &[Sample],
    tolerance: f32,
) -> Result<Proof, WrapError> {
    let mut scorer = ModelScorer::load(model, signature)
        .map_err(|source| WrapError::Disproved(format!("the model cannot be loaded: {source}")))?;
    let empty = |candidates: usize| Query {
        state: vec![0.0; signature.state_width],
        items: vec![0.0; signature.item_width * candidates],
        candidates,
        noise: vec![0.0; signature.noise.unwrap_or(0)],
        rows: 1,
        ..Query::default()
    };
    let shapes: [&[usize]; 3] = [&[1], &[limits.max_size], &[limits.max_size, 1, 2]];
    for sizes in shapes {
        run(&mut scorer, &sizes.iter().map(|&size| empty(size)).collect::<Vec<_>>())?;
    }
    let mut worst = (0.0_f32, None);
    for sample in samples {
        let found = alone(&mut scorer, &sample.query)?;
        if alone(&mut scorer, &sample.query)? != found {
            return Err(WrapError::Disproved(format!(
                "line {} gets other scores each time it is run: export the model as it predicts, without dropout or \
                 sampling (in PyTorch `model.eval()`)",
                sample.line
            )));
        }
        let deviation = compare(sample, &found, tolerance)?;
        if worst.1.is_none() || deviation > worst.0 {
            worst = (deviation, Some(sample));
        }
    }
    for together in samples.chunks(TOGETHER) {
        stand_beside(&mut scorer, together, &signature)?;
    }
    let parity = match worst.1 {
        Some(sample) => parity(&sample.query, sample.scores.clone(), sample.appeal.clone(), &signature, tolerance),
        None => {
            let query = empty(2);
            let found = alone(&mut scorer, &query)?;
            parity(&query, found.scores, found.appeal, &signature, tolerance)
        }
    };
    let scores = samples.iter().map(|sample| sample.scores.len() + sample.appeal.len()).sum();
    Ok(Proof { scores, greatest_deviation: worst.0, parity })
}

fn run(scorer: &mut ModelScorer, queries: &[Query]) -> Result<Vec<Output>, WrapError> {
    let outputs = scorer.score(queries).map_err(|source| WrapError::Run {
        lists: queries.len(),
        candidates: queries.iter().map(|query| query.candidates).max().unwrap_or(0),
        source,
    })?;
    let all = outputs.iter().flat_map(|output| output.scores.iter().chain(&output.appeal));
    match all.into_iter().find(|value| !value.is_finite()) {
        Some(value) => {
            Err(WrapError::Disproved(format!("the model scores a candidate {value}; scores must be finite")))
        }
        None => Ok(outputs),
    }
}

fn alone(scorer: &mut ModelScorer, query: &Query) -> Result<Output, WrapError> {
    Ok(run(scorer, std::slice::from_ref(query))?.pop().unwrap_or_default())
}

/// The greatest deviation from what the framework said.
fn compare(sample: &Sample, found: &Output, tolerance: f32) -> Result<f32, WrapError> {
    let mut greatest = 0.0_f32;
    for (name, found, expected) in
        [("scores", &found.scores, &sample.scores), ("appeal", &found.appeal, &sample.appeal)]
    {
        let (deviation, index) = furthest(found, expected);
        if deviation > tolerance {
            return Err(WrapError::Disproved(format!(
                "line {}: `{name}[{index}]` is {} by the framework, {} here, which is further apart than the tolerance of \
                 {tolerance:e} (relative to the greatest score where that is above 1). Is each input fed with what it was \
                 trained on, in that order?",
                sample.line, expected[index], found[index]
            )));
        }
        greatest = greatest.max(deviation);
    }
    Ok(greatest)
}

/// How far apart two lists are at most, relative to the greatest expected value where that is above 1, and where.
fn furthest(found: &[f32], expected: &[f32]) -> (f32, usize) {
    let scale = expected.iter().fold(1.0_f32, |greatest, value| greatest.max(value.abs()));
    let apart = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / scale);
    apart.enumerate().fold((0.0, 0), |worst, (index, apart)| if apart > worst.0 { (apart, index) } else { worst })
}

/// Runs samples in one batch, each whole and cut to half its candidates, so that there is padding, and compares each with
/// what it gets alone.
fn stand_beside(scorer: &mut ModelScorer, samples: &[Sample], signature: &Signature) -> Result<(), WrapError> {
    let halved = |query: &Query| {
        let candidates = query.candidates.div_ceil(2);
        Query { items: query.items[..candidates * signature.item_width].to_vec(), candidates, ..query.clone() }
    };
    let queries: Vec<Query> = samples.iter().flat_map(|sample| [sample.query.clone(), halved(&sample.query)]).collect();
    let together = run(scorer, &queries)?;
    for (index, (query, beside)) in queries.iter().zip(together).enumerate() {
        let own = alone(scorer, query)?;
        let moved = furthest(&beside.scores, &own.scores).0.max(furthest(&beside.appeal, &own.appeal).0);
        if moved > BESIDE {
            let hint = if signature.mask {
                "the model must look at nothing where its mask is false"
            } else {
                "a model that looks across candidates must take a mask, because the service pads shorter lists of a batch \
                 with zeros"
            };
            return Err(WrapError::Disproved(format!(
                "line {} gets other scores when other lists are in the batch (they move by {moved:e}): {hint}",
                samples[index / 2].line
            )));
        }
    }
    Ok(())
}

fn parity(query: &Query, scores: Vec<f32>, appeal: Vec<f32>, signature: &Signature, tolerance: f32) -> Parity {
    let width = signature.item_width;
    let items = (0..query.candidates).map(|index| query.items[index * width..][..width].to_vec()).collect();
    Parity {
        state: query.state.clone(),
        items,
        history: query.history.clone(),
        noise: query.noise.clone(),
        scores,
        appeal,
        tolerance,
    }
}

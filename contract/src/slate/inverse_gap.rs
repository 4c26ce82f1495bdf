//! Inverse gap weighting: the nearer a candidate's score to the best, the likelier it is drawn.
//!
//! Of m candidates with scores f and the best b, `p(a) = 1 / (m + gamma (f(b) - f(a)))` for `a != b`, and
//! `p(b) = 1 - sum_{a != b} p(a)`, which is at least `1 / m` (Foster & Rakhlin 2020, arXiv:2002.04926, with mu = m). A slate
//! is drawn position by position from the candidates that are left, so its cascade propensities are products of these.

/// The probability of each of `values`; ties for the best go to the lower index.
pub(super) fn chances(values: &[f64], gamma: f64) -> Vec<f64> {
    let Some(best) = (0..values.len()).reduce(|best, other| if values[other] > values[best] { other } else { best })
    else {
        return Vec::new();
    };
    let count = values.len() as f64;
    let mut chances: Vec<f64> = values.iter().map(|value| (count + gamma * (values[best] - value)).recip()).collect();
    chances[best] = 0.0;
    chances[best] = 1.0 - chances.iter().sum::<f64>();
    chances
}

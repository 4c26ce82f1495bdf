//! Estimated propensities of posterior sampling.
//!
//! Of M further draws of the posterior let c show the same prefix (or the same item at the position). The slate shown
//! is one more draw that does, so the estimate is `(c + 1) / (M + 1)`: never zero, and what importance weighting
//! needs, its inverse, is nearly unbiased: `E[(M + 1) / (c + 1)] = (1 - (1 - p)^(M+1)) / p` for binomial c
//! (Chao & Strawderman 1972, doi:10.1080/01621459.1972.10482404).

use super::draw::top;
use super::{Propensities, Scores};

pub(super) fn propensities(scores: &Scores, slate: &[usize], draws: u32) -> Propensities {
    let drawn: Vec<Vec<usize>> = scores.further().map(|row| top(row, slate.len())).collect();
    of_slates(drawn.iter().map(Vec::as_slice), slate, draws)
}

/// The estimate from the slates that the further draws show.
pub(super) fn of_slates<'a>(drawn: impl Iterator<Item = &'a [usize]>, slate: &[usize], draws: u32) -> Propensities {
    let mut same_prefix = vec![0_u32; slate.len()];
    let mut same_item = vec![0_u32; slate.len()];
    for drawn in drawn {
        let mut is_prefix = true;
        for (position, (&drawn, &shown)) in drawn.iter().zip(slate).enumerate() {
            is_prefix &= drawn == shown;
            same_prefix[position] += u32::from(is_prefix);
            same_item[position] += u32::from(drawn == shown);
        }
    }
    let share =
        |counts: Vec<u32>| counts.into_iter().map(|count| f64::from(count + 1) / f64::from(draws + 1)).collect();
    Propensities { cascade: share(same_prefix), marginal: share(same_item), draws: Some(draws), marginal_draws: None }
}

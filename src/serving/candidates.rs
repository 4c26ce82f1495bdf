//! What a slate may be chosen from: ids or a filter, features from the request and the catalogue.

use std::mem;
use std::sync::Arc;

use foldhash::{HashMap, HashSet, HashSetExt};
use slated_contract::feature::Features;

use super::ask::{Ask, RecommendError};
use crate::catalogue::Catalogue;

/// The candidates left after exclusions, and the user, with all their features.
#[derive(Debug)]
pub struct Resolved {
    /// Index in the request, id and features, in the request's order; ascending by id where a filter found them.
    pub candidates: Vec<(usize, String, Features)>,
    /// The user's features.
    pub user: Features,
    /// The version of the catalogue, where it lent any.
    pub catalogue_version: Option<u64>,
}

/// Looks everything up that the request leaves to the catalogue. Candidates and the user's features are taken out of `ask`.
///
/// # Errors
/// A candidate that is given twice, or is nowhere known.
pub async fn resolve(ask: &mut Ask, catalogue: &Arc<Catalogue>) -> Result<Resolved, RecommendError> {
    let asked = mem::take(&mut ask.candidates);
    let (asked, lent) = match &ask.filter {
        None => {
            let lent = catalogue.lend(ask.user_id.as_deref(), asked.iter().map(|(id, _)| id.as_str()));
            (asked, lent)
        }
        Some(filter) => {
            let (catalogue, filter, user_id) = (Arc::clone(catalogue), filter.clone(), ask.user_id.clone());
            // Every item is looked at, which may take a while.
            let passing = tokio::task::spawn_blocking(move || catalogue.matching(user_id.as_deref(), &filter)).await;
            let (ids, lent) = passing.map_err(|error| RecommendError::Cut(error.to_string()))?;
            (ids.into_iter().map(|id| (id, None)).collect(), lent)
        }
    };
    let own = mem::take(&mut ask.user);
    let mut lends = lent.user.is_some();
    let user = match lent.user {
        Some(known) => known.overlaid_with(&own),
        None => own,
    };
    let mut seen = HashSet::with_capacity(asked.len());
    if let Some((index, (id, _))) = asked.iter().enumerate().find(|(_, (id, _))| !seen.insert(id.as_str())) {
        return Err(RecommendError::Duplicate { index, id: id.clone() });
    }
    let excluded: HashSet<&str> = ask.exclude.iter().map(String::as_str).collect();
    let mut candidates = Vec::with_capacity(asked.len());
    for (index, ((id, given), known)) in asked.into_iter().zip(lent.items).enumerate() {
        if excluded.contains(id.as_str()) {
            continue;
        }
        lends |= known.is_some();
        let features = match (known, given) {
            (Some(known), Some(given)) => known.overlaid_with(&given),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(RecommendError::UnknownItem { index, id }),
        };
        candidates.push((index, id, features));
    }
    Ok(Resolved { candidates, user, catalogue_version: lends.then_some(lent.version) })
}

/// The candidates by index in the caller's own order; what it leaves out follows as it stands.
///
/// # Errors
/// An id that is no candidate, or stands twice; excluded ones are passed over.
pub fn caller_order(ask: &Ask, candidates: &[(usize, String, Features)]) -> Result<Vec<usize>, RecommendError> {
    if ask.baseline.is_empty() {
        return Ok((0..candidates.len()).collect());
    }
    let place: HashMap<&str, usize> = candidates.iter().enumerate().map(|(at, (_, id, _))| (id.as_str(), at)).collect();
    let mut taken = vec![false; candidates.len()];
    let mut order = Vec::with_capacity(candidates.len());
    for (index, id) in ask.baseline.iter().enumerate().filter(|(_, id)| !ask.exclude.contains(id)) {
        match place.get(id.as_str()) {
            Some(&at) if !taken[at] => {
                taken[at] = true;
                order.push(at);
            }
            _ => return Err(RecommendError::Baseline { index, id: id.clone() }),
        }
    }
    order.extend((0..candidates.len()).filter(|&at| !taken[at]));
    Ok(order)
}

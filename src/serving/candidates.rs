//! What a slate may be chosen from: ids or a filter, features from the request and the catalogue.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use slated_contract::feature::Features;

use super::ask::{Ask, RecommendError};
use crate::catalogue::{Catalogue, Kind};

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
    let version = catalogue.version();
    let mut lent = false;
    let mut known = |kind, id: &str| {
        // An empty catalogue is not asked.
        let found = (version > 0).then(|| catalogue.get(kind, id)).flatten().map(|(_, features)| features);
        lent |= found.is_some();
        found
    };
    let own = mem::take(&mut ask.user);
    let user = match ask.user_id.as_deref().and_then(|id| known(Kind::Users, id)) {
        Some(known) => known.overlaid_with(&own),
        None => own,
    };
    let asked: Vec<(String, Option<Features>)> = match &ask.filter {
        None => mem::take(&mut ask.candidates),
        Some(filter) => {
            let (catalogue, filter) = (Arc::clone(catalogue), filter.clone());
            // Every item is looked at, which may take a while.
            let ids = tokio::task::spawn_blocking(move || catalogue.matching(&filter)).await;
            let ids = ids.map_err(|error| RecommendError::Cut(error.to_string()))?;
            ids.into_iter().map(|id| (id, None)).collect()
        }
    };
    let mut seen = HashSet::with_capacity(asked.len());
    if let Some((index, (id, _))) = asked.iter().enumerate().find(|(_, (id, _))| !seen.insert(id.as_str())) {
        return Err(RecommendError::Duplicate { index, id: id.clone() });
    }
    let excluded: HashSet<&str> = ask.exclude.iter().map(String::as_str).collect();
    let mut candidates = Vec::with_capacity(asked.len());
    for (index, (id, given)) in asked.into_iter().enumerate() {
        if excluded.contains(id.as_str()) {
            continue;
        }
        let features = match (known(Kind::Items, &id), given) {
            (Some(known), Some(given)) => known.overlaid_with(&given),
            (Some(known), None) => known,
            (None, Some(given)) => given,
            // Between the look by filter and this one, the item was removed.
            (None, None) if ask.filter.is_some() => continue,
            (None, None) => return Err(RecommendError::UnknownItem { index, id }),
        };
        candidates.push((index, id, features));
    }
    Ok(Resolved { candidates, user, catalogue_version: lent.then_some(version) })
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

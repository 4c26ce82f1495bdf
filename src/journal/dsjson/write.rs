//! Decisions with their rewards as lines.

use serde::Serialize;
use serde_json::{Map, Value};
use slated_contract::event::{Candidate, Decision, Mode, Shown};
use slated_contract::feature::{FeatureRef, FeatureValue, Features, Reserved, nest};
use slated_trainer::dataset::Round;

use super::context::{SLOT_ID, action_of, shared};
use super::line::Ours;
use crate::serving::{Rule, Rules};

/// A line. Vowpal Wabbit reads it front to back: the slots' outcomes must come after the slots.
#[derive(Debug, Serialize)]
pub struct Written {
    #[serde(rename = "_label_cost", skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    #[serde(rename = "_label_probability", skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(rename = "_label_Action", skip_serializing_if = "Option::is_none")]
    action: Option<usize>,
    #[serde(rename = "_labelIndex", skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(rename = "_skipLearn", skip_serializing_if = "std::ops::Not::not")]
    skip: bool,
    #[serde(rename = "Timestamp")]
    time: String,
    #[serde(rename = "Version")]
    version: &'static str,
    #[serde(rename = "EventId")]
    event_id: String,
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    actions: Vec<usize>,
    #[serde(rename = "c")]
    context: Context,
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    probabilities: Vec<f64>,
    #[serde(rename = "_outcomes", skip_serializing_if = "Vec::is_empty")]
    outcomes: Vec<Outcome>,
    #[serde(rename = "VWState")]
    model: Model,
    #[serde(rename = "_slated", skip_serializing_if = "is_nothing")]
    ours: Ours,
}

#[derive(Debug, Default, Serialize)]
struct Context {
    #[serde(flatten)]
    shared: Map<String, Value>,
    #[serde(rename = "_multi")]
    actions: Vec<Map<String, Value>>,
    #[serde(rename = "_slots", skip_serializing_if = "Vec::is_empty")]
    slots: Vec<Map<String, Value>>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(rename = "_label_cost", skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_a")]
    actions: [usize; 1],
    #[serde(rename = "_p")]
    probabilities: [f64; 1],
    #[serde(rename = "_slated", skip_serializing_if = "is_nothing")]
    ours: Ours,
}

#[derive(Debug, Serialize)]
struct Model {
    m: String,
}

fn is_nothing(ours: &Ours) -> bool {
    *ours == Ours::default()
}

/// The lines of rounds that belong together: one, or where a line cannot say it, one for each.
///
/// # Errors
/// A decision that no line can hold: its id, and why.
pub fn lines(rounds: &[Round]) -> Result<Vec<Written>, (String, String)> {
    if let Some(page) = page(rounds) {
        return Ok(vec![page]);
    }
    let line = |round| line(round).map_err(|problem| (round.decision.decision_id.clone(), problem));
    rounds.iter().map(line).collect()
}

fn line(round: &Round) -> Result<Written, String> {
    let decision = &round.decision;
    let place = |shown: &Shown| {
        let place = decision.candidates.iter().position(|candidate| candidate.item == shown.item);
        place.ok_or_else(|| format!("item `{}` of `slate` is not among `candidates`", shown.item))
    };
    let places = decision.slate.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let mut written = common(decision);
    written.ours.page_id.clone_from(&decision.page_id);
    written.ours.slot.clone_from(&decision.slot);
    match (decision.slate.as_slice(), places.as_slice()) {
        ([shown], &[place]) => {
            written.cost = Some(0.0 - round.rewards[0]);
            written.probability = Some(decision.propensity);
            (written.action, written.index) = (Some(place + 1), Some(place));
            (written.actions, written.probabilities) = (vec![place + 1], vec![decision.propensity]);
            if !is_plain(shown, decision.propensity) {
                written.ours.slate = vec![shown.clone()];
            }
        }
        (slate, places) => {
            written.ours.slate = slate.to_vec();
            written.ours.propensity = Some(decision.propensity);
            let apart = slots_apart(decision);
            let mut before = 1.0;
            for (position, (shown, &place)) in slate.iter().zip(places).enumerate() {
                let own = decision.candidates[..place].iter().filter(|candidate| slot_of(candidate) == Some(position));
                let (action, probability, cost) = if apart {
                    (own.count(), shown.marginal_propensity, None)
                } else {
                    // Of the prefix's, what the item adds to it; rounding must not make it more than certain.
                    let conditional = (shown.cascade_propensity / before).min(1.0);
                    (place, conditional, Some(0.0 - round.rewards[position]))
                };
                before = shown.cascade_propensity;
                written.add(position.to_string(), action, probability, cost, Ours::default());
                written.context.slots.push(Map::from_iter([("_id".to_owned(), position.to_string().into())]));
            }
            if apart {
                written.cost = Some(0.0 - round.rewards.iter().sum::<f64>());
                for (action, candidate) in written.context.actions.iter_mut().zip(&decision.candidates) {
                    action.insert(SLOT_ID.to_owned(), slot_of(candidate).into());
                }
            }
        }
    }
    Ok(written)
}

impl Written {
    fn add(&mut self, id: String, action: usize, probability: f64, cost: Option<f64>, ours: Ours) {
        self.outcomes.push(Outcome { cost, id, actions: [action], probabilities: [probability], ours });
    }
}

fn is_plain(shown: &Shown, propensity: f64) -> bool {
    (shown.position, shown.cascade_propensity, shown.marginal_propensity) == (0, propensity, propensity)
}

fn common(decision: &Decision) -> Written {
    Written {
        cost: None,
        probability: None,
        action: None,
        index: None,
        skip: decision.not_evaluable.is_some(),
        time: decision.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        version: "1",
        event_id: decision.decision_id.clone(),
        actions: Vec::new(),
        context: Context {
            shared: shared(&decision.user, &decision.context, &decision.session),
            actions: decision.candidates.iter().map(action_of).collect(),
            slots: Vec::new(),
        },
        probabilities: Vec::new(),
        outcomes: Vec::new(),
        model: Model { m: format!("{}/{}", decision.policy, decision.policy_version) },
        ours: Ours {
            user_id: decision.user_id.clone(),
            session_id: decision.session_id.clone(),
            mode: decision.mode,
            not_evaluable: decision.not_evaluable.clone(),
            propensity_draws: decision.propensity_draws,
            marginal_draws: decision.marginal_draws,
            ..Ours::default()
        },
    }
}

fn slot_of(candidate: &Candidate) -> Option<usize> {
    match candidate.features.get(SLOT_ID) {
        Some(FeatureRef::Number(slot)) if slot >= 0.0 && slot.fract() == 0.0 => Some(slot as usize),
        _ => None,
    }
}

/// Whether each position of the slate has candidates of its own, as an import of the slates problem declares it.
fn slots_apart(decision: &Decision) -> bool {
    let rules = decision.rules.as_deref().and_then(|rules| serde_json::from_str::<Rules>(rules).ok());
    let Some(Rules { pinned, rules }) = rules else { return false };
    let declared = |at: usize, rule: &Rule| match rule {
        Rule::Required { position, feature, value } => {
            *position == at && feature == SLOT_ID && *value == FeatureValue::Number(at as f64)
        }
        Rule::AtMost { .. } | Rule::Diversity { .. } => false,
    };
    pinned.is_empty()
        && rules.len() == decision.slate.len()
        && rules.iter().enumerate().all(|(at, rule)| declared(at, rule))
        && decision.slate.iter().enumerate().all(|(at, shown)| shown.position == at as i32)
        && decision.candidates.iter().all(|candidate| slot_of(candidate).is_some_and(|slot| slot < rules.len()))
}

/// A page as one line, where its slots are what a conditional contextual bandit's are: each shows one item of what the
/// slots before it have left.
fn page(rounds: &[Round]) -> Option<Written> {
    let [first, _, ..] = rounds else { return None };
    let first = &first.decision;
    let page_id = first.page_id.clone()?;
    let alike = |decision: &Decision| {
        decision.slate.len() == 1
            && decision.slot.is_some()
            && decision.not_evaluable.is_none()
            && decision.mode == Mode::Policy
            && (&decision.policy, decision.policy_version) == (&first.policy, first.policy_version)
            && (&decision.user_id, &decision.session_id) == (&first.user_id, &first.session_id)
            && (&decision.user, &decision.session) == (&first.user, &first.session)
    };
    if !rounds.iter().all(|round| alike(&round.decision)) {
        return None;
    }
    let all = union(rounds)?;
    let common_features = first
        .context
        .iter()
        .filter(|(name, value)| rounds.iter().all(|round| round.decision.context.get(name) == Some(*value)));
    let common_features: Features = common_features.collect();
    let mut written = common(first);
    written.event_id.clone_from(&page_id);
    written.context.shared = shared(&first.user, &common_features, &first.session);
    written.context.actions = all.iter().map(|candidate| action_of(candidate)).collect();
    (written.ours.propensity_draws, written.ours.marginal_draws) = (None, None);
    let mut taken: Vec<usize> = Vec::new();
    for (at, Round { decision, rewards, .. }) in rounds.iter().enumerate() {
        let place = |item: &str| all.iter().position(|candidate| candidate.item == item);
        let open: Vec<usize> = decision.candidates.iter().filter_map(|candidate| place(&candidate.item)).collect();
        let (shown, slot) = (&decision.slate[0], decision.slot.clone()?);
        let action = place(&shown.item).filter(|action| open.contains(action))?;
        if open.iter().any(|action| taken.contains(action)) {
            return None;
        }
        let own = decision.context.iter().filter(|(name, _)| common_features.get(name).is_none());
        let own: Features = own.collect();
        let mut slot_features = Map::from_iter([("_id".to_owned(), Value::from(slot.as_str()))]);
        if open.len() != all.len() - taken.len() || !open.is_sorted() {
            slot_features.insert("_inc".to_owned(), open.into());
        }
        slot_features.extend(nest(&own, Reserved::Underscored));
        written.context.slots.push(slot_features);
        let expected = first.time + chrono::TimeDelta::microseconds(at as i64);
        let id = format!("{page_id}/{slot}");
        let plain = is_plain(shown, decision.propensity);
        let ours = Ours {
            decision_id: (decision.decision_id != id).then(|| decision.decision_id.clone()),
            time: (decision.time != expected).then_some(decision.time),
            slate: if plain { Vec::new() } else { vec![shown.clone()] },
            propensity: (!plain).then_some(decision.propensity),
            propensity_draws: decision.propensity_draws,
            marginal_draws: decision.marginal_draws,
            ..Ours::default()
        };
        written.add(slot, action, decision.propensity, Some(0.0 - rewards[0]), ours);
        taken.push(action);
    }
    Some(written)
}

/// The candidates of all slots, each once; nothing where one is not the same in two slots.
fn union(rounds: &[Round]) -> Option<Vec<&Candidate>> {
    let mut all: Vec<&Candidate> = Vec::new();
    let mut slots: Vec<&str> = Vec::new();
    for Round { decision, .. } in rounds {
        let slot = decision.slot.as_deref()?;
        if slots.contains(&slot) {
            return None;
        }
        slots.push(slot);
        for candidate in &decision.candidates {
            match all.iter().find(|known| known.item == candidate.item) {
                Some(known) if known.features != candidate.features => return None,
                Some(_) => {}
                None => all.push(candidate),
            }
        }
    }
    Some(all)
}

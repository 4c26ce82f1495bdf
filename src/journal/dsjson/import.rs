//! Lines into decisions and what came of them.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use slated_contract::event::{Candidate, Decision, Feedback, Shown, deterministic_id};
use slated_contract::feature::FeatureValue;
use xxhash_rust::xxh3::xxh3_64;

use super::context::{Context, SLOT_ID};
use super::line::{Line, Ours, Outcome};
use super::{CHOSEN, DANGLING, SOURCE};
use crate::files;
use crate::journal::import::{FileReport, ImportError, ImportReport, Lines, LogWriter, Logged};
use crate::serving::{Rule, Rules};

/// What a log's own lines do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DsjsonSettings {
    /// The policy that decided, where `VWState.m` names none as slated does, `<policy>/<version>`.
    pub policy: String,
    /// Where in `c` the user's id stands, its keys joined by dots.
    pub user_id: Option<String>,
    /// Where in `c` the session's id stands.
    pub session_id: Option<String>,
}

impl Default for DsjsonSettings {
    fn default() -> Self {
        Self { policy: "vw".to_owned(), user_id: None, session_id: None }
    }
}

/// Imports a dsjson file, or every file of a folder and those below it that ends in `.dsjson`, `.json` or `.jsonl`. The
/// same file gives the same segments, so importing it again changes nothing; a service may have the journal open
/// meanwhile.
///
/// Lines that cannot be used are refused with their number and reason, and the rest imported; `advance` is told of every
/// line.
///
/// # Errors
/// No such file, a file that cannot be read, a journal that cannot be written.
pub fn import(
    path: &Path,
    settings: &DsjsonSettings,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<ImportReport, ImportError> {
    let found = files::find(path, &["dsjson", "json", "jsonl"])?;
    if found.is_empty() {
        return Err(ImportError::NoFiles { path: path.to_owned(), format: "`.dsjson`, `.json` or `.jsonl`" });
    }
    let mut most = 0.0_f64;
    for file in &found {
        let mut lines = Lines::open(file)?;
        while let Some((_, line)) = lines.read()? {
            let drop = line.ok().filter(|line| line.contains("\"pdrop\"")).and_then(|line| Line::parse(line).ok());
            most = most.max(drop.map_or(0.0, |line| line.drop));
        }
    }
    let mut report = ImportReport::default();
    for file in &found {
        let digest = files::sha256(file).map_err(|source| ImportError::Io { path: file.clone(), source })?;
        let name = files::name_within(path, file);
        report.files.push(import_file(file, name, &digest, most, settings, journal, advance)?);
    }
    Ok(report)
}

fn import_file(
    path: &Path,
    name: String,
    digest: &str,
    most: f64,
    settings: &DsjsonSettings,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<FileReport, ImportError> {
    let mut reading = Reading { settings, digest, most, time: DateTime::UNIX_EPOCH };
    let mut writer = LogWriter::new(journal, name, digest, advance);
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.read()? {
        writer.add(number, line.and_then(|line| reading.events(number, Line::parse(line)?)))?;
    }
    Ok(writer.finish()?)
}

struct Reading<'a> {
    settings: &'a DsjsonSettings,
    digest: &'a str,
    /// The greatest `pdrop` of the log.
    most: f64,
    /// That of the latest line: one that says none comes right after it.
    time: DateTime<Utc>,
}

/// What all decisions of a line have in common.
struct Common {
    event_id: String,
    time: DateTime<Utc>,
    policy: (String, i64),
    user_id: Option<String>,
    session_id: Option<String>,
    context: Context,
}

impl Reading<'_> {
    fn events(&mut self, number: u64, line: Line) -> Result<Option<Logged>, String> {
        let time = line.time.or(line.enqueued).unwrap_or_else(|| self.time + TimeDelta::microseconds(1));
        self.time = time;
        let derived = || deterministic_id(time, &[SOURCE, self.digest, &number.to_string()]).to_string();
        let Some(c) = &line.context else { return dangling(&line, time).map(Some) };
        if line.skip && line.ours.not_evaluable.is_none() {
            return Ok(None);
        }
        let event_id = line.event_id.clone().unwrap_or_else(derived);
        if !survives(&event_id, line.drop, self.most) {
            return Ok(None);
        }
        let id = |path: &Option<String>| path.as_ref().and_then(|path| at(c, path));
        let common = Common {
            event_id,
            time,
            policy: policy_of(line.model.as_deref()).unwrap_or_else(|| (self.settings.policy.clone(), 1)),
            user_id: line.ours.user_id.clone().or_else(|| id(&self.settings.user_id)),
            session_id: line.ours.session_id.clone().or_else(|| id(&self.settings.session_id)),
            context: Context::read(c)?,
        };
        let apart = common.context.actions.iter().filter(|action| action.slot.is_some()).count();
        match (&line.outcomes, common.context.slots.len()) {
            (None, 0) => common.single(&line).map(Some),
            (Some(_), 0) => Err("`c._slots` is missing, and `_outcomes` is of slots".to_owned()),
            (None, _) => Err("`_outcomes` is missing: nothing says what the slots showed".to_owned()),
            (Some(outcomes), slots) if outcomes.len() != slots => {
                Err(format!("`_outcomes` has {} elements for {slots} slots", outcomes.len()))
            }
            (Some(outcomes), _) if apart > 0 => common.slates(outcomes, line.cost, &line.ours).map(Some),
            (Some(outcomes), _) => common.slots(outcomes, &line.ours).map(Some),
        }
    }
}

/// An event that was left out of the log with probability `drop` stands for `1 / (1 - drop)` events. Where the lines'
/// differ, those that were kept more often are thinned to the rate of those kept least, by their ids, so that every line
/// stands for as many and no estimate needs to weigh them.
fn survives(event_id: &str, drop: f64, most: f64) -> bool {
    let share = (1.0 - most) / (1.0 - drop);
    drop >= most || (xxh3_64(event_id.as_bytes()) as f64) < share * 2.0_f64.powi(64)
}

/// `<policy>/<version>`.
fn policy_of(model: Option<&str>) -> Option<(String, i64)> {
    let (policy, version) = model?.rsplit_once('/')?;
    Some((policy.to_owned(), version.parse().ok().filter(|version| *version > 0)?))
}

/// The text or number at a path.
fn at(c: &Map<String, Value>, path: &str) -> Option<String> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match (c.get(path).or_else(|| c.get(first))?, rest) {
        (Value::String(text), _) => Some(text.clone()),
        (Value::Number(number), _) => Some(number.to_string()),
        (Value::Object(inner), rest) => at(inner, rest),
        (Value::Array(elements), rest) => {
            elements.iter().filter_map(Value::as_object).find_map(|inner| at(inner, rest))
        }
        _ => None,
    }
}

/// A line about an earlier event, whose reward came too late to be joined.
fn dangling(line: &Line, time: DateTime<Utc>) -> Result<Logged, String> {
    let value = line.reward.ok_or("`c` is missing")?;
    let decision_id = line.event_id.clone().ok_or("`EventId` is missing")?;
    let id = deterministic_id(time, &[SOURCE, &decision_id, DANGLING, &value.to_string()]);
    let feedback = feedback(id.to_string(), decision_id, DANGLING, time, value);
    Ok(Logged { decisions: Vec::new(), feedback: vec![feedback] })
}

fn feedback(feedback_id: String, decision_id: String, event: &str, time: DateTime<Utc>, value: f64) -> Feedback {
    Feedback {
        feedback_id,
        decision_id,
        time,
        occurred: time,
        source: SOURCE.to_owned(),
        event: event.to_owned(),
        value,
        item: None,
        position: None,
    }
}

impl Common {
    fn decision(&self, ours: &Ours, candidates: Vec<Candidate>) -> Decision {
        Decision {
            decision_id: ours.decision_id.clone().unwrap_or_else(|| self.event_id.clone()),
            time: ours.time.unwrap_or(self.time),
            source: SOURCE.to_owned(),
            policy: self.policy.0.clone(),
            policy_version: self.policy.1,
            user_id: self.user_id.clone(),
            session_id: self.session_id.clone(),
            user: self.context.user.clone(),
            context: self.context.context.clone(),
            session: self.context.session.clone(),
            candidates,
            propensity_draws: ours.propensity_draws,
            marginal_draws: ours.marginal_draws,
            mode: ours.mode,
            not_evaluable: ours.not_evaluable.clone(),
            page_id: ours.page_id.clone(),
            slot: ours.slot.clone(),
            ..Decision::default()
        }
    }

    /// A contextual bandit's line.
    fn single(&self, line: &Line) -> Result<Logged, String> {
        let candidates = self.context.candidates();
        let (chosen, place) = chosen(line.actions.as_deref(), line.chosen, candidates.len())?;
        let propensity = propensity(line, place)?;
        let mut decision = self.decision(&line.ours, candidates);
        let item = decision.candidates[chosen].item.clone();
        match line.ours.slate.as_slice() {
            [] => decision.slate = vec![shown(item.clone(), 0, propensity, propensity)],
            [only] if only.item == item => decision.slate = vec![only.clone()],
            _ => return Err(format!("`_slated.slate` is not the one item `{item}` that was chosen")),
        }
        decision.propensity = line.ours.propensity.unwrap_or(propensity);
        let feedback = line.cost.map(|cost| about(&decision, Some(item), cost));
        Ok(Logged { decisions: vec![decision], feedback: feedback.into_iter().collect() })
    }

    /// A conditional contextual bandit's line: each slot is a decision of a page; or, where slated says so, a position of
    /// one slate.
    fn slots(&self, outcomes: &[Outcome], ours: &Ours) -> Result<Logged, String> {
        let all = self.context.candidates();
        let as_slate = !ours.slate.is_empty();
        let mut logged = Logged::default();
        let mut taken: Vec<usize> = Vec::new();
        let mut costs = Vec::new();
        for (at, (outcome, slot)) in outcomes.iter().zip(&self.context.slots).enumerate() {
            let (chosen, propensity) = first(outcome, at, all.len())?;
            let name = outcome.ours.slot.clone().or_else(|| slot.id.clone()).unwrap_or_else(|| at.to_string());
            if let Some(beyond) = slot.included.iter().flatten().find(|action| **action >= all.len()) {
                return Err(format!("`c._slots[{at}]._inc` holds {beyond}, there are {} actions from 0", all.len()));
            }
            let allowed = |action: &usize| slot.included.as_ref().is_none_or(|included| included.contains(action));
            let open = |action: &usize| allowed(action) && !taken.contains(action);
            if !open(&chosen) {
                let why = if allowed(&chosen) { "a slot before it shows already" } else { "`_inc` does not hold" };
                return Err(format!("`_outcomes[{at}]._a[0]` is {chosen}, which {why}"));
            }
            costs.push((all[chosen].item.clone(), outcome.cost));
            if !as_slate {
                let order = slot.included.clone().unwrap_or_else(|| (0..all.len()).collect());
                let candidates = order.into_iter().filter(open).map(|action| all[action].clone()).collect();
                let mut decision = self.decision(&outcome.ours, candidates);
                decision.context = decision.context.overlaid_with(&slot.features);
                decision.slate = vec![shown(all[chosen].item.clone(), 0, propensity, propensity)];
                decision.propensity = propensity;
                if let Some(exact) = outcome.ours.slate.first() {
                    decision.slate = vec![exact.clone()];
                    decision.propensity = outcome.ours.propensity.unwrap_or(propensity);
                }
                if outcome.ours.decision_id.is_none() {
                    decision.decision_id = format!("{}/{name}", self.event_id);
                }
                if outcome.ours.time.is_none() {
                    // In the order in which they were decided.
                    decision.time = self.time + TimeDelta::microseconds(at as i64);
                }
                if logged.decisions.iter().any(|before| before.slot.as_ref() == Some(&name)) {
                    return Err(format!("slot `{name}` stands twice in `c._slots`"));
                }
                decision.page_id = Some(self.event_id.clone());
                decision.slot = Some(name);
                logged.feedback.extend(outcome.cost.map(|cost| about(&decision, Some(all[chosen].item.clone()), cost)));
                logged.decisions.push(decision);
            }
            taken.push(chosen);
        }
        if as_slate {
            let mut decision = self.decision(ours, all);
            if !ours.slate.iter().map(|shown| &shown.item).eq(costs.iter().map(|(item, _)| item)) {
                return Err("`_slated.slate` and `_outcomes` show different items".to_owned());
            }
            decision.slate.clone_from(&ours.slate);
            decision.propensity = ours.propensity.ok_or("`_slated.propensity` is missing")?;
            let costs = costs.into_iter().filter_map(|(item, cost)| Some((item, cost?)));
            logged.feedback = costs.map(|(item, cost)| about(&decision, Some(item), cost)).collect();
            logged.decisions.push(decision);
        }
        Ok(logged)
    }

    /// A line of the slates problem: the slots' actions are apart and are chosen independently, and the reward is that of
    /// all together. It becomes one slate under rules that keep each position to its own.
    fn slates(&self, outcomes: &[Outcome], cost: Option<f64>, ours: &Ours) -> Result<Logged, String> {
        let actions = &self.context.actions;
        if let Some(at) = actions.iter().position(|action| action.slot.is_none_or(|slot| slot >= outcomes.len())) {
            return Err(format!("`c._multi[{at}].{SLOT_ID}` is no slot; there are {} from 0", outcomes.len()));
        }
        let mut decision = self.decision(ours, self.context.candidates());
        let mut rules = Rules::default();
        let mut joint = 1.0;
        for (position, outcome) in outcomes.iter().enumerate() {
            let own: Vec<usize> = (0..actions.len()).filter(|&at| actions[at].slot == Some(position)).collect();
            let (chosen, propensity) = first(outcome, position, own.len())?;
            joint *= propensity;
            let item = decision.candidates[own[chosen]].item.clone();
            decision.slate.push(shown(item, position, joint, propensity));
            let value = FeatureValue::Number(position as f64);
            rules.rules.push(Rule::Required { position, feature: SLOT_ID.to_owned(), value });
        }
        decision.propensity = joint;
        if !ours.slate.is_empty() {
            decision.slate.clone_from(&ours.slate);
            decision.propensity = ours.propensity.ok_or("`_slated.propensity` is missing")?;
        }
        decision.rules = Some(serde_json::to_string(&rules).map_err(|error| error.to_string())?);
        let feedback = cost.map(|cost| about(&decision, None, cost));
        Ok(Logged { decisions: vec![decision], feedback: feedback.into_iter().collect() })
    }
}

fn shown(item: String, position: usize, cascade_propensity: f64, marginal_propensity: f64) -> Shown {
    let position = i32::try_from(position).unwrap_or(i32::MAX);
    Shown { item, position, cascade_propensity, marginal_propensity }
}

/// The reward of an item, or of the whole slate.
fn about(decision: &Decision, item: Option<String>, cost: f64) -> Feedback {
    let (id, time) = (decision.decision_id.clone(), decision.time);
    let feedback_id = deterministic_id(time, &[SOURCE, &id, CHOSEN, item.as_deref().unwrap_or_default()]);
    // Not negated: 0 has no sign.
    Feedback { item, ..feedback(feedback_id.to_string(), id, CHOSEN, time, 0.0 - cost) }
}

/// The chosen action, from 0, and where `a` holds it.
fn chosen(actions: Option<&[u64]>, label: Option<usize>, count: usize) -> Result<(usize, Option<usize>), String> {
    if let Some(beyond) = label.filter(|&label| label >= count) {
        return Err(format!("the label is action {beyond}, there are {count} from 0"));
    }
    let Some(actions) = actions.filter(|actions| !actions.is_empty()) else {
        let chosen = label.ok_or("neither `_labelIndex`, `_label_Action` nor `a` says which action was chosen")?;
        return Ok((chosen, None));
    };
    let base = base(actions, label, count)?;
    let chosen = label.unwrap_or((actions[0] - base) as usize);
    let place = actions.iter().position(|&action| action == chosen as u64 + base);
    Ok((chosen, Some(place.ok_or_else(|| format!("`a` does not hold the action {chosen}, from 0, that was chosen"))?)))
}

/// Whether `a` counts from 0 or from 1. An action 0 or as many as there are tells; otherwise the label does, with which
/// the first is to agree; otherwise it is 1, as Vowpal Wabbit's services write.
fn base(actions: &[u64], label: Option<usize>, count: usize) -> Result<u64, String> {
    let count = count as u64;
    if let Some(beyond) = actions.iter().find(|&&action| action > count) {
        return Err(format!("`a` holds {beyond}, there are {count} actions"));
    }
    match (actions.contains(&0), actions.contains(&count)) {
        (true, true) => {
            Err(format!("`a` holds both 0 and {count}, and counts {count} actions neither from 0 nor from 1"))
        }
        (true, false) => Ok(0),
        (false, true) => Ok(1),
        (false, false) if label.is_some_and(|label| actions[0] == label as u64) => Ok(0),
        (false, false) => Ok(1),
    }
}

/// How far `_label_probability`, of 32 bits and rounded by some, may be from `p`.
const ROUNDED: f64 = 1e-4;

fn propensity(line: &Line, place: Option<usize>) -> Result<f64, String> {
    let Some(probabilities) = line.probabilities.as_ref().filter(|probabilities| !probabilities.is_empty()) else {
        return line.probability.ok_or_else(|| "neither `p` nor `_label_probability` is there".to_owned());
    };
    let Some(place) = place else {
        return Err("`p` is there, but `a`, whose probabilities it holds, is missing".to_owned());
    };
    let actions = line.actions.as_ref().map_or(0, Vec::len);
    if probabilities.len() != actions {
        return Err(format!("`p` holds {} probabilities for the {actions} actions of `a`", probabilities.len()));
    }
    let propensity = probabilities[place];
    if let Some(label) = line.probability {
        // Some services multiply the label's by the probability of being logged.
        let logged = propensity * (1.0 - line.drop);
        if [propensity, logged].iter().all(|expected| (label - expected).abs() > ROUNDED * expected.abs()) {
            return Err(format!("`p` says {propensity} of the chosen action, and `_label_probability` {label}"));
        }
    }
    Ok(propensity)
}

/// The action that a slot shows, of `count` from 0, and its probability.
fn first(outcome: &Outcome, at: usize, count: usize) -> Result<(usize, f64), String> {
    let (Some(&action), Some(&propensity)) = (outcome.actions.first(), outcome.probabilities.first()) else {
        return Err(format!("`_outcomes[{at}]` lacks an action in `_a` or a probability in `_p`"));
    };
    if outcome.actions.len() != outcome.probabilities.len() {
        let (actions, probabilities) = (outcome.actions.len(), outcome.probabilities.len());
        return Err(format!("`_outcomes[{at}]._p` holds {probabilities} probabilities for {actions} actions"));
    }
    let chosen = usize::try_from(action).ok().filter(|&action| action < count);
    let chosen =
        chosen.ok_or_else(|| format!("`_outcomes[{at}]._a[0]` is {action}, there are {count} actions from 0"))?;
    Ok((chosen, propensity))
}

//! How raw features are distributed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slated_contract::event::Decision;
use slated_contract::feature::{FeatureRef, Features};
use xxhash_rust::xxh3::xxh3_64;

use super::distance::{jensen_shannon, kolmogorov_smirnov, population_stability};
use super::settings::DriftSettings;

/// Bins of a numeric feature, between quantiles of the reference.
const BINS: usize = 10;
/// Texts that are told apart; the others are one bin.
const TEXTS: usize = 100;

/// Whose feature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeaturePart {
    /// The user's.
    User,
    /// The request's.
    Context,
    /// The session's, which is the policy's own doing: what it shows decides what a session comes to. A difference is
    /// reported and is not called drift.
    Session,
    /// That of a candidate, one drawn from each decision's.
    Item,
}

/// One feature in both windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// Whose it is.
    pub part: FeaturePart,
    /// Its name; of an embedding, with the place of the number.
    pub name: String,
    /// Values of the reference that were compared.
    pub reference: u64,
    /// Values of today.
    pub current: u64,
    /// See [`population_stability`]: over tenths of the reference for numbers, over values for texts.
    pub stability_index: f64,
    /// See [`jensen_shannon`], over the same bins.
    pub divergence: f64,
    /// See [`kolmogorov_smirnov`]: the statistic and its p-value; absent for texts.
    pub kolmogorov_smirnov: Option<(f64, f64)>,
    /// Whether the index is above its limit, of a feature that is not the session's.
    pub drifted: bool,
}

/// A bounded sample of the values of each feature.
#[derive(Debug, Clone, Default)]
pub(super) struct FeatureSample {
    /// By decision: the numbers of the ids decide which are kept, the smallest.
    kept: BTreeMap<(u64, String), Vec<Named>>,
}

/// A feature with its value.
#[derive(Debug, Clone)]
struct Named {
    part: FeaturePart,
    name: String,
    value: Value,
}

/// The values of a feature, numbers and texts.
#[derive(Debug, Clone, Default)]
struct Column<'a> {
    numbers: Vec<f64>,
    texts: Vec<&'a str>,
}

/// By feature.
type Columns<'a> = BTreeMap<(FeaturePart, &'a str), Column<'a>>;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

impl FeatureSample {
    pub fn add(&mut self, decision: &Decision, most: usize) {
        let number = xxh3_64(decision.decision_id.as_bytes());
        let full = self.kept.len() >= most;
        if full && self.kept.last_key_value().is_some_and(|((greatest, _), _)| *greatest <= number) {
            return;
        }
        let mut values = Vec::new();
        let mut read = |part: FeaturePart, features: &Features| {
            let mut push = |name: String, value: Value| values.push(Named { part, name, value });
            for (name, value) in features.iter() {
                match value {
                    FeatureRef::Number(number) => push(name.to_owned(), Value::Number(number)),
                    FeatureRef::Text(text) => push(name.to_owned(), Value::Text(text.to_string())),
                    FeatureRef::Vector(numbers) => {
                        for (place, number) in numbers.iter().enumerate() {
                            push(format!("{name}[{place}]"), Value::Number(f64::from(*number)));
                        }
                    }
                }
            }
        };
        read(FeaturePart::User, &decision.user);
        read(FeaturePart::Context, &decision.context);
        read(FeaturePart::Session, &decision.session);
        if !decision.candidates.is_empty() {
            let drawn = &decision.candidates[(number % decision.candidates.len() as u64) as usize];
            read(FeaturePart::Item, &drawn.features);
        }
        if full {
            self.kept.pop_last();
        }
        self.kept.insert((number, decision.decision_id.clone()), values);
    }

    /// The values of each feature.
    fn columns(&self) -> Columns<'_> {
        let mut columns = Columns::new();
        for Named { part, name, value } in self.kept.values().flatten() {
            let column = columns.entry((*part, name)).or_default();
            match value {
                Value::Number(number) => column.numbers.push(*number),
                Value::Text(text) => column.texts.push(text),
            }
        }
        columns
    }
}

/// Every feature that both windows have.
pub(super) fn compare(
    reference: &FeatureSample,
    current: &FeatureSample,
    settings: &DriftSettings,
) -> Vec<FeatureDrift> {
    let now = current.columns();
    let both = reference.columns().into_iter().filter_map(|(key, before)| Some((key, before, now.get(&key)?)));
    both.map(|((part, name), mut before, after)| {
        let mut after = after.clone();
        before.numbers.sort_unstable_by(f64::total_cmp);
        after.numbers.sort_unstable_by(f64::total_cmp);
        let numeric = before.numbers.len() >= before.texts.len();
        let (numbers, numbers_now) = (&before.numbers, &after.numbers);
        let (before, after) = if numeric { binned(numbers, numbers_now) } else { counted(&before.texts, &after.texts) };
        let stability_index = population_stability(&before, &after);
        FeatureDrift {
            part,
            name: name.to_owned(),
            reference: before.iter().sum(),
            current: after.iter().sum(),
            stability_index,
            divergence: jensen_shannon(&before, &after),
            kolmogorov_smirnov: numeric.then(|| kolmogorov_smirnov(numbers, numbers_now)),
            drifted: part != FeaturePart::Session && stability_index > settings.max_stability_index,
        }
    })
    .collect()
}

/// Counts between the quantiles of the reference; both in ascending order.
fn binned(reference: &[f64], current: &[f64]) -> (Vec<u64>, Vec<u64>) {
    let mut edges: Vec<f64> =
        (1..BINS).filter_map(|bin| reference.get(bin * reference.len() / BINS).copied()).collect();
    edges.dedup();
    let counts = |values: &[f64]| {
        let below: Vec<usize> = edges.iter().map(|edge| values.partition_point(|value| value < edge)).collect();
        let starts = [0].into_iter().chain(below.iter().copied());
        let ends = below.iter().copied().chain([values.len()]);
        starts.zip(ends).map(|(start, end)| (end - start) as u64).collect()
    };
    (counts(reference), counts(current))
}

/// Counts by text, those of the reference that are most frequent first.
fn counted(reference: &[&str], current: &[&str]) -> (Vec<u64>, Vec<u64>) {
    let mut frequent: BTreeMap<&str, u64> = BTreeMap::new();
    reference.iter().chain(current).for_each(|text| *frequent.entry(text).or_default() += 1);
    let mut known: Vec<(&str, u64)> = frequent.into_iter().collect();
    known.sort_by_key(|(text, count)| (std::cmp::Reverse(*count), *text));
    known.truncate(TEXTS);
    let counts = |texts: &[&str]| {
        let mut counts = vec![0; known.len() + 1];
        for text in texts {
            counts[known.iter().position(|(known, _)| known == text).unwrap_or(known.len())] += 1;
        }
        counts
    };
    (counts(reference), counts(current))
}

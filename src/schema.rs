//! How types that know nothing of HTTP, because the trainer uses them as well, stand in `openapi.yaml`.
//!
//! Each is described here and never made: a field of the type `slated_contract::feature::Features` says
//! `#[schema(value_type = Features)]`. A test holds the descriptions against the types.
#![allow(dead_code, reason = "described, never made")]

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{Object, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// An id that a caller gives.
#[derive(ToSchema)]
#[schema(example = "shirt-1", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
pub struct Identifier(String);

/// Features by name. Which there are, and of which kind, the policy's feature schema says.
#[derive(ToSchema)]
#[schema(example = json!({"age": 41, "country": "NO", "member": true, "taste": [0.3, -1.2]}))]
pub struct Features(BTreeMap<String, FeatureValue>);

/// The value of a feature: a number, a text, a boolean (read as the number 1 or 0), or an array of numbers.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(examples(19.9, "shoes"))]
pub enum FeatureValue {
    /// A quantity; for a categorical feature, an integer stands for its decimal text.
    Number(f64),
    /// A category.
    Text(String),
    /// 1 where true, 0 where false.
    Flag(bool),
    /// An embedding, in single precision.
    Vector(Vec<Single>),
}

/// A number in single precision.
#[derive(ToSchema)]
#[schema(example = 0.3, minimum = -3.4028235e38, maximum = 3.4028235e38)]
pub struct Single(f32);

/// Bytes as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Binary(Vec<u8>);

/// A value of a tensor, or all those at its place of the first axis.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = 0.5)]
pub enum TensorPart {
    /// A value.
    Value(TensorValue),
    /// Those along the axes that are left.
    Rows(Vec<TensorRow>),
}

/// A value of a tensor, or all those at its place of the second axis.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = 0.5)]
pub enum TensorRow {
    /// A value.
    Value(TensorValue),
    /// Those along the last axis; a tensor has at most three.
    Values(Vec<TensorValue>),
}

/// A value of a tensor.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = 0.5)]
pub enum TensorValue {
    /// Of FP32 or INT64.
    Number(f64),
    /// Of BOOL.
    Flag(bool),
}

/// One figure of an offline evaluation.
#[derive(ToSchema)]
#[schema(example = json!({
    "estimator": "snips", "value": 0.0062, "lower": 0.0049, "upper": 0.0075, "confidence": 0.95,
    "interval": "bootstrap", "rounds": 10000, "effective_sample_size": 2310.5, "baseline": 0.0038,
    "against": {"policy": "open-bandit:1", "improvement": 0.0011, "lower": 0.0002, "upper": 0.002},
    "data_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}))]
pub struct Evaluation {
    /// The estimator.
    #[schema(example = "snips")]
    estimator: String,
    /// Its estimate of the policy's value: mean reward of a decision, over all the items it shows; for
    /// `simulated_return`, mean return of an episode.
    #[schema(example = 0.0062)]
    value: f64,
    /// Lower bound of the interval.
    #[schema(example = 0.0049)]
    lower: f64,
    /// Upper bound of the interval.
    #[schema(example = 0.0075)]
    upper: f64,
    /// The interval's confidence.
    #[schema(example = 0.95)]
    confidence: f64,
    /// How the interval was made; absent where that is not known.
    #[schema(example = "bootstrap")]
    #[serde(default)]
    interval: String,
    /// How many logged decisions, or simulated episodes, it rests on.
    #[schema(example = 10000)]
    rounds: u64,
    /// How many decisions of the policy itself would say as much; absent where nothing was logged.
    #[schema(example = 2310.5)]
    effective_sample_size: Option<f64>,
    /// The logging policy's own value on the same decisions; absent where nothing was logged.
    #[schema(example = 0.0038)]
    baseline: Option<f64>,
    /// How it compares with the policy that it was to replace; absent where it was evaluated alone.
    against: Option<Comparison>,
    /// SHA-256 over the decisions and rewards of the log, in order, in hex; absent where nothing was logged.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    data_digest: Option<String>,
}

/// The improvement of a policy over another one, estimated from the same decisions.
#[derive(ToSchema)]
#[schema(example = json!({"policy": "open-bandit:1", "improvement": 0.0011, "lower": 0.0002, "upper": 0.002}))]
pub struct Comparison {
    /// The other policy, as `name:version`, or `logged` for whatever was logged.
    #[schema(example = "open-bandit:1")]
    policy: String,
    /// The difference of the values.
    #[schema(example = 0.0011)]
    improvement: f64,
    /// Lower bound of its interval.
    #[schema(example = 0.0002)]
    lower: f64,
    /// Upper bound of its interval.
    #[schema(example = 0.002)]
    upper: f64,
}

/// How a slate is drawn from scores.
#[derive(ToSchema)]
#[serde(tag = "method", rename_all = "snake_case")]
#[schema(example = json!({"method": "epsilon_greedy", "epsilon": 0.05}))]
pub enum Exploration {
    /// The highest scores, in order.
    Greedy,
    /// At each position, sometimes a uniform draw from the candidates that are left, otherwise the best of them.
    EpsilonGreedy {
        /// The probability of a uniform draw.
        #[schema(example = 0.05, minimum = 0, maximum = 1)]
        epsilon: f64,
    },
    /// Plackett-Luce without replacement.
    Softmax {
        /// What scores are divided by.
        #[schema(example = 0.5, exclusive_minimum = 0)]
        temperature: f64,
    },
    /// Inverse gap weighting (SquareCB).
    InverseGapWeighting {
        /// 0 is uniform, and the greater the nearer to greedy.
        #[schema(example = 100.0, minimum = 0)]
        gamma: f64,
    },
    /// The highest scores under one draw of the model's posterior.
    PosteriorSampling {
        /// How many draws the propensities are estimated from.
        #[schema(example = 256, minimum = 1, maximum = 4096)]
        draws: u32,
    },
}

/// How a decision came about.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(example = "policy")]
pub enum Mode {
    /// The policy's slate is shown.
    Policy,
    /// The caller's own order is shown, while the policy learns from the side.
    Apprentice,
    /// The caller's own order is shown, because the policy did not answer in time.
    Fallback,
}

/// An object with a value for each of several versions, which utoipa would describe with integers for keys.
fn by_version(description: &str, value: impl Into<RefOr<Schema>>) -> ObjectBuilder {
    let version = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{1,16}$")).build();
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .property_names(Some(version))
        .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
}

/// Shares of the requests, by version.
pub struct Shares;

impl PartialSchema for Shares {
    fn schema() -> RefOr<Schema> {
        let share = ObjectBuilder::new().schema_type(Type::Number).exclusive_minimum(Some(0)).maximum(Some(1)).build();
        let description =
            "The share of the requests by version; they sum to 1. A user stays with a version as long as they do.";
        by_version(description, share).examples([json!({"1": 0.9, "2": 0.1})]).into()
    }
}

impl ToSchema for Shares {}

/// What came of the requests, by version.
pub fn figures() -> Object {
    let description =
        "What came of each version's requests since the route was last changed, where several share them.";
    by_version(description, Ref::from_schema_name("Figures")).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;
    use slated_contract::{event, feature, policy, slate};

    use super::*;

    /// The description's own example must be a value of the type, and come back with the fields that are described.
    fn holds<S: PartialSchema, T: Serialize + DeserializeOwned>() {
        let schema = serde_json::to_value(S::schema()).unwrap();
        let example = schema.get("example").cloned().unwrap();
        let value: T = serde_json::from_value(example.clone()).unwrap();
        let again = serde_json::to_value(value).unwrap();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        if let Some(properties) = schema.get("properties") {
            assert_eq!(names(properties), names(&again));
        }
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            assert!(variants.iter().any(|variant| names(&variant["properties"]) == names(&again)));
        }
    }

    #[test]
    fn descriptions_are_those_of_the_types() {
        holds::<Features, feature::Features>();
        holds::<Evaluation, policy::Evaluation>();
        holds::<Comparison, policy::Comparison>();
        holds::<Exploration, slate::Exploration>();
        for mode in serde_json::to_value(Mode::schema()).unwrap()["enum"].as_array().unwrap() {
            let _: event::Mode = serde_json::from_value(mode.clone()).unwrap();
        }
    }
}

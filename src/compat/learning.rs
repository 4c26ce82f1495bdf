//! Learning settings: the Personalizer's arguments, which are those of Vowpal Wabbit's command line, as an algorithm of
//! `slated train`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_trainer::train::AlgorithmSettings;
use thiserror::Error;
use utoipa::ToSchema;

/// Learning settings, as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LearningSettings {
    /// Their name.
    #[schema(example = "default", max_length = 256)]
    pub name: String,
    /// The arguments of Vowpal Wabbit's command line.
    #[schema(example = "--cb_explore_adf --quadratic :: --epsilon 0.2", max_length = 1024)]
    pub arguments: String,
}

impl Default for LearningSettings {
    fn default() -> Self {
        Self { name: "default".to_owned(), arguments: "--cb_explore_adf --quadratic ::".to_owned() }
    }
}

/// Arguments that are not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ArgumentError(String);

/// What an argument does here.
enum Means {
    /// A kind of exploration, which names the algorithm.
    Explores(&'static str),
    /// A number of the algorithm.
    Number(&'static str),
    /// State and item interact.
    Interacts,
    /// Of Vowpal Wabbit's own learner or files, without a like here; with a value or without.
    Nothing { value: bool },
}

fn meaning(name: &str) -> Option<Means> {
    Some(match name {
        "--squarecb" => Means::Explores("square_cb"),
        "--regcb" | "--regcbopt" => Means::Explores("linucb"),
        "--gamma_scale" => Means::Number("gamma"),
        "--bag" => Means::Number("members"),
        "--l2" => Means::Number("lambda"),
        "-q" | "--quadratic" | "--cubic" | "--interactions" | "--experimental_full_name_interactions" => {
            Means::Interacts
        }
        "--cb_explore_adf"
        | "--cb_adf"
        | "--ccb_explore_adf"
        | "--json"
        | "--dsjson"
        | "--noconstant"
        | "--ignore_linear_all"
        | "--leave_duplicate_interactions"
        | "--adaptive"
        | "--normalized"
        | "--invariant"
        | "--coin"
        | "--sgd"
        | "--save_resume"
        | "--preserve_performance_counters"
        | "--quiet"
        | "--first_only"
        | "--nounif" => Means::Nothing { value: false },
        "--epsilon"
        | "--cb_type"
        | "--power_t"
        | "--initial_t"
        | "--decay_learning_rate"
        | "-l"
        | "--learning_rate"
        | "--l1"
        | "-b"
        | "--bit_precision"
        | "--id"
        | "--ignore"
        | "--ignore_linear"
        | "--keep"
        | "--marginal"
        | "--mellowness"
        | "--hash"
        | "--random_seed"
        | "--passes"
        | "--loss_function"
        | "--cb_min_cost"
        | "--cb_max_cost" => Means::Nothing { value: true },
        _ => return None,
    })
}

/// The algorithm that arguments ask for: `square_cb`, `linucb` or `bootstrap_ensemble` for the kinds of exploration that they
/// are alike to, and otherwise the same regression explored as the service configuration says. What is of Vowpal Wabbit's own
/// learner (learning rates, bits, the kind of estimator) is read and has no like in a ridge regression.
///
/// # Errors
/// An argument that is not known, a number that is none, or that the algorithm does not take.
pub fn algorithm_of(settings: &LearningSettings) -> Result<AlgorithmSettings, ArgumentError> {
    let mut algorithm = serde_json::Map::from_iter([("name".to_owned(), json!("square_cb"))]);
    algorithm.insert("interaction".to_owned(), json!("additive"));
    let mut words = settings.arguments.split_whitespace().flat_map(|word| match word.split_once('=') {
        Some((name, value)) if name.starts_with('-') => vec![name, value],
        _ => vec![word],
    });
    while let Some(word) = words.next() {
        // `-q ab` may be written `-qab`.
        let (word, attached) = match word.strip_prefix("-q") {
            Some(rest) if !rest.is_empty() => ("-q", true),
            _ => (word, false),
        };
        let means = meaning(word).ok_or_else(|| {
            ArgumentError(format!(
                "`{word}` is not an argument that is known here; docs/personalizer.md lists those that are"
            ))
        })?;
        let mut value = || words.next().ok_or_else(|| ArgumentError(format!("`{word}` needs a value behind it")));
        match means {
            Means::Explores(name) => drop(algorithm.insert("name".to_owned(), json!(name))),
            Means::Number(key) => {
                let text = value()?;
                let number: Value = serde_json::from_str(text)
                    .ok()
                    .filter(Value::is_number)
                    .ok_or_else(|| ArgumentError(format!("`{word}` is `{text}`, which is no number")))?;
                if key == "members" {
                    algorithm.insert("name".to_owned(), json!("bootstrap_ensemble"));
                }
                algorithm.insert(key.to_owned(), number);
            }
            Means::Interacts => {
                if !attached {
                    value()?;
                }
                algorithm.insert("interaction".to_owned(), json!("outer"));
            }
            Means::Nothing { value: with } => {
                if with {
                    value()?;
                }
            }
        }
    }
    if algorithm.get("name") != Some(&json!("square_cb")) {
        algorithm.remove("gamma");
    }
    let refused = |error: serde_json::Error| ArgumentError(format!("the arguments make no algorithm: {error}"));
    let algorithm: AlgorithmSettings = serde_json::from_value(algorithm.into()).map_err(refused)?;
    match algorithm.bandit().problem() {
        Some(problem) => Err(ArgumentError(format!("the arguments make an algorithm that cannot be used: {problem}"))),
        None => Ok(algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &str) -> Result<Value, String> {
        let settings = LearningSettings { name: "n".to_owned(), arguments: arguments.to_owned() };
        algorithm_of(&settings).map(|algorithm| json!(algorithm)).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_become_an_algorithm() {
        let default = of(&LearningSettings::default().arguments).unwrap();
        assert_eq!((&default["name"], &default["interaction"]), (&json!("square_cb"), &json!("outer")));
        // Those that the Personalizer exports.
        let exported = "--cb_explore_adf --epsilon 0.20000000298023224 --power_t 0 -l 0.001 --cb_type mtr -q ::";
        assert_eq!(of(exported).unwrap(), default);
        assert_eq!(of("--cb_explore_adf --cb_type=ips -qGT --l2 0.5").unwrap()["lambda"], json!(0.5));
        assert_eq!(of("--cb_explore_adf").unwrap()["interaction"], json!("additive"));
        assert_eq!(of("--squarecb --gamma_scale 10 --interactions ::").unwrap()["gamma"], json!(10.0));
        assert_eq!(of("--bag 4").unwrap()["members"], json!(4));
        assert_eq!(of("--regcb").unwrap()["name"], json!("linucb"));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (arguments, word) in [
            ("--cb_explore_adf --nn 20", "`--nn`"),
            ("mtr", "`mtr`"),
            ("--l2", "needs a value"),
            ("--l2 x", "no number"),
            ("--l2 -1", "lambda"),
            ("--bag 1.5", "no algorithm"),
        ] {
            let error = of(arguments).unwrap_err();
            assert!(error.contains(word), "{arguments}: {error}");
        }
    }
}

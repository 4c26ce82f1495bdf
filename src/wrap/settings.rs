//! What has to be said of a model that cannot be read from it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::SlateLimits;
use slated_contract::session::SessionSettings;
use slated_contract::slate::{Exploration, SlateObjective};
use slated_trainer::onnx::foreign::Layout;

use super::WrapError;

/// What `--schema` holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrapSettings {
    /// The policy's name.
    #[serde(default)]
    pub name: Option<String>,
    /// What learned it; the framework's name as the model says it, where absent.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// Gamma, the discount per step that it was trained with: 0 for one that looks at the next answer alone.
    #[serde(default)]
    pub discount: f64,
    /// The features from which `state` and `items` are encoded.
    pub features: FeatureSchema,
    /// What the session keeps for it.
    #[serde(default)]
    pub session: SessionSettings,
    /// The greatest request.
    #[serde(default = "slate_limits")]
    pub slate: SlateLimits,
    /// How it explores.
    #[serde(default)]
    pub exploration: Exploration,
    /// How slates are put together from scores and appeal, for a model that gives both.
    #[serde(default)]
    pub objective: Option<SlateObjective>,
    /// How the model takes candidates: `rows` or `lists`.
    #[serde(default)]
    pub scorer: Option<Layout>,
    /// What its inputs are fed with, by name.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputSetting>,
    /// Which of its outputs are `scores` and `appeal`.
    #[serde(default)]
    pub outputs: BTreeMap<String, OutputSetting>,
}

/// What an input is fed with: parts joined by `+`, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum InputSetting {
    /// Joined by `+`.
    Joined(String),
    /// A list, for features with a `+` in their name.
    List(Vec<String>),
}

/// An output, and which of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum OutputSetting {
    /// By name.
    Name(String),
    /// With a column.
    Column {
        /// The name; found as if it were not said where absent.
        #[serde(default)]
        tensor: Option<String>,
        /// The column, from 0.
        column: usize,
    },
}

const fn slate_limits() -> SlateLimits {
    SlateLimits { max_size: 20, max_candidates: 1000 }
}

impl WrapSettings {
    /// Reads a settings file in TOML.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value of the wrong form.
    pub fn read(path: &Path) -> Result<Self, WrapError> {
        let failed = |reason: String| WrapError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// What each input is fed with, in parts.
    #[must_use]
    pub fn input_parts(&self) -> BTreeMap<String, Vec<String>> {
        self.inputs.iter().map(|(name, input)| (name.clone(), input.parts())).collect()
    }

    /// Which outputs are wished for, and which column of each.
    #[must_use]
    pub fn output_wishes(&self) -> BTreeMap<String, (Option<String>, Option<usize>)> {
        let wish = |output: &OutputSetting| match output {
            OutputSetting::Name(name) => (Some(name.clone()), None),
            OutputSetting::Column { tensor, column } => (tensor.clone(), Some(*column)),
        };
        self.outputs.iter().map(|(name, output)| (name.clone(), wish(output))).collect()
    }

    /// Takes another output, or column, for what a policy gives; what is absent stays as it was.
    pub fn set_output(&mut self, ours: &str, tensor: Option<String>, column: Option<usize>) {
        let (before, column_before) = self.output_wishes().remove(ours).unwrap_or_default();
        let tensor = tensor.or(before);
        let setting = match (tensor, column.or(column_before)) {
            (tensor, Some(column)) => OutputSetting::Column { tensor, column },
            (Some(tensor), None) => OutputSetting::Name(tensor),
            (None, None) => return,
        };
        self.outputs.insert(ours.to_owned(), setting);
    }
}

impl InputSetting {
    fn parts(&self) -> Vec<String> {
        match self {
            Self::Joined(text) => text.split('+').map(|part| part.trim().to_owned()).collect(),
            Self::List(parts) => parts.clone(),
        }
    }
}

/// Reads an exploration as a flag has it: `greedy`, `epsilon_greedy:0.1`, `softmax:0.5`, `inverse_gap_weighting:20`,
/// `posterior_sampling:64`.
///
/// # Errors
/// Another method, or a parameter that is absent or no number.
pub fn exploration(text: &str) -> Result<Exploration, String> {
    let (method, parameter) = text.split_once(':').map_or((text, None), |(method, value)| (method, Some(value)));
    let number = |what: &str| -> Result<f64, String> {
        let value = parameter.ok_or_else(|| format!("`{method}` needs its {what}, as `{method}:NUMBER`"))?;
        value.parse().map_err(|_| format!("`{value}` is no number, and `{method}` needs its {what}"))
    };
    match method {
        "greedy" if parameter.is_none() => Ok(Exploration::Greedy),
        "epsilon_greedy" => Ok(Exploration::EpsilonGreedy { epsilon: number("epsilon")? }),
        "softmax" => Ok(Exploration::Softmax { temperature: number("temperature")? }),
        "inverse_gap_weighting" => Ok(Exploration::InverseGapWeighting { gamma: number("gamma")? }),
        "posterior_sampling" => {
            let draws = parameter.and_then(|value| value.parse().ok());
            let draws = draws.ok_or("`posterior_sampling` needs its number of draws, as `posterior_sampling:64`")?;
            Ok(Exploration::PosteriorSampling { draws })
        }
        _ => Err("allowed are greedy, epsilon_greedy:EPSILON, softmax:TEMPERATURE, inverse_gap_weighting:GAMMA and \
             posterior_sampling:DRAWS"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explorations_are_read_with_their_parameter() {
        assert_eq!(exploration("greedy"), Ok(Exploration::Greedy));
        assert_eq!(exploration("epsilon_greedy:0.25"), Ok(Exploration::EpsilonGreedy { epsilon: 0.25 }));
        assert_eq!(exploration("softmax:2"), Ok(Exploration::Softmax { temperature: 2.0 }));
        assert_eq!(exploration("inverse_gap_weighting:10"), Ok(Exploration::InverseGapWeighting { gamma: 10.0 }));
        assert_eq!(exploration("posterior_sampling:8"), Ok(Exploration::PosteriorSampling { draws: 8 }));
        for bad in ["", "greedy:1", "softmax", "softmax:x", "posterior_sampling:0.5", "uniform"] {
            assert!(exploration(bad).is_err(), "{bad}");
        }
    }
}

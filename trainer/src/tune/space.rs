//! Which settings vary, and how far.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

/// The values that a setting may take. Numbers include both bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Numbers, all equally likely.
    Uniform(f64, f64),
    /// Positive numbers, each order of magnitude equally likely.
    LogUniform(f64, f64),
    /// Whole numbers, all equally likely.
    Integer(i64, i64),
    /// Positive whole numbers, each order of magnitude equally likely.
    LogInteger(i64, i64),
    /// Any of these values.
    Choice(Vec<Value>),
}

/// A setting that varies.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The setting's dotted path, such as `algorithm.learning_rate`.
    pub path: String,
    /// Its values.
    pub domain: Domain,
}

/// The settings that vary, by path. In TOML a table such as
///
/// ```toml
/// "algorithm.learning_rate" = { log_uniform = [1e-5, 1e-2] }
/// "algorithm.hidden" = { choice = [[64], [128, 64]] }
/// ```
///
/// in which tables within tables mean the same as dotted paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct SearchSpace {
    parameters: Vec<Parameter>,
}

/// A search space that cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpaceError {
    /// Nothing varies.
    #[error(
        "`space` is empty; name at least one setting, such as \"learning_rate\" = {{ log_uniform = [1e-5, 1e-2] }}"
    )]
    Empty,
    /// A setting without a usable domain.
    #[error(
        "`space.{path}` says {problem}; it takes one of {{ uniform = [low, high] }}, {{ log_uniform = [low, high] }}, \
         {{ integer = [low, high] }}, {{ log_integer = [low, high] }}, {{ choice = [value, ...] }}"
    )]
    Kind {
        /// Its path.
        path: String,
        /// What is there instead.
        problem: String,
    },
    /// A domain without values.
    #[error("`space.{path}` is {domain}, {allowed}")]
    Range {
        /// Its path.
        path: String,
        /// The domain, as TOML.
        domain: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A path through a setting that is no table.
    #[error("`space.{path}` cannot be set, because `{parent}` is no table in the settings")]
    Path {
        /// The path.
        path: String,
        /// What is in the way.
        parent: String,
    },
}

impl TryFrom<Table> for SearchSpace {
    type Error = SpaceError;

    fn try_from(table: Table) -> Result<Self, SpaceError> {
        let mut parameters = Vec::new();
        collect("", table, &mut parameters)?;
        if parameters.is_empty() {
            return Err(SpaceError::Empty);
        }
        parameters.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { parameters })
    }
}

impl From<SearchSpace> for Table {
    fn from(space: SearchSpace) -> Self {
        let domain = |domain| Value::try_from(domain).unwrap_or_else(|_| Value::Array(Vec::new()));
        space.parameters.into_iter().map(|parameter| (parameter.path, domain(parameter.domain))).collect()
    }
}

/// Finds the domains in a table; one that names no kind of domain is a part of a path.
fn collect(prefix: &str, table: Table, parameters: &mut Vec<Parameter>) -> Result<(), SpaceError> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if inner.values().all(Value::is_table) && !inner.is_empty() => {
                collect(&path, inner, parameters)?;
            }
            value => {
                let written = value.to_string();
                let domain = value.try_into().map_err(|error: toml::de::Error| SpaceError::Kind {
                    path: path.clone(),
                    problem: format!("{written} ({})", error.message()),
                })?;
                parameters.push(Parameter::new(path, domain)?);
            }
        }
    }
    Ok(())
}

impl SearchSpace {
    /// The parameters, by path.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The settings with the values of a point, one for each parameter.
    ///
    /// # Errors
    /// A path through a setting that is no table.
    pub fn overlay(&self, settings: &Table, values: &[Value]) -> Result<Table, SpaceError> {
        let mut settings = settings.clone();
        for (parameter, value) in self.parameters.iter().zip(values) {
            parameter.set(&mut settings, value.clone())?;
        }
        Ok(settings)
    }
}

impl Parameter {
    /// A parameter with at least two values.
    ///
    /// # Errors
    /// A range that is empty or not finite, a range by order of magnitude that reaches 0, a choice of nothing.
    pub fn new(path: impl Into<String>, domain: Domain) -> Result<Self, SpaceError> {
        let path = path.into();
        let allowed = match &domain {
            Domain::Uniform(low, high) if !(low < high && (high - low).is_finite()) => {
                "both bounds must be finite, the first below the second"
            }
            Domain::LogUniform(low, high) if !(*low > 0.0 && low < high && high.is_finite()) => {
                "both bounds must be finite and above 0, the first below the second"
            }
            Domain::Integer(low, high) if low >= high => "the first bound must be below the second",
            Domain::LogInteger(low, high) if *low < 1 || low >= high => {
                "both bounds must be at least 1, the first below the second"
            }
            Domain::Choice(values) if values.is_empty() => "it must name at least one value",
            _ => return Ok(Self { path, domain }),
        };
        let domain = Value::try_from(&domain).map_or_else(|_| format!("{domain:?}"), |value| value.to_string());
        Err(SpaceError::Range { path, domain, allowed })
    }

    fn set(&self, settings: &mut Table, value: Value) -> Result<(), SpaceError> {
        let (parents, last) = match self.path.rsplit_once('.') {
            Some((parents, last)) => (Some(parents), last),
            None => (None, self.path.as_str()),
        };
        let mut table = settings;
        for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
            let inner = table.entry(parent).or_insert_with(|| Value::Table(Table::new()));
            table = inner
                .as_table_mut()
                .ok_or_else(|| SpaceError::Path { path: self.path.clone(), parent: parent.to_owned() })?;
        }
        table.insert(last.to_owned(), value);
        Ok(())
    }
}

impl Domain {
    /// How many values there are, where they can be counted.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Uniform(..) | Self::LogUniform(..) => None,
            Self::Integer(low, high) | Self::LogInteger(low, high) => Some(high.abs_diff(*low).saturating_add(1)),
            Self::Choice(values) => Some(values.len() as u64),
        }
    }

    /// The half-open interval over which the domain is even: values of equal likelihood have equal lengths of it.
    pub(super) fn span(&self) -> (f64, f64) {
        match self {
            Self::Uniform(low, high) => (*low, *high),
            Self::LogUniform(low, high) => (low.ln(), high.ln()),
            // Half a number more on each side, so that the bounds are as likely as the numbers between them.
            Self::Integer(low, high) => (*low as f64 - 0.5, *high as f64 + 0.5),
            Self::LogInteger(low, high) => ((*low as f64 - 0.5).ln(), (*high as f64 + 0.5).ln()),
            Self::Choice(values) => (0.0, values.len() as f64),
        }
    }

    /// The value at a coordinate of the span. Numbers have six significant digits, so that a table of trials and the
    /// settings made from it say exactly what was tried.
    pub(super) fn value(&self, coordinate: f64) -> Value {
        match self {
            Self::Uniform(low, high) => rounded(coordinate).clamp(*low, *high).into(),
            Self::LogUniform(low, high) => rounded(coordinate.exp()).clamp(*low, *high).into(),
            Self::Integer(low, high) => (coordinate.round() as i64).clamp(*low, *high).into(),
            Self::LogInteger(low, high) => (coordinate.exp().round() as i64).clamp(*low, *high).into(),
            Self::Choice(values) => values[(coordinate as usize).min(values.len() - 1)].clone(),
        }
    }

    /// Evenly spread coordinates, from the first value to the last: all values where there are no more than `most`.
    pub(super) fn levels(&self, most: u64) -> Vec<f64> {
        let (low, high) = self.span();
        let evenly = |low: f64, high: f64, count: u64| {
            let last = count.saturating_sub(1).max(1) as f64;
            (0..count).map(|level| (high - low).mul_add(level as f64 / last, low)).collect()
        };
        match self {
            Self::Uniform(..) | Self::LogUniform(..) => evenly(low, high, most),
            Self::Choice(values) => (0..values.len()).map(|index| index as f64 + 0.5).collect(),
            Self::Integer(low, high) => {
                let count = self.count().unwrap_or(most).min(most);
                evenly(*low as f64, *high as f64, count)
            }
            Self::LogInteger(low, high) if self.count().is_some_and(|count| count <= most) => {
                (*low..=*high).map(|value| (value as f64).ln()).collect()
            }
            Self::LogInteger(low, high) => evenly((*low as f64).ln(), (*high as f64).ln(), most),
        }
    }
}

/// A number to six significant digits.
fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Result<SearchSpace, SpaceError> {
        SearchSpace::try_from(text.parse::<Table>().unwrap())
    }

    #[test]
    fn paths_and_tables_mean_the_same() {
        let dotted = space("\"a.rate\" = { uniform = [0, 1] }\n\"a.size\" = { choice = [[64], [128, 64]] }").unwrap();
        let nested = space("[a]\nrate = { uniform = [0, 1] }\nsize.choice = [[64], [128, 64]]").unwrap();
        assert_eq!(dotted, nested);
        let paths: Vec<_> = dotted.parameters().iter().map(|parameter| parameter.path.as_str()).collect();
        assert_eq!(paths, ["a.rate", "a.size"]);
        assert_eq!(SearchSpace::try_from(Table::from(dotted.clone())), Ok(dotted));
    }

    #[test]
    fn what_cannot_be_searched_is_refused_by_name() {
        let message = |text| space(text).unwrap_err().to_string();
        let cases = [
            ("", "`space` is empty"),
            ("rate = { loguniform = [1, 2] }", "`space.rate` says { loguniform = [1, 2] } (unknown variant"),
            ("rate = 3", "`space.rate` says 3 "),
            ("rate = {}", "`space.rate` says {} "),
            ("rate = { uniform = [1] }", "`space.rate` says { uniform = [1] } "),
            ("rate = { uniform = [2, 1] }", "`space.rate` is { uniform = [2.0, 1.0] }, both bounds must be finite"),
            ("rate = { uniform = [0, nan] }", "`space.rate` is "),
            (
                "rate = { log_uniform = [0, 1] }",
                "`space.rate` is { log_uniform = [0.0, 1.0] }, both bounds must be finite and above 0",
            ),
            ("rate = { integer = [3, 3] }", "`space.rate` is { integer = [3, 3] }, the first bound must be below"),
            (
                "a.b = { log_integer = [0, 3] }",
                "`space.a.b` is { log_integer = [0, 3] }, both bounds must be at least 1",
            ),
            ("rate = { choice = [] }", "`space.rate` is { choice = [] }, it must name at least one value"),
        ];
        for (text, expected) in cases {
            assert!(message(text).starts_with(expected), "{text}: {}", message(text));
        }
    }

    #[test]
    fn a_point_is_laid_over_the_settings() {
        let space = space("seed = { integer = [1, 9] }\n\"a.b.rate\" = { uniform = [0, 1] }").unwrap();
        let settings = "seed = 1\nname = \"x\"\n[a]\nsize = 2".parse::<Table>().unwrap();
        let laid = space.overlay(&settings, &[0.5.into(), 7.into()]).unwrap();
        assert_eq!(laid, "seed = 7\nname = \"x\"\n[a]\nsize = 2\n[a.b]\nrate = 0.5".parse::<Table>().unwrap());
        let blocked = space.overlay(&"a = 1".parse::<Table>().unwrap(), &[0.5.into(), 7.into()]).unwrap_err();
        assert_eq!(blocked.to_string(), "`space.a.b.rate` cannot be set, because `a` is no table in the settings");
    }

    #[test]
    fn every_coordinate_is_a_value_of_the_domain() {
        assert_eq!(Domain::LogUniform(1e-5, 1e-2).value(1e-5_f64.ln()), Value::Float(1e-5));
        assert_eq!(Domain::Uniform(0.0, 1.0).value(1.0 / 3.0), Value::Float(0.333_333));
        assert_eq!(Domain::Integer(1, 3).value(0.5), Value::Integer(1));
        assert_eq!(Domain::Integer(1, 3).value(3.499_999), Value::Integer(3));
        assert_eq!(Domain::LogInteger(1, 1024).value(1024.5_f64.ln()), Value::Integer(1024));
        let names = Domain::Choice(vec!["a".into(), "b".into()]);
        assert_eq!(names.value(1.999), Value::String("b".to_owned()));
        assert_eq!(names.value(2.0), Value::String("b".to_owned()));
    }

    #[test]
    fn a_grid_reaches_both_ends() {
        let values = |domain: Domain, most| -> Vec<Value> {
            domain.levels(most).into_iter().map(|level| domain.value(level)).collect()
        };
        assert_eq!(values(Domain::LogUniform(1e-4, 1e-2), 3), [1e-4, 1e-3, 1e-2].map(Value::Float));
        assert_eq!(values(Domain::Integer(1, 3), 5), [1, 2, 3].map(Value::Integer));
        assert_eq!(values(Domain::Integer(0, 100), 3), [0, 50, 100].map(Value::Integer));
        assert_eq!(values(Domain::LogInteger(1, 4), 4), [1, 2, 3, 4].map(Value::Integer));
        assert_eq!(values(Domain::LogInteger(1, 256), 3), [1, 16, 256].map(Value::Integer));
        assert_eq!(values(Domain::Choice(vec![true.into(), false.into()]), 1).len(), 2);
    }
}

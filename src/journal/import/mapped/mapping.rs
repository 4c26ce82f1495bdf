//! A mapping file: which columns of a table are what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use slated_contract::event::check_event_type;

use crate::journal::import::ImportError;

/// Which columns of a table are what. A column is named as in the table; what is nested in it, by dots.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What a row is.
    #[serde(default)]
    pub rows: Rows,
    /// The decision itself.
    #[serde(default)]
    pub decision: DecisionColumns,
    /// Its features.
    #[serde(default)]
    pub features: FeatureColumns,
    /// What was chosen from.
    #[serde(default)]
    pub candidates: CandidateColumns,
    /// What was shown.
    pub shown: ShownColumns,
    /// The column of each event type: what came of the decision.
    #[serde(default)]
    pub rewards: BTreeMap<String, String>,
}

/// What a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// A decision.
    #[default]
    Decision,
    /// An item of a decision; the rows of one stand together.
    Item,
}

/// The decision itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionColumns {
    /// Its id; one is made of the file and the row where absent.
    pub id: Option<String>,
    /// When it was made; the rows are a microsecond apart, from 1970 on, where absent.
    pub time: Option<String>,
    /// How times are written: `rfc3339`, `seconds`, `milliseconds` or `microseconds` since 1970, or a pattern such as
    /// `%Y-%m-%d %H:%M:%S`, which is UTC unless it holds `%z`.
    pub time_format: TimeFormat,
    /// The user's id.
    pub user_id: Option<String>,
    /// The session's id.
    pub session_id: Option<String>,
    /// The name of the policy that decided.
    pub policy: Option<String>,
    /// The column of that name, where it is not the same in all rows.
    pub policy_column: Option<String>,
}

/// How times are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum TimeFormat {
    /// As `2026-01-31T12:00:00Z`.
    #[default]
    Rfc3339,
    /// A number of units since 1970, so many to the second.
    Since1970(u32),
    /// A pattern of `strftime`.
    Pattern(String),
}

impl From<String> for TimeFormat {
    fn from(text: String) -> Self {
        match text.as_str() {
            "rfc3339" => Self::Rfc3339,
            "seconds" => Self::Since1970(1),
            "milliseconds" => Self::Since1970(1000),
            "microseconds" => Self::Since1970(1_000_000),
            _ => Self::Pattern(text),
        }
    }
}

/// The features of a decision.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureColumns {
    /// The user's.
    pub user: Vec<String>,
    /// The context's.
    pub context: Vec<String>,
}

/// What was chosen from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateColumns {
    /// A list of ids, or of objects with an id and features; with a row for each item, the item's id. Where absent, all
    /// items of `items`.
    pub column: Option<String>,
    /// What stands between ids that are one text.
    pub separator: Option<String>,
    /// The key of an object's id.
    pub id: Option<String>,
    /// With a row for each item, the columns of the item's features. Of objects, all keys but the id are features.
    pub features: Vec<String>,
    /// A table of items, whose path is from the mapping file's folder: its columns are features of every candidate with its
    /// id.
    pub items: Option<PathBuf>,
    /// The column of the id there; `id` where absent.
    pub item_id: Option<String>,
}

/// What was shown.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShownColumns {
    /// The item shown, or a list of them from the top; with a row for each item, its position, empty where it was not
    /// shown.
    pub column: String,
    /// What stands between ids that are one text.
    #[serde(default)]
    pub separator: Option<String>,
    /// Whether items are given by their place among the candidates, from 0.
    #[serde(default)]
    pub by_place: bool,
    /// The position of the one item shown, where the log holds one position of a larger page.
    #[serde(default)]
    pub position: Option<String>,
    /// From which number positions count.
    #[serde(default)]
    pub first_position: i32,
    /// The probability, or a list of them by item shown. A log without has nothing to weigh by.
    #[serde(default)]
    pub propensity: Option<String>,
    /// Of what these are the probabilities.
    #[serde(default)]
    pub propensity_of: PropensityOf,
}

/// Of what a logged probability is the probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropensityOf {
    /// The item at its position, given those above it.
    #[default]
    Conditional,
    /// The items up to the position.
    Cascade,
    /// The item at its position, whatever is elsewhere, positions being drawn independently of each other.
    Independent,
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// A file that does not read, an unknown key, event types and combinations that cannot be.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let text = fs::read_to_string(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
        let wrong = |problem: String| ImportError::File { path: path.to_owned(), problem };
        let mut mapping: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        mapping.check().map_err(wrong)?;
        if let Some(items) = &mut mapping.candidates.items {
            *items = path.parent().unwrap_or(Path::new("")).join(&items);
        }
        Ok(mapping)
    }

    fn check(&self) -> Result<(), String> {
        for event in self.rewards.keys() {
            check_event_type(event).map_err(|error| format!("`rewards.{event}`: an event type {error}"))?;
        }
        let CandidateColumns { column, id, items, item_id, features, .. } = &self.candidates;
        let refused = |problem: &str| Err(problem.to_owned());
        match self.rows {
            Rows::Decision if column.is_none() && items.is_none() => {
                refused("`candidates` needs `column`, or `items` where every item was a candidate")
            }
            Rows::Decision if !features.is_empty() => refused(
                "`candidates.features` is for rows that are items; here an item's features stand in its object, or in `items`",
            ),
            Rows::Item if column.is_none() => refused("`candidates.column` must name the column of the item's id"),
            Rows::Item if self.decision.id.is_none() => {
                refused("`decision.id` must name the column that tells the rows of one decision from those of the next")
            }
            Rows::Item if id.is_some() || self.shown.by_place || self.shown.position.is_some() => {
                refused("`candidates.id`, `shown.by_place` and `shown.position` are for rows that are decisions")
            }
            _ if items.is_none() && item_id.is_some() => {
                refused("`candidates.item_id` is a column of `items`, which is missing")
            }
            _ => Ok(()),
        }
    }
}

//! A request's free JSON as features of the groups that a schema knows.

use serde_json::Value;
use slated_contract::event::check_identifier;
use slated_contract::feature::{FeatureRef, Features, FeaturesBuilder, FreeJsonError, Reserved, flatten};
use thiserror::Error;

use super::CompatSettings;

/// The most values of one list: each feature is looked for among the others.
const MOST: usize = 2048;

/// Features that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{field}` {problem}")]
pub struct FeatureError {
    /// Where in the request.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// A context, mapped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapped {
    /// The user, where a feature names one.
    pub user_id: Option<String>,
    /// The session, likewise.
    pub session_id: Option<String>,
    /// Features of the user.
    pub user: Features,
    /// Features of the request.
    pub context: Features,
}

/// How a request's free JSON becomes features: [`flatten`] names each by its path, without those that begin with `_`, as the
/// Personalizer does; the settings say what is the user's, and what a schema calls otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a>(pub &'a CompatSettings);

impl Mapping<'_> {
    /// A list of objects as features of an action, or of a slot where `under` is what their names begin with; `field` is where
    /// it stands in the request.
    ///
    /// # Errors
    /// JSON that cannot become features, or too much of it.
    pub fn features(&self, list: Vec<Value>, field: &str, under: &str) -> Result<Features, FeatureError> {
        let mut features = FeaturesBuilder::default();
        for (name, value) in flat(list, field)?.iter() {
            let path = if under.is_empty() { name.to_owned() } else { format!("{under}.{name}") };
            features.set(self.name(&path), value);
        }
        Ok(features.finish())
    }

    /// A list of objects as the context of a request.
    ///
    /// # Errors
    /// As [`Mapping::features`]; an id that is none.
    pub fn context(&self, list: Vec<Value>, field: &str) -> Result<Mapped, FeatureError> {
        let (mut user, mut context) = (FeaturesBuilder::default(), FeaturesBuilder::default());
        let mut mapped = Mapped::default();
        for (path, value) in flat(list, field)?.iter() {
            let id =
                || identifier(value).map_err(|problem| FeatureError { field: format!("{field}: {path}"), problem });
            if self.0.user_id.as_deref() == Some(path) {
                mapped.user_id = Some(id()?);
                continue;
            }
            if self.0.session_id.as_deref() == Some(path) {
                mapped.session_id = Some(id()?);
                continue;
            }
            let is_users = |namespace: &str| self.0.user.iter().any(|name| name == namespace);
            match path.split_once('.').filter(|(namespace, _)| is_users(namespace)) {
                Some((_, rest)) => user.set(self.name(rest), value),
                None => context.set(self.name(path), value),
            }
        }
        Ok(Mapped { user: user.finish(), context: context.finish(), ..mapped })
    }

    fn name<'b>(&'b self, path: &'b str) -> &'b str {
        self.0.names.get(path).map_or(path, String::as_str)
    }
}

fn flat(list: Vec<Value>, field: &str) -> Result<Features, FeatureError> {
    let refuse = |problem: String| FeatureError { field: field.to_owned(), problem };
    let json = Value::Array(list);
    if values(&json) > MOST {
        return Err(refuse(format!("holds {} values, at most {MOST} are allowed", values(&json))));
    }
    flatten(&json, Reserved::Underscored).map_err(|error: FreeJsonError| refuse(format!("cannot be features: {error}")))
}

fn values(json: &Value) -> usize {
    match json {
        Value::Array(elements) => 1 + elements.iter().map(values).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(values).sum::<usize>(),
        _ => 1,
    }
}

fn identifier(value: FeatureRef) -> Result<String, String> {
    let id = match value {
        FeatureRef::Text(text) => text.to_string(),
        FeatureRef::Number(number) => number.to_string(),
        FeatureRef::Vector(_) => return Err("must be a text or a number, because it is an id".to_owned()),
    };
    check_identifier(&id).map_err(|error| error.to_string())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(value: Value) -> Vec<Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn settings_say_what_is_the_users_and_what_is_called_otherwise() {
        let settings = CompatSettings {
            user_id: Some("user.id".to_owned()),
            session_id: Some("visit".to_owned()),
            user: vec!["user".to_owned()],
            names: [("environment.dayOfWeek".to_owned(), "weekday".to_owned())].into(),
            ..CompatSettings::default()
        };
        let context = list(json!([
            {"user": {"id": 42, "age": 30}, "visit": "v-1"},
            {"environment": {"dayOfWeek": "Tuesday", "_internal": 1}, "_other": {"a": 1}},
        ]));
        let mapped = Mapping(&settings).context(context, "contextFeatures").unwrap();
        assert_eq!(mapped.user_id.as_deref(), Some("42"));
        assert_eq!(mapped.session_id.as_deref(), Some("v-1"));
        assert_eq!(mapped.user, [("age", 30.0)].into_iter().collect());
        assert_eq!(mapped.context, [("weekday", "Tuesday")].into_iter().collect());
        let bad = list(json!([{"visit": [1]}]));
        let error = Mapping(&settings).context(bad, "contextFeatures").unwrap_err().to_string();
        assert!(error.contains("contextFeatures: visit") && error.contains("an id"), "{error}");
    }

    #[test]
    fn slots_have_names_of_their_own_and_what_cannot_be_taken_is_named() {
        let settings = CompatSettings::default();
        let mapping = Mapping(&settings);
        let slot = mapping.features(list(json!([{"size": {"width": 3}}])), "slots[0].features", "slot").unwrap();
        assert_eq!(slot, [("slot.size.width", 3.0)].into_iter().collect());
        let error = mapping.features(list(json!([{"a": 1}, "b"])), "actions[2].features", "").unwrap_err();
        assert_eq!(error.field, "actions[2].features");
        let many = (0..MOST).map(|index| json!({ index.to_string(): index })).collect();
        let error = mapping.features(many, "actions[0].features", "").unwrap_err().to_string();
        assert!(error.contains("at most 2048"), "{error}");
    }
}

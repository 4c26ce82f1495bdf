//! Whether an event that was brought from elsewhere is one that the journal may hold.

use slated_contract::event::{Candidate, Decision, Feedback, RouteChange, check_event_type, check_identifier};
use slated_contract::feature::{FeatureRef, Features};

/// What is wrong with an event, if anything.
pub trait Check {
    /// Looks at numbers alone: JSON and CSV have none that is not finite.
    fn check_numbers(&self) -> Result<(), String>;

    /// Looks at everything.
    fn check(&self) -> Result<(), String>;
}

impl Check for Decision {
    fn check_numbers(&self) -> Result<(), String> {
        finite("propensity", self.propensity)?;
        for shown in &self.slate {
            finite("slate.cascade_propensity", shown.cascade_propensity)?;
            finite("slate.marginal_propensity", shown.marginal_propensity)?;
        }
        for alternative in &self.alternatives {
            finite("alternatives.propensity", alternative.propensity)?;
            finite("alternatives.shown_propensity", alternative.shown_propensity.unwrap_or(0.0))?;
            finite("alternatives.agreement", alternative.agreement)?;
        }
        for (group, features) in [("user", &self.user), ("context", &self.context), ("session", &self.session)] {
            finite_features(group, features)?;
        }
        self.candidates.iter().try_for_each(|Candidate { features, score, .. }| {
            finite("candidates.score", f64::from(score.unwrap_or(0.0)))?;
            finite_features("candidates.features", features)
        })
    }

    fn check(&self) -> Result<(), String> {
        identifier("decision_id", &self.decision_id)?;
        self.check_numbers()?;
        if self.slate.is_empty() {
            return Err("`slate` is empty".to_owned());
        }
        probability("propensity", self.propensity)?;
        for shown in &self.slate {
            probability("slate.cascade_propensity", shown.cascade_propensity)?;
            probability("slate.marginal_propensity", shown.marginal_propensity)?;
            if !self.candidates.iter().any(|candidate| candidate.item == shown.item) {
                return Err(format!("item `{}` of `slate` is not among `candidates`", shown.item));
            }
        }
        Ok(())
    }
}

impl Check for Feedback {
    fn check_numbers(&self) -> Result<(), String> {
        finite("value", self.value)
    }

    fn check(&self) -> Result<(), String> {
        identifier("feedback_id", &self.feedback_id)?;
        identifier("decision_id", &self.decision_id)?;
        check_event_type(&self.event).map_err(|error| format!("`event` {error}"))?;
        self.check_numbers()
    }
}

impl Check for RouteChange {
    fn check_numbers(&self) -> Result<(), String> {
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        identifier("change_id", &self.change_id)
    }
}

fn identifier(column: &str, id: &str) -> Result<(), String> {
    check_identifier(id).map_err(|error| format!("`{column}` {error}"))
}

fn finite(column: &str, number: f64) -> Result<(), String> {
    if number.is_finite() { Ok(()) } else { Err(format!("`{column}` is {number}, which is not finite")) }
}

fn probability(column: &str, number: f64) -> Result<(), String> {
    if number > 0.0 && number <= 1.0 {
        Ok(())
    } else {
        Err(format!("`{column}` is {number}, it must be above 0 and at most 1"))
    }
}

fn finite_features(group: &str, features: &Features) -> Result<(), String> {
    for (name, value) in features.iter() {
        let found = match value {
            FeatureRef::Number(number) => (!number.is_finite()).then_some(number),
            FeatureRef::Text(_) => None,
            FeatureRef::Vector(vector) => vector.iter().find(|number| !number.is_finite()).map(|&number| number.into()),
        };
        if let Some(number) = found {
            return Err(format!("feature `{name}` of `{group}` is {number}, which is not finite"));
        }
    }
    Ok(())
}

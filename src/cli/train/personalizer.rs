//! What the Personalizer's routes say of training.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use slated_contract::policy::{latest_version, read_manifest};

use crate::cli::exit::BadInput;
use crate::compat::Kept;

/// The settings with what the routes keep in the journal's folder, and with the features and exploration of the policy's
/// latest version, where the settings do not say otherwise.
pub fn settings(mut table: toml::Table, journal: &Path, models: &Path) -> anyhow::Result<toml::Table> {
    let named = table.get("policy").and_then(toml::Value::as_str).map(ToOwned::to_owned);
    let kept = match (Kept::read(journal)?, named) {
        (Some(kept), None) => kept,
        (Some(kept), Some(policy)) => Kept { policy, ..kept },
        (None, Some(policy)) => Kept::new(policy),
        (None, None) => {
            let message = "`--personalizer` needs `--policy`: the routes have kept nothing in the journal's folder yet";
            return Err(BadInput(message.to_owned()).into());
        }
    };
    let policy = &kept.policy;
    let version = latest_version(models, policy)
        .with_context(|| format!("`slated policy start {policy}` makes a policy to begin with"))?;
    let latest = read_manifest(&models.join(policy).join(version.to_string()))?;
    or(&mut table, "policy", policy)?;
    or(&mut table, "algorithm", &kept.algorithm()?)?;
    or(&mut table, "features", &latest.features)?;
    or(&mut table, "slate", &latest.slate)?;
    or(&mut table, "exploration", &kept.exploration().unwrap_or(latest.exploration))?;
    let data = table.entry("data").or_insert_with(|| toml::Table::new().into());
    if let Some(data) = data.as_table_mut() {
        or(data, "reward", &kept.reward())?;
        or(data, "policy", policy)?;
    }
    Ok(table)
}

fn or<T: Serialize + ?Sized>(table: &mut toml::Table, key: &str, value: &T) -> anyhow::Result<()> {
    let value = toml::Value::try_from(value).with_context(|| format!("training settings: `{key}`"))?;
    table.entry(key).or_insert(value);
    Ok(())
}

//! Removing what is not needed any more.

use std::fs;
use std::io;
use std::path::Path;

use slated_contract::policy::read_manifest;

use super::service::Service;
use super::{AutopilotError, AutopilotSettings, Cycle, State};

/// Removes all but the last [`AutopilotSettings::keep`] of the versions that the autopilot published. What the service has in
/// memory (what a route names, and what a rollback would need) stays, and so does every version that somebody else put there,
/// and one whose model a kept version has as well.
pub fn versions(
    settings: &AutopilotSettings,
    state: &mut State,
    cycle: &mut Cycle,
    service: &Service,
) -> Result<(), AutopilotError> {
    let status = service.status()?;
    let needed =
        |version: u64| status.loaded.contains(&version) || status.route.versions().any(|routed| routed == version);
    let beyond = state.published.len().saturating_sub(settings.keep);
    let (old, kept) = state.published.split_at(beyond);
    let model = |version: &u64| {
        let folder = settings.models.join(&settings.policy).join(version.to_string());
        // One that is gone holds no model.
        read_manifest(&folder).ok().map(|manifest| manifest.model_sha256)
    };
    // The log of a version whose model another one has would be replayed by that one's exploration.
    let models: Vec<String> = kept.iter().filter_map(model).collect();
    let shared = |version: &u64| model(version).is_some_and(|model| models.contains(&model));
    let removed: Vec<u64> = old.iter().copied().filter(|version| !needed(*version) && !shared(version)).collect();
    for version in &removed {
        let folder = settings.models.join(&settings.policy).join(version.to_string());
        remove(&folder)?;
        if !cycle.pruned.contains(version) {
            cycle.pruned.push(*version);
        }
    }
    state.published.retain(|version| !removed.contains(version));
    Ok(())
}

/// Removes the bundles of a cycle's candidates, and reports beyond those that are kept.
pub fn folders(settings: &AutopilotSettings, cycles: &Path, cycle: &Cycle) -> Result<(), AutopilotError> {
    remove(&cycles.join(cycle.number.to_string()).join("candidates"))?;
    let entries = match fs::read_dir(cycles) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(AutopilotError::Io { path: cycles.to_owned(), source }),
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let old = numbers.filter(|number| *number + (settings.keep_reports as u64) <= cycle.number);
    old.collect::<Vec<_>>().into_iter().try_for_each(|number| remove(&cycles.join(number.to_string())))
}

/// Removes a folder: out of the way first, so that a reader finds it whole or not at all.
fn remove(folder: &Path) -> Result<(), AutopilotError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".removed-{name}"));
    for (from, to) in [(folder, Some(&aside)), (&*aside, None)] {
        let done = match to {
            Some(to) => fs::rename(from, to),
            None => fs::remove_dir_all(from),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(AutopilotError::at(from))?,
        }
    }
    Ok(())
}

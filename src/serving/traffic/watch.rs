//! Watching the folder of models for versions that appear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use slated_contract::policy;

use super::{Action, Reason, Traffic};
use crate::serving::Registry;

/// The names, sizes and times of a version's files.
type Look = Vec<(String, u64, Option<SystemTime>)>;

/// Looks at the folder every `period`, and makes a newer version live where one version answers everything; under a
/// split or a canary people decide. By asking and not by file events, which network file systems and mounted volumes do
/// not send.
///
/// A version is tried once its files are the same at two looks, and, where it is refused, again once they have
/// changed: a folder that is being copied is left alone, and the manifest's hash decides whether the copy is whole. One
/// that is held back ([`policy::HELD`]) is left to whoever holds it.
pub async fn watch(registry: Arc<Registry>, traffic: Arc<Traffic>, period: Duration) {
    let mut before: BTreeMap<(String, u64), Look> = BTreeMap::new();
    let mut refused: BTreeMap<(String, u64), Look> = BTreeMap::new();
    loop {
        tokio::time::sleep(period).await;
        for (name, state) in registry.states() {
            let newer = newer(registry.models(), &name, state.newest);
            for (version, look) in newer.into_iter().rev() {
                let key = (name.clone(), version);
                let settled = before.insert(key.clone(), look.clone()).as_ref() == Some(&look);
                if !settled || refused.get(&key) == Some(&look) {
                    continue;
                }
                if state.route.shares.len() > 1 || state.route.apprentice {
                    tracing::info!(policy = name, version, "a new version is there; the route is left as it is");
                    registry.looked_at(&name, version);
                    break;
                }
                let reason =
                    Reason { by: "slated".to_owned(), why: "a newer version is in the folder".to_owned(), id: None };
                match traffic.change(&name, Action::Promote { version }, reason).await {
                    // Versions between it and the one before are passed over.
                    Ok(_) => break,
                    Err(_) => drop(refused.insert(key, look)),
                }
            }
        }
    }
}

fn newer(models: &Path, name: &str, than: u64) -> Vec<(u64, Look)> {
    let versions = policy::versions(models, name).unwrap_or_default();
    let newer = versions.into_iter().filter(|&version| version > than && !policy::is_held(models, name, version));
    newer.map(|version| (version, look(&models.join(name).join(version.to_string())))).collect()
}

fn look(folder: &Path) -> Look {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut look: Look = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), metadata.len(), metadata.modified().ok()))
        })
        .collect();
    look.sort();
    look
}

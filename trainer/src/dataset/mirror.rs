//! Journals in object stores, read through a copy of their segments on this machine.
//!
//! Segments never change, so one that was fetched is not fetched again, and a training cycle costs the new ones.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, parse_url_opts};
use slated_contract::event::{Decision, Event, Feedback, MANIFESTS, RouteChange};
use tempfile::NamedTempFile;
use thiserror::Error;
use url::Url;
use xxhash_rust::xxh3::xxh3_128;

/// Segments fetched at a time.
const CONCURRENT: usize = 8;
/// What a copy that was cut short leaves behind goes after this.
const LEFT_BEHIND: Duration = Duration::from_hours(24);
const SCHEMES: &str = "s3://, gs://, az://, abfs://, http://, https:// and file://";

/// A journal in an object store that cannot be read.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// The address.
    #[error("`{url}` is no address of a journal: {reason}; allowed are folders and {SCHEMES}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store.
    #[error("the journal {url} cannot be read: {source}")]
    Store {
        /// As it was given.
        url: String,
        /// Why.
        source: object_store::Error,
    },
    /// The copy.
    #[error("the copy of the journal at {path}: {source}")]
    Copy {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Whether the journal is an address in an object store rather than a folder.
#[must_use]
pub fn is_url(journal: &Path) -> bool {
    journal.to_str().is_some_and(|text| text.contains("://"))
}

/// A place in an object store where a journal is kept.
#[derive(Debug)]
pub struct RemoteJournal {
    /// The store.
    pub store: Box<dyn ObjectStore>,
    /// What the keys of the journal begin with.
    pub prefix: Key,
    /// The address, as it was given.
    pub url: String,
}

impl RemoteJournal {
    /// The place that an address names. Credentials, regions and endpoints come from the environment under the stores' own
    /// names, such as `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT`. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub fn at(url: &str) -> Result<Self, MirrorError> {
        let not_url = |reason: String| MirrorError::Url { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| not_url(error.to_string()))?;
        let (store, prefix) = parse_url_opts(&parsed, std::env::vars()).map_err(|error| not_url(error.to_string()))?;
        Ok(Self { store, prefix, url: url.to_owned() })
    }
}

/// The folder to read a journal from: itself, or a copy of what is in the object store now.
///
/// `cache` is where copies are kept; a folder of the user's cache where it is absent.
///
/// # Errors
/// An address that cannot be used, a store that does not answer, a cache that cannot be written.
pub async fn local(journal: &Path, cache: Option<&Path>) -> Result<PathBuf, MirrorError> {
    let Some(text) = journal.to_str().filter(|_| is_url(journal)) else { return Ok(journal.to_owned()) };
    let not_url = |reason: String| MirrorError::Url { url: text.to_owned(), reason };
    let url = Url::parse(text).map_err(|error| not_url(error.to_string()))?;
    if url.scheme() == "file" {
        return url.to_file_path().map_err(|()| not_url("it names another machine".to_owned()));
    }
    let remote = RemoteJournal::at(text)?;
    let folder = cache.map_or_else(default_cache, Path::to_owned).join(format!("{:032x}", xxh3_128(text.as_bytes())));
    mirror(&remote, &folder).await?;
    Ok(folder)
}

fn default_cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("slated/journals")
}

/// Makes `folder` hold the segments under `prefix` and their manifests, and no others.
async fn mirror(remote: &RemoteJournal, folder: &Path) -> Result<(), MirrorError> {
    let RemoteJournal { store, prefix, url } = remote;
    let failed = |source| MirrorError::Store { url: url.to_owned(), source };
    let mut wanted = Vec::new();
    // A manifest is put after its files: listed before them, none of its files is missed.
    for kind in [MANIFESTS, Decision::KIND, Feedback::KIND, RouteChange::KIND] {
        let under = prefix.clone().join(kind);
        let objects: Vec<ObjectMeta> = store.list(Some(&under)).try_collect().await.map_err(failed)?;
        wanted.extend(objects.into_iter().filter_map(|object| Some((place(prefix, &object)?, object))));
    }
    clear(folder, &wanted.iter().map(|(place, _)| folder.join(place)).collect())?;
    let missing = wanted.iter().filter(|(place, object)| !is_here(&folder.join(place), object));
    let missing: Vec<_> = missing.collect();
    let bytes: u64 = missing.iter().map(|(_, object)| object.size).sum();
    tracing::info!(journal = url, segments = wanted.len(), fetching = missing.len(), bytes, "journal mirrored");
    stream::iter(missing)
        .map(|(place, object)| fetch(store.as_ref(), object, folder.join(place), url))
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await
}

/// Where a segment stands in a journal, `<kind>/date=<date>/<name>.parquet`, or a manifest,
/// `manifest/<kind>/<name>.json`; `None` of anything else.
fn place(prefix: &Key, object: &ObjectMeta) -> Option<PathBuf> {
    let parts: Vec<_> = object.location.prefix_match(prefix)?.collect();
    let [kind, date, name] = &parts[..] else { return None };
    let extension = if kind.as_ref() == MANIFESTS { "json" } else { "parquet" };
    let is_journals = kind.as_ref() == MANIFESTS || date.as_ref().starts_with("date=");
    let is_whole = !name.as_ref().starts_with('.');
    let is_kind = Path::new(name.as_ref()).extension().is_some_and(|found| found == extension);
    (is_journals && is_whole && is_kind).then(|| parts.iter().map(AsRef::as_ref).collect())
}

/// A copy has the size of its object and the time at which that was written.
fn is_here(path: &Path, object: &ObjectMeta) -> bool {
    path.metadata().is_ok_and(|metadata| {
        metadata.len() == object.size && metadata.modified().is_ok_and(|time| time == object.last_modified.into())
    })
}

async fn fetch(store: &dyn ObjectStore, object: &ObjectMeta, path: PathBuf, url: &str) -> Result<(), MirrorError> {
    let failed = |source| MirrorError::Store { url: url.to_owned(), source };
    let copied = |source| MirrorError::Copy { path: path.clone(), source };
    let folder = path.parent().unwrap_or(&path);
    fs::create_dir_all(folder).map_err(copied)?;
    let mut file = NamedTempFile::new_in(folder).map_err(copied)?;
    let mut bytes = store.get(&object.location).await.map_err(failed)?.into_stream();
    while let Some(chunk) = bytes.try_next().await.map_err(failed)? {
        file.write_all(&chunk).map_err(copied)?;
    }
    file.as_file().set_modified(object.last_modified.into()).map_err(copied)?;
    // Two that mirror the same journal put the same bytes at the same place.
    let file: File = file.persist(&path).map_err(|error| copied(error.error))?;
    drop(file);
    Ok(())
}

/// Removes copies of segments that the journal no longer has, and what was cut short long ago.
fn clear(folder: &Path, wanted: &HashSet<PathBuf>) -> Result<(), MirrorError> {
    let copied = |path: &Path| {
        let path = path.to_owned();
        move |source| MirrorError::Copy { path: path.clone(), source }
    };
    let list = |folder: &Path| -> Result<Vec<PathBuf>, MirrorError> {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(folder).map_err(copied(folder))?;
        entries.map(|entry| Ok(entry.map_err(copied(folder))?.path())).collect()
    };
    for date in list(folder)?.iter().map(|kind| list(kind)).collect::<Result<Vec<_>, _>>()?.concat() {
        for path in list(&date)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let modified = path.metadata().and_then(|metadata| metadata.modified()).map_err(copied(&path))?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if !wanted.contains(&path) && (!name.starts_with('.') || age > LEFT_BEHIND) {
                fs::remove_file(&path).map_err(copied(&path))?;
            }
        }
    }
    Ok(())
}

//! Sending closed segments to an object store, and dropping their copies here when they have been there for long enough.
//!
//! A segment's names and bytes follow from its range, so that sending it again puts the same objects over their like: each
//! is there once in effect, whatever was interrupted. A segment's manifest is put after its files, so that a reader that
//! lists manifests first finds every file that they name. What was sent is noted in `<journal>/.sent/<kind>/<name>.json`
//! after the manifest is there; only then may the copies here go. What leaves the journal otherwise (compaction, for one)
//! is taken back from the store, after what takes its place was sent.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use slated_contract::event::{
    Decision, Digesting, Event, Feedback, ManifestFile, RouteChange, SegmentError, SegmentManifest, manifests,
};
use slated_trainer::dataset::RemoteJournal;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

use super::segment::{Changing, appear, remove};
use super::{JournalError, JournalSettings};

/// How often the journal is looked at without being told to.
const EVERY: Duration = Duration::from_secs(30);
/// After a failure, how soon it is tried again; twice as long after each further one, up to [`SLOWEST`]. The store's client
/// repeats single requests by itself before that.
const SOONEST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(60);
/// How long a service that stops goes on sending.
const LAST: Duration = Duration::from_secs(10);
const SENT: &str = ".sent";

/// Whether a segment is in the object store.
pub fn was_sent(journal: &Path, kind: &str, name: &str) -> bool {
    marker(journal, kind, name).exists()
}

fn marker(journal: &Path, kind: &str, name: &str) -> PathBuf {
    journal.join(SENT).join(kind).join(format!("{name}.json"))
}

/// Whether these are the bytes that a manifest says of a file.
pub fn is_as_written(file: &ManifestFile, content: &[u8]) -> bool {
    let mut digest = Digesting::new(io::sink());
    // A sink takes everything.
    digest.write_all(content).is_ok() && digest.finish().1 == (file.bytes, file.xxh3.clone())
}

/// The key of a path in the journal.
pub fn key(remote: &RemoteJournal, path: &str) -> Key {
    path.split('/').fold(remote.prefix.clone(), |key, part| key.join(part))
}

/// Why a segment could not be sent.
#[derive(Debug, Error)]
pub enum UploadError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{url}, object {key}: {source}")]
    Store { url: String, key: Key, source: object_store::Error },
    #[error("journal segment {0} is not as it was written; `slated journal check` says more")]
    Damaged(PathBuf),
}

/// What has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When all of it was there.
    at: DateTime<Utc>,
    /// Whether the copies here are no longer needed.
    pub dropped: bool,
    manifest: SegmentManifest,
}

impl Sent {
    /// What is noted of a segment. A note that does not read is none, as far as is known: sending again does no harm.
    pub fn of(journal: &Path, kind: &str, name: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(marker(journal, kind, name)).ok()?).ok()
    }

    /// Removes the copies here of what was sent; the manifest first, so that no reader takes them for missing, and the note
    /// that they may go last.
    pub fn drop_copies(&self, journal: &Path) -> Result<(), SegmentError> {
        remove(&journal.join(self.manifest.path()))?;
        self.manifest.files.iter().try_for_each(|file| remove(&journal.join(&file.path)))?;
        remove(&marker(journal, &self.manifest.kind, &self.manifest.name))
    }
}

/// Told when it is done.
type Stop = oneshot::Sender<()>;

/// The handle of the sending thread.
pub struct Uploader {
    look: Arc<Notify>,
    stop: mpsc::UnboundedSender<Stop>,
}

impl Uploader {
    /// Starts the thread, where the settings name a store.
    pub fn start(settings: &JournalSettings, changing: Changing) -> Result<Option<Self>, JournalError> {
        let Some(url) = &settings.upload_to else { return Ok(None) };
        let remote = RemoteJournal::at(url).map_err(|error| JournalError::UploadTo(Box::new(error)))?;
        let keep = settings.keep_local_days.map(|days| TimeDelta::days(i64::from(days)));
        let upload = Upload { journal: settings.folder.clone(), remote, keep, changing, told: RefCell::default() };
        let (look, (stop, stopped)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
        let told = Arc::clone(&look);
        let failed = |error: io::Error| JournalError::Write(format!("cannot start the thread that sends it: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        thread::Builder::new()
            .name("journal-upload".to_owned())
            .spawn(move || runtime.block_on(work(&upload, &told, stopped)))
            .map_err(failed)?;
        Ok(Some(Self { look, stop }))
    }

    /// Says that there may be something to send.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Sends what there is, for [`LAST`] at most, and ends the thread.
    pub async fn stop(&self) {
        let (stop, stopped) = oneshot::channel();
        if self.stop.send(stop).is_ok() {
            // An error means that the thread has ended already.
            let _ = stopped.await;
        }
    }
}

/// Sends until it is told to stop, or the journal is dropped.
async fn work(upload: &Upload, look: &Notify, mut stopped: mpsc::UnboundedReceiver<Stop>) {
    let mut pause = SOONEST;
    let stop = loop {
        let sent = tokio::select! {
            sent = upload.all() => sent,
            stop = stopped.recv() => break stop,
        };
        let next = async {
            match sent {
                Ok(()) => {
                    pause = SOONEST;
                    // Passing the time and being told are both reasons to look.
                    let _ = tokio::time::timeout(EVERY, look.notified()).await;
                }
                Err(error) => {
                    metrics::counter!("slated_journal_upload_failures_total").increment(1);
                    tracing::warn!(%error, again_in = pause.as_secs(), "closed segments were not sent");
                    // Only time helps, not another segment.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOWEST);
                }
            }
        };
        tokio::select! {
            () = next => {}
            stop = stopped.recv() => break stop,
        }
    };
    let last = tokio::time::timeout(LAST, upload.all()).await;
    if !matches!(last, Ok(Ok(()))) {
        tracing::warn!("some closed segments have not been sent; the next start sends them");
    }
    if let Some(stop) = stop {
        // Whoever asked may be gone.
        let _ = stop.send(());
    }
}

struct Upload {
    journal: PathBuf,
    remote: RemoteJournal,
    /// How long the copies here stay after they were sent; forever where absent.
    keep: Option<TimeDelta>,
    changing: Changing,
    /// The manifests of segments that were told to be damaged.
    told: RefCell<BTreeSet<String>>,
}

impl Upload {
    /// Sends what is new, takes back what has left the journal, and drops what has been sent for long enough.
    async fn all(&self) -> Result<(), UploadError> {
        let here = self.here()?;
        let mut sent = self.sent()?;
        let mut unsent: Vec<&SegmentManifest> = here
            .values()
            .filter(|manifest| sent.get(&manifest.path()).map(|sent| &sent.manifest) != Some(manifest))
            .collect();
        unsent.retain(|manifest| !sent.get(&manifest.path()).is_some_and(|sent| sent.dropped));
        let gauge = metrics::gauge!("slated_journal_unsent_segments");
        gauge.set(unsent.len() as f64);
        for manifest in unsent {
            let before = sent.get(&manifest.path()).map(|sent| &sent.manifest);
            match self.send(manifest, before).await {
                Ok(noted) => {
                    sent.insert(manifest.path(), noted);
                    gauge.decrement(1.0);
                    metrics::counter!("slated_journal_sent_segments_total", "kind" => manifest.kind.clone())
                        .increment(1);
                }
                // One that is damaged does not hold up the others, and is told once.
                Err(error @ (UploadError::Damaged(_) | UploadError::File { .. })) => {
                    if self.told.borrow_mut().insert(manifest.path()) {
                        tracing::error!(%error, segment = manifest.name, "a closed segment cannot be sent");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        for (path, noted) in &sent {
            if noted.dropped || self.keep.is_some_and(|keep| Utc::now() - noted.at >= keep) {
                self.drop_copies(noted)?;
            }
            if !here.contains_key(path) && self.has_left(noted) {
                self.take_back(path, noted).await?;
            }
        }
        Ok(())
    }

    /// The manifests of the journal, by their path.
    fn here(&self) -> Result<BTreeMap<String, SegmentManifest>, UploadError> {
        let of_kinds = [
            manifests::<Decision>(&self.journal)?,
            manifests::<Feedback>(&self.journal)?,
            manifests::<RouteChange>(&self.journal)?,
        ];
        Ok(of_kinds.into_iter().flatten().map(|manifest| (manifest.path(), manifest)).collect())
    }

    /// What was sent, by the path of its manifest.
    fn sent(&self) -> Result<BTreeMap<String, Sent>, UploadError> {
        let mut sent = BTreeMap::new();
        for kind in [Decision::KIND, Feedback::KIND, RouteChange::KIND] {
            let folder = self.journal.join(SENT).join(kind);
            if !folder.exists() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(at(&folder))? {
                let path = entry.map_err(at(&folder))?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                let bytes = fs::read(&path).map_err(at(&path))?;
                // One that does not read has not been sent, as far as is known; sending it again does no harm.
                if let Ok(noted) = serde_json::from_slice::<Sent>(&bytes) {
                    sent.insert(noted.manifest.path(), noted);
                }
            }
        }
        Ok(sent)
    }

    /// Puts the files of a segment, then its manifest, and notes that. Files that it had when it was sent `before`, and no
    /// longer has, are removed.
    async fn send(&self, manifest: &SegmentManifest, before: Option<&SegmentManifest>) -> Result<Sent, UploadError> {
        let contents = manifest.files.iter().map(|file| self.read(file)).collect::<Result<Vec<_>, _>>()?;
        for (file, content) in manifest.files.iter().zip(contents) {
            self.put(&file.path, content).await?;
        }
        let path = self.journal.join(manifest.path());
        self.put(&manifest.path(), manifest.to_bytes().map_err(|error| at(&path)(error.into()))?).await?;
        for gone in before.into_iter().flat_map(|before| &before.files) {
            if manifest.files.iter().all(|file| file.path != gone.path) {
                self.delete(&gone.path).await?;
            }
        }
        let noted = Sent { at: Utc::now(), dropped: false, manifest: manifest.clone() };
        self.note(&noted)?;
        tracing::debug!(segment = manifest.name, kind = manifest.kind, "sent");
        Ok(noted)
    }

    /// The bytes of a file, if they are those that were written.
    fn read(&self, file: &ManifestFile) -> Result<Vec<u8>, UploadError> {
        let path = self.journal.join(&file.path);
        let content = fs::read(&path).map_err(at(&path))?;
        if is_as_written(file, &content) { Ok(content) } else { Err(UploadError::Damaged(path)) }
    }

    async fn put(&self, path: &str, content: Vec<u8>) -> Result<(), UploadError> {
        let key = key(&self.remote, path);
        let put = self.remote.store.put(&key, PutPayload::from(content)).await;
        put.map(drop).map_err(|source| UploadError::Store { url: self.remote.url.clone(), key, source })
    }

    /// Whether a segment is no longer in the journal, and not because its copies here were dropped.
    fn has_left(&self, noted: &Sent) -> bool {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let SegmentManifest { kind, name, .. } = &noted.manifest;
        let is_here = self.journal.join(noted.manifest.path()).exists();
        !is_here && Sent::of(&self.journal, kind, name).is_some_and(|sent| !sent.dropped)
    }

    /// Removes the objects of a segment that is no longer in the journal; its manifest first, so that no reader misses
    /// files that a manifest names.
    async fn take_back(&self, path: &str, noted: &Sent) -> Result<(), UploadError> {
        let files = noted.manifest.files.iter().map(|file| file.path.as_str());
        for path in std::iter::once(path).chain(files) {
            self.delete(path).await?;
        }
        Ok(remove(&marker(&self.journal, &noted.manifest.kind, &noted.manifest.name))?)
    }

    async fn delete(&self, path: &str) -> Result<(), UploadError> {
        let key = key(&self.remote, path);
        match self.remote.store.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(UploadError::Store { url: self.remote.url.clone(), key, source }),
        }
    }

    /// Removes the copies here of what was sent, unless they have been changed since or have left the journal.
    fn drop_copies(&self, noted: &Sent) -> Result<(), UploadError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.dropped {
            let path = self.journal.join(noted.manifest.path());
            let now = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<SegmentManifest>(&bytes).ok());
            if now.as_ref() != Some(&noted.manifest) {
                return Ok(());
            }
            self.note(&Sent { dropped: true, ..noted.clone() })?;
        }
        Ok(noted.drop_copies(&self.journal)?)
    }

    fn note(&self, sent: &Sent) -> Result<(), UploadError> {
        let path = marker(&self.journal, &sent.manifest.kind, &sent.manifest.name);
        let bytes = serde_json::to_vec_pretty(sent).map_err(|error| at(&path)(error.into()))?;
        appear(&path, |file| file.write_all(&bytes).map_err(at(&path)))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> UploadError + '_ {
    |source| UploadError::File { path: path.to_owned(), source }
}

//! Segments that are in the object store alone, because their copies here were dropped: bringing back those that must be
//! changed. Once they are here they are segments like any other, which the uploader sends anew and drops again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use slated_contract::event::{Event, MANIFESTS, ManifestFile, SegmentError, SegmentManifest};
use slated_trainer::dataset::RemoteJournal;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::JournalError;
use super::segment::{appear, write_manifest};
use super::upload::{Sent, is_as_written, key};

/// Where segments are put until it is known whether they are wanted.
const FETCHED: &str = ".fetched";

/// A segment that cannot be brought back.
#[derive(Debug, Error)]
pub enum ElsewhereError {
    /// The store.
    #[error("{url}: {source}")]
    Store {
        /// Its address.
        url: String,
        /// Why.
        source: object_store::Error,
    },
    /// An object that is not what was sent.
    #[error("{url}, object {path}: {reason}")]
    Object {
        /// The store's address.
        url: String,
        /// The object's path in the journal.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What of a journal is in an object store.
pub struct Elsewhere<'a> {
    journal: &'a Path,
    remote: RemoteJournal,
    runtime: Runtime,
}

impl<'a> Elsewhere<'a> {
    /// The part of a journal that is at this address; nothing is asked of it yet.
    pub fn open(journal: &'a Path, url: &str) -> Result<Self, JournalError> {
        let remote = RemoteJournal::at(url).map_err(|error| JournalError::UploadTo(Box::new(error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(at(journal))?;
        Ok(Self { journal, remote, runtime })
    }

    /// Brings back every segment of a kind of which a file `holds` what is looked for, unless it is here already. Replicas that
    /// send to the same address are one journal there, so theirs are looked at as well.
    pub fn bring_back<E: Event>(
        &self,
        holds: impl Fn(&Path) -> Result<bool, SegmentError>,
    ) -> Result<(), JournalError> {
        for name in self.runtime.block_on(self.names(E::KIND))? {
            let sent = Sent::of(self.journal, E::KIND, &name);
            if let Some(sent) = &sent
                && sent.dropped
            {
                // A crash cut it short; what is left of the copies would be taken for the segment.
                sent.drop_copies(self.journal)?;
            } else if sent.is_some() || self.journal.join(manifest_path(E::KIND, &name)).exists() {
                // It is here, or it has left the journal and the store is yet to be told.
                continue;
            }
            self.bring_back_one(E::KIND, &name, &holds)?;
        }
        Ok(())
    }

    fn bring_back_one(
        &self,
        kind: &str,
        name: &str,
        holds: impl Fn(&Path) -> Result<bool, SegmentError>,
    ) -> Result<(), JournalError> {
        let fetched = self.journal.join(FETCHED);
        if fetched.exists() {
            fs::remove_dir_all(&fetched).map_err(at(&fetched))?;
        }
        let path = manifest_path(kind, name);
        let manifest: SegmentManifest = serde_json::from_slice(&self.get(&path)?)
            .map_err(|error| self.wrong(&path, format!("is no manifest: {error}")))?;
        let mut wanted = false;
        for file in &manifest.files {
            let path = fetched.join(&file.path);
            let content = self.get(&file.path)?;
            if !is_as_written(file, &content) {
                return Err(self.wrong(&file.path, "is not as it was sent".to_owned()).into());
            }
            appear(&path, |to| to.write_all(&content).map_err(|error| SegmentError::at(&path)(error.to_string())))?;
            wanted |= holds(&path)?;
        }
        if wanted {
            for ManifestFile { path, .. } in &manifest.files {
                let place = self.journal.join(path);
                let folder = place.parent().unwrap_or(self.journal);
                fs::create_dir_all(folder).map_err(at(folder))?;
                fs::rename(fetched.join(path), &place).map_err(at(&place))?;
            }
            write_manifest(self.journal, &manifest)?;
            tracing::info!(kind, segment = name, "brought back from the object store, to be changed");
        }
        fs::remove_dir_all(&fetched).map_err(at(&fetched))?;
        Ok(())
    }

    /// The names of the segments of a kind.
    async fn names(&self, kind: &str) -> Result<Vec<String>, ElsewhereError> {
        let under = key(&self.remote, &format!("{MANIFESTS}/{kind}"));
        let failed = |source| ElsewhereError::Store { url: self.remote.url.clone(), source };
        let objects: Vec<_> = self.remote.store.list(Some(&under)).try_collect().await.map_err(failed)?;
        let name =
            |object: object_store::ObjectMeta| Some(object.location.filename()?.strip_suffix(".json")?.to_owned());
        Ok(objects.into_iter().filter_map(name).collect())
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, ElsewhereError> {
        let key = key(&self.remote, path);
        let content = self.runtime.block_on(async { self.remote.store.get(&key).await?.bytes().await });
        content.map(Into::into).map_err(|source| ElsewhereError::Store { url: self.remote.url.clone(), source })
    }

    fn wrong(&self, path: &str, reason: String) -> ElsewhereError {
        ElsewhereError::Object { url: self.remote.url.clone(), path: path.to_owned(), reason }
    }
}

fn manifest_path(kind: &str, name: &str) -> String {
    SegmentManifest { kind: kind.to_owned(), name: name.to_owned(), files: Vec::new() }.path()
}

fn at(path: &Path) -> impl Fn(io::Error) -> ElsewhereError + '_ {
    |source| ElsewhereError::File { path: path.to_owned(), source }
}

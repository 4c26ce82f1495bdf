//! The interaction journal: append-only, and acknowledged means kept.
//!
//! An event goes first into the durable tail, a [log], where a group commit makes it survive the process before it is
//! acknowledged. Closed segments are Parquet files that anything can read. Events
//! are never rewritten; what may become of the segments they are in is in [`upkeep`].

mod acknowledged;
mod check;
mod columns;
pub mod dsjson;
mod elsewhere;
pub mod exchange;
pub mod import;
mod log;
mod omit;
mod recent;
mod salvage;
mod sealer;
mod segment;
mod settings;
pub mod simulated;
pub mod stats;
mod store;
mod syncer;
mod tail;
pub mod upkeep;
mod upload;
mod users;
pub mod verify;
mod writer;

pub use check::{JournalCheck, check};
pub use omit::OmittedFeature;
pub use recent::{Head, Recent, Wanted};
pub use segment::{SegmentFile, write_segment};
pub use settings::{Durability, JournalSettings, OnFailure};
pub use store::TailStats;
pub use tail::{LostEvents, lost_events};
pub use users::{KeyError, KeySource, UserKey};
pub use writer::{Appended, IdFrom};

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use slated_contract::event::{Decision, Event, Feedback, RouteChange, SegmentError};
use slated_trainer::dataset::{MirrorError, is_url};
use thiserror::Error;

use elsewhere::{Elsewhere, ElsewhereError};
use omit::omit;
use sealer::Sealer;
use segment::Changing;
use store::Store;
use syncer::Syncer;
use tail::Tail;
use upkeep::{CompactionReport, Forgetting, ForgotEvents, Retention, RetentionReport};
use upload::Uploader;
use writer::{Entry, Writer};

/// A journal that cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("journal {0}: another process has it open; a journal has one writer, give each service its own folder")]
    Locked(PathBuf),
    /// An object store cannot be appended to.
    #[error(
        "`journal.folder` is {0}; a service journals into a folder, and `journal.upload_to` sends closed segments there"
    )]
    Remote(PathBuf),
    /// The object store that closed segments are to be sent to.
    #[error("`journal.upload_to`: {0}")]
    UploadTo(Box<MirrorError>),
    /// Segments that are in the object store alone, and were to be changed.
    #[error("segments in the object store: {0}; nothing was changed yet, try again")]
    Elsewhere(#[from] ElsewhereError),
    /// The durable tail.
    #[error("journal {folder}: {reason}")]
    Tail {
        /// The journal's folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// A segment file.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The key under which users are hashed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// As many events wait as may.
    #[error("the journal's queue is full ({queued} requests wait to be written)")]
    Busy {
        /// How many wait.
        queued: usize,
    },
    /// Writing failed; the events were not accepted.
    #[error("the journal cannot be written: {0}")]
    Write(String),
    /// An event that cannot be stored, which would be a defect.
    #[error("an event cannot be encoded: {0}")]
    Encode(String),
    /// It is set to keep nothing.
    #[error("`journal.durability` is `none`: decisions and feedback are not kept")]
    Off,
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

/// An open journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    tail: Arc<Tail>,
    writer: Arc<Writer>,
    sealer: Arc<Sealer>,
    uploader: Option<Arc<Uploader>>,
    off: bool,
    users: Option<Arc<UserKey>>,
    omitted: Arc<[OmittedFeature]>,
    /// The object store in which segments may be that are no longer kept here.
    elsewhere: Option<String>,
    _syncer: Arc<Syncer>,
}

impl Journal {
    /// Opens the journal in the settings' folder, creating it where absent, and finishes what a crash left undone.
    ///
    /// # Errors
    /// A folder that another process has open, or that cannot be read or written.
    pub fn open(settings: &JournalSettings) -> Result<Self, JournalError> {
        if is_url(&settings.folder) {
            return Err(JournalError::Remote(settings.folder.clone()));
        }
        let users = settings.hash_users.as_ref().map(UserKey::read).transpose()?.map(Arc::new);
        let tail = Arc::new(Tail::open(settings)?);
        upkeep::recover(&tail)?;
        sealer::recover(&tail)?;
        let writer = Arc::new(Writer::start(Arc::clone(&tail), settings)?);
        let changing = Changing::default();
        let uploader = Uploader::start(settings, Arc::clone(&changing))?.map(Arc::new);
        let sealed = uploader.clone();
        let on_sealed = move || sealed.iter().for_each(|uploader| uploader.look());
        let sealer = Arc::new(Sealer::start(Arc::clone(&tail), settings, changing, on_sealed)?);
        let syncer = Arc::new(Syncer::start(&tail, settings)?);
        Ok(Self {
            tail,
            writer,
            sealer,
            uploader,
            users,
            omitted: settings.omit_features.clone().into(),
            elsewhere: settings.upload_to.clone(),
            _syncer: syncer,
            off: settings.durability == Durability::None,
        })
    }

    /// A decision as it is journalled: with the user hashed and without the features that are omitted, where the settings
    /// say so.
    #[must_use]
    pub fn as_journalled<'a>(&self, decision: &'a Decision) -> Cow<'a, Decision> {
        if self.users.is_none() && self.omitted.is_empty() {
            return Cow::Borrowed(decision);
        }
        let mut decision = decision.clone();
        if let (Some(key), Some(user)) = (&self.users, &mut decision.user_id) {
            *user = key.hash(user);
        }
        omit(&mut decision, &self.omitted);
        Cow::Owned(decision)
    }

    /// Appends decisions with feedback about them, in one commit: all that are new or nothing. They are kept once this returns.
    /// The outcomes are those of the decisions.
    ///
    /// # Errors
    /// A full queue, at once; a failure to write. The events were then not accepted.
    pub async fn append_decisions<'a>(
        &self,
        decisions: impl IntoIterator<Item = (&'a Decision, IdFrom)>,
        feedback: &[Feedback],
    ) -> Result<Vec<Appended>, JournalError> {
        if self.off {
            return Err(JournalError::Off);
        }
        let mut entries = Vec::new();
        for (decision, id_from) in decisions {
            entries.push(Entry::new(self.as_journalled(decision).as_ref(), id_from)?);
        }
        let count = entries.len();
        for feedback in feedback {
            entries.push(Entry::new(feedback, IdFrom::Sender)?);
        }
        let mut outcomes = self.writer.append(entries).await?;
        outcomes.truncate(count);
        Ok(outcomes)
    }

    /// Appends a change of a route; it is kept once this returns.
    ///
    /// # Errors
    /// As for [`Journal::append_decisions`].
    pub async fn append_change(&self, change: &RouteChange) -> Result<(), JournalError> {
        self.writer.append(vec![Entry::new(change, IdFrom::Sender)?]).await.map(drop)
    }

    /// Appends feedback, all of it or none; it is kept once this returns. The outcomes are in the order of the events.
    ///
    /// # Errors
    /// As for [`Journal::append_decisions`].
    pub async fn append_feedback(&self, feedback: &[Feedback]) -> Result<Vec<Appended>, JournalError> {
        if self.off {
            return Err(JournalError::Off);
        }
        if feedback.is_empty() {
            return Ok(Vec::new());
        }
        self.writer
            .append(feedback.iter().map(|event| Entry::new(event, IdFrom::Sender)).collect::<Result<_, _>>()?)
            .await
    }

    /// A decision by its id, from the tail or a segment that this journal closed; blocking.
    ///
    /// # Errors
    /// A tail or segment that cannot be read.
    pub fn decision(&self, id: &str) -> Result<Option<Decision>, JournalError> {
        let Some(sequence) = self.tail.read(|store| store.sequence_of::<Decision>(id))? else { return Ok(None) };
        // Sealing may move the event from the tail to a segment between two looks, never the other way.
        if let Some(decision) = self.tail.read(|store| store.event::<Decision>(sequence))? {
            return Ok(Some(decision));
        }
        for path in self.tail.read(|store| store.segment_of::<Decision>(sequence))? {
            // Sent to an object store, and no longer kept here.
            if !path.exists() {
                continue;
            }
            if let Some(decision) = segment::find::<Decision>(&path, id)? {
                return Ok(Some(decision));
            }
        }
        Ok(None)
    }

    /// Whether a decision of this id was journalled; known for `journal.id_days`. Blocking, and brief.
    ///
    /// # Errors
    /// A tail that cannot be read.
    pub fn knows_decision(&self, id: &str) -> Result<bool, JournalError> {
        Ok(self.tail.read(|store| store.sequence_of::<Decision>(id))?.is_some())
    }

    /// The ids of decisions that begin with `prefix`, in order; known for `journal.id_days`. Blocking.
    ///
    /// # Errors
    /// A tail that cannot be read.
    pub fn decision_ids_with(&self, prefix: &str) -> Result<Vec<String>, JournalError> {
        self.tail.read(|store| store.ids_with::<Decision>(prefix))
    }

    /// The events of a kind from `from` on, as far as they were acknowledged before this call; blocking.
    ///
    /// # Errors
    /// A tail or segment that cannot be read.
    pub fn recent<E: Event>(&self, from: DateTime<Utc>) -> Result<Recent<E>, JournalError> {
        Recent::open(&self.tail, from)
    }

    /// The id of this journal, part of every segment's name.
    #[must_use]
    pub fn writer_id(&self) -> &str {
        self.tail.writer()
    }

    /// Closes everything that was acknowledged before this call into Parquet.
    ///
    /// # Errors
    /// A segment that cannot be written; its events stay in the tail.
    pub async fn seal(&self) -> Result<Vec<SegmentFile>, JournalError> {
        self.sealer.seal().await
    }

    /// Closes what is in the tail, then removes a person's decisions, and the feedback about them, from every closed
    /// segment, and records that it was done. The ids of what was removed stay known, so that none is taken again. Segments
    /// that are in the object store alone are brought back first, where they hold such events, and sent anew afterwards.
    ///
    /// # Errors
    /// A segment that cannot be read or written, a store that does not answer; repeating it goes on where it ended.
    pub async fn forget(&self, user_id: &str, forgetting: Forgetting) -> Result<ForgotEvents, JournalError> {
        self.seal().await?;
        // As it stands from before users were hashed, and as it does since.
        let names: Vec<String> =
            std::iter::once(user_id.to_owned()).chain(self.users.as_ref().map(|key| key.hash(user_id))).collect();
        let elsewhere = self.elsewhere.clone();
        let forget = move |tail: &Tail| {
            let elsewhere = elsewhere.map(|url| Elsewhere::open(tail.folder(), &url)).transpose()?;
            upkeep::forget(tail.folder(), elsewhere.as_ref(), &names, &forgetting)
        };
        self.sealer.run(forget).await
    }

    /// Puts the closed segments of each date together, `most` events in one at most.
    ///
    /// # Errors
    /// A segment that cannot be read or written; the next opening of the journal finishes what was begun.
    pub async fn compact(&self, most: usize) -> Result<CompactionReport, JournalError> {
        // A closing that failed half-way would be repeated, and put again what was put together meanwhile.
        self.seal().await?;
        self.sealer.run(move |tail| upkeep::compact(tail, most)).await
    }

    /// Removes closed segments that are too old or too much; with `dry` it only says which.
    ///
    /// # Errors
    /// A segment that cannot be removed.
    pub async fn retain(&self, retention: Retention, dry: bool) -> Result<RetentionReport, JournalError> {
        let today = chrono::Utc::now().date_naive();
        self.sealer.run(move |tail| Ok(upkeep::retain(tail.folder(), &retention, today, dry)?)).await
    }

    /// The key under which users are hashed, where they are.
    #[must_use]
    pub fn users(&self) -> Option<Arc<UserKey>> {
        self.users.clone()
    }

    /// Whether events can be written.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), JournalError> {
        self.writer.health()?;
        self.sealer.health()
    }

    /// What is in the tail and what waits to get there.
    #[must_use]
    pub fn stats(&self) -> TailStats {
        self.tail.stats()
    }

    /// Sets the gauges that only make sense at the moment they are read.
    pub fn report_metrics(&self) {
        let stats = self.stats();
        metrics::gauge!("slated_journal_queue_depth").set(self.writer.queued() as f64);
        self.report_tail::<Decision>(stats.decisions);
        self.report_tail::<Feedback>(stats.feedback);
        self.report_tail::<RouteChange>(stats.changes);
    }

    fn report_tail<E: Event>(&self, events: u64) {
        metrics::gauge!("slated_journal_tail_events", "kind" => E::KIND).set(events as f64);
        // A tail that cannot be read is told by `/readyz`.
        let oldest = self.tail.read(Store::oldest::<E>).ok().flatten();
        let lag = oldest.map_or(0.0, |time| (Utc::now() - time).as_seconds_f64().max(0.0));
        metrics::gauge!("slated_journal_lag_seconds", "kind" => E::KIND).set(lag);
    }

    /// Writes what is queued, closes the last segments where the settings say so, sends what is to be sent as far as the
    /// store takes it at once, and syncs to disk.
    ///
    /// # Errors
    /// Segments that cannot be written; their events stay in the tail, for the next start.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.writer.stop().await;
        self.sealer.stop().await?;
        if let Some(uploader) = &self.uploader {
            uploader.stop().await;
        }
        self.tail.write(Store::sync)
    }
}

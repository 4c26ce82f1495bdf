//! Sessions from the journal, as they were when the process ended.
//!
//! Two passes. The first goes back in time over a few columns of the decisions until every session that may still be
//! alive has begun, or [`SessionStoreSettings::rebuild_seconds`] are over. The second goes forward again and puts those
//! sessions' events through the same code that served them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use slated_contract::event::{Decision, Feedback};
use slated_contract::feature::Encoder;
use slated_contract::policy::{Bundle, read_manifest, versions};
use xxhash_rust::xxh3::Xxh3;

use super::embedded::Embedded;
use super::key::SessionKind;
use super::settings::SessionStoreSettings;
use super::slate::{Encoded, ShownSlate};
use super::timeline::SETTLED_AFTER;
use crate::journal::{Head, Journal, JournalError, Recent, Wanted};

/// How much of the journal is in memory at a time.
const SLICE: TimeDelta = TimeDelta::minutes(10);
/// What wrote the decisions that count.
const SOURCE: &str = "service";

/// What was rebuilt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rebuilt {
    /// Sessions.
    pub sessions: u64,
    /// Those of them that may have begun before the journal was read.
    pub cut: u64,
    /// Decisions.
    pub decisions: u64,
    /// Feedback events on them.
    pub feedback: u64,
    /// Decisions of policy versions whose bundle is gone, is another one, or reads no session any more.
    pub unknown: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Rebuilds the sessions that are alive at `now` into an empty store; blocking.
///
/// # Errors
/// A tail that cannot be read. Segments that cannot are passed over.
pub fn rebuild(
    journal: &Journal,
    models: &Path,
    settings: &SessionStoreSettings,
    store: &Embedded,
    now: DateTime<Utc>,
) -> Result<Rebuilt, JournalError> {
    let started = Instant::now();
    let seconds = |seconds: u64| TimeDelta::seconds(seconds.min(1 << 40).cast_signed());
    let earliest = now - seconds(settings.rebuild_seconds);
    let idle = seconds(settings.idle_seconds);
    let decisions = journal.recent::<Decision>(earliest)?;
    let feedback = journal.recent::<Feedback>(earliest)?;
    // Decided a moment ahead, by another replica's clock.
    let until = now + SETTLED_AFTER;
    let mut kinds = Kinds { models, known: HashMap::new(), read_sessions: HashMap::new() };
    let begins = Arc::new(begins(&decisions, &mut kinds, earliest, until, idle));
    let may_be_cut = begins.values().filter(|&&begin| begin - earliest <= idle * 2).count();
    let mut rebuilt = Rebuilt { cut: may_be_cut as u64, ..Rebuilt::default() };
    let Some(mut from) = begins.values().min().copied() else { return Ok(rebuilt) };

    let wanted: Wanted = Arc::new(move |head| {
        session(&head).is_some_and(|session| begins.get(&session).is_some_and(|begin| *begin <= head.time))
    });
    let mut known: HashMap<String, DateTime<Utc>> = HashMap::new();
    let mut current = decisions.decisions(from, from + SLICE, &wanted);
    // As above, a moment before the first of them.
    let mut told = from - SETTLED_AFTER;
    while from < until {
        let to = from + SLICE;
        // Feedback may be there a moment before its decision, so the decisions are known one slice ahead.
        let next = decisions.decisions(to, to + SLICE, &wanted);
        known.retain(|_, decided| *decided >= from - idle);
        known.extend(current.iter().chain(&next).map(|decision| (decision.decision_id.clone(), decision.time)));
        let ids: Arc<HashSet<String>> = Arc::new(known.keys().cloned().collect());
        let responses = feedback.feedback(told, to, &ids);
        rebuilt.feedback += responses.len() as u64;
        rebuilt.decisions += current.len() as u64;
        let mut responses = responses.into_iter().peekable();
        for decision in std::mem::replace(&mut current, next) {
            while let Some(response) = responses.next_if(|response| response.time < decision.time) {
                store.respond(&response);
            }
            match kinds.slate(&decision) {
                Some((slate, kind)) => store.show(&Arc::new(slate), &kind.empty),
                None => rebuilt.unknown += 1,
            }
        }
        responses.for_each(|response| store.respond(&response));
        (from, told) = (to, to);
    }
    rebuilt.sessions = store.held();
    rebuilt.seconds = started.elapsed().as_secs_f64();
    Ok(rebuilt)
}

/// When each session began that may be alive at `until`, by hash; or a little before.
fn begins(
    decisions: &Recent<Decision>,
    kinds: &mut Kinds<'_>,
    earliest: DateTime<Utc>,
    until: DateTime<Utc>,
    idle: TimeDelta,
) -> HashMap<u64, DateTime<Utc>> {
    // Feedback keeps a session alive as a decision does, and comes at most `idle` after its decision.
    let gap = idle.checked_mul(2).unwrap_or(TimeDelta::MAX);
    let mut begins: HashMap<u64, DateTime<Utc>> = HashMap::new();
    let mut to = until;
    while to > earliest {
        let from = (to - SLICE).max(earliest);
        let mut seen: Vec<(DateTime<Utc>, u64)> = Vec::new();
        decisions.heads(from, to, |head| {
            let session = session(&head).filter(|_| kinds.reads_sessions(head.policy));
            seen.extend(session.map(|session| (head.time, session)));
        });
        seen.sort_unstable();
        for (time, session) in seen.into_iter().rev() {
            let begin = begins.get(&session).copied();
            if begin.unwrap_or(until) - time <= gap + SETTLED_AFTER {
                begins.insert(session, time);
            }
        }
        to = from;
        // Nothing that is older can belong to a session that is alive.
        let oldest = begins.values().min().copied().unwrap_or(until);
        if oldest - to > gap + SETTLED_AFTER {
            break;
        }
    }
    begins
}

/// The hash of the session that a decision of this service belongs to.
fn session(head: &Head<'_>) -> Option<u64> {
    let session = head.session_id.or(head.user_id).filter(|_| head.source == SOURCE)?;
    let mut hash = Xxh3::new();
    hash.update(head.policy.as_bytes());
    hash.update(&[0]);
    hash.update(session.as_bytes());
    Some(hash.digest())
}

/// The versions that decided, by the bundles they are still in.
struct Kinds<'a> {
    models: &'a Path,
    known: HashMap<(String, i64), Option<Kind>>,
    /// Whether any version of a policy reads the session.
    read_sessions: HashMap<String, bool>,
}

struct Kind {
    kind: SessionKind,
    encoder: Encoder,
    model_sha256: String,
}

impl Kinds<'_> {
    fn reads_sessions(&mut self, policy: &str) -> bool {
        if let Some(known) = self.read_sessions.get(policy) {
            return *known;
        }
        let read = |version: u64| read_manifest(&self.models.join(policy).join(version.to_string()));
        let versions = versions(self.models, policy).unwrap_or_default();
        let reads = versions.into_iter().any(|version| read(version).is_ok_and(|manifest| manifest.reads_session()));
        self.read_sessions.insert(policy.to_owned(), reads);
        reads
    }

    /// What a decision showed to its session, as the service told it; `None` where its version cannot be asked.
    fn slate(&mut self, decision: &Decision) -> Option<(ShownSlate, &SessionKind)> {
        let version = (decision.policy.clone(), decision.policy_version);
        let read = || {
            let bundle = Bundle::open(self.models, &decision.policy, Some(decision.policy_version.cast_unsigned()));
            let bundle = bundle.inspect_err(|error| tracing::warn!(%error, "sessions of this version are not rebuilt"));
            let Bundle { manifest, encoder, .. } = bundle.ok()?;
            let kind = SessionKind::of(&manifest)?;
            Some(Kind { kind, encoder, model_sha256: manifest.model_sha256 })
        };
        let Kind { kind, encoder, model_sha256 } = self.known.entry(version).or_insert_with(read).as_ref()?;
        if decision.model_sha256.as_ref() != Some(model_sha256) {
            return None;
        }
        let key = kind.key(decision.session_id.as_deref(), decision.user_id.as_deref())?;
        let encode = |item: &String| {
            let candidate = decision.candidates.iter().find(|candidate| candidate.item == *item)?;
            let mut row = Vec::with_capacity(encoder.item_width());
            encoder.encode_item(item, &candidate.features, &mut row).ok()?;
            Some(Encoded::from(&*row))
        };
        let encoded: Option<Vec<Encoded>> = decision.slate.iter().map(|shown| encode(&shown.item)).collect();
        Some((ShownSlate::new(kind, key, decision, &encoded?), kind))
    }
}

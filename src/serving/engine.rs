//! Inline while idle, batches under load: a query that finds a model free runs it at once on its own thread; one that
//! does not waits for a model thread, which takes whatever queries are waiting, and never waits for more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slated_contract::policy::Bundle;
use slated_contract::tensor::Signature;
use thiserror::Error;
use tokio::sync::oneshot;

use super::device::{ActiveDevice, Device};
use super::model::{Batch, Model, ModelError, Output};

/// How models run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// What models run on: `cpu`, `cuda`, `cuda:N`, or `auto`, which takes a GPU where there is one.
    pub device: Device,
    /// Model threads a policy, each with a session of its own.
    pub sessions: usize,
    /// Threads that one run of a model may use.
    pub threads_per_session: usize,
    /// The most rows in one run; a row is a decision, or one posterior draw of it.
    pub max_batch: usize,
    /// How many queries may wait; one more is refused.
    pub queue: usize,
    /// A run expected to take at most so many microseconds is made at once on the request's own thread, where a
    /// session is free; 0 sends every run to a model thread.
    pub inline_below_us: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            device: Device::default(),
            sessions: cores.div_ceil(2),
            threads_per_session: 1,
            max_batch: 32,
            queue: 1024,
            inline_below_us: 1000,
        }
    }
}

/// What one decision asks of the model.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// `[S]`.
    pub state: Vec<f32>,
    /// `[candidates, D]`.
    pub items: Vec<f32>,
    /// How many candidates.
    pub candidates: usize,
    /// `[length, F]`, at most H rows; empty where the model takes no history.
    pub history: Vec<f32>,
    /// `[rows, Z]`; empty where the model takes no noise, and then there is one row.
    pub noise: Vec<f32>,
    /// How many rows of scores to compute: more than one only to draw the posterior again.
    pub rows: usize,
}

/// A query that was not answered.
#[derive(Debug, Error)]
pub enum EngineError {
    /// As many queries wait as may.
    #[error("the model's queue is full ({0} queries are waiting)")]
    Busy(usize),
    /// The model failed on this batch.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The engine was shut down.
    #[error("the model is shutting down")]
    Stopped,
}

/// The running sessions of one policy. Dropping it lets the threads finish what is queued and end.
#[derive(Debug)]
pub struct Engine {
    queue: Sender<Job>,
    models: Vec<Arc<Mutex<Model>>>,
    signature: Signature,
    device: ActiveDevice,
    /// The most rows of one run.
    max_batch: usize,
    /// The most rows of a run on the request's own thread; 0 where even one takes too long.
    inline_rows: usize,
}

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Output, EngineError>>,
}

/// What one run is made of, or a part of it.
#[derive(Debug)]
enum Work {
    /// Goes with the queries that wait beside it.
    Query(Query),
    /// Tensors as a caller put them together; a run of their own.
    Tensors(Batch),
}

impl Engine {
    /// Loads the bundle's model once a session, proves each by the manifest's sample and a warm-up run, and starts the
    /// threads.
    ///
    /// # Errors
    /// A device that cannot be had; a model that does not load, has another signature, or does not reproduce its
    /// sample scores.
    pub fn start(bundle: &Bundle, settings: &EngineSettings) -> Result<Self, ModelError> {
        let signature = bundle.manifest.signature;
        let device = settings.device.choose(bundle)?;
        let (queue, jobs) = crossbeam_channel::bounded(settings.queue.max(1));
        let max_batch = settings.max_batch.max(1);
        let mut models = Vec::new();
        let mut row_time = Duration::ZERO;
        for index in 0..settings.sessions.max(1) {
            let mut model = Model::load(&bundle.model, signature, settings.threads_per_session, device.kind)?;
            if let Some(parity) = &bundle.manifest.parity {
                model.check_parity(parity)?;
            }
            model.warm_up(bundle.manifest.slate.max_size)?;
            // The first run pays for what the runtime prepares lazily; the second shows what a row takes.
            let started = Instant::now();
            model.warm_up(bundle.manifest.slate.max_size)?;
            row_time = row_time.max(started.elapsed());
            let model = Arc::new(Mutex::new(model));
            models.push(Arc::clone(&model));
            let worker = Worker { model, signature, jobs: jobs.clone(), max_batch };
            let name = format!("model-{}-{index}", bundle.manifest.name);
            thread::Builder::new()
                .name(name.chars().take(15).collect())
                .spawn(move || worker.work())
                .map_err(|error| ModelError::Runtime(format!("cannot start a model thread: {error}")))?;
        }
        let inline = Duration::from_micros(settings.inline_below_us);
        let inline_rows = (inline.as_secs_f64() / row_time.as_secs_f64().max(1e-9)) as usize;
        Ok(Self { queue, models, signature, device, max_batch, inline_rows })
    }

    /// What its models run on.
    #[must_use]
    pub const fn device(&self) -> &ActiveDevice {
        &self.device
    }

    /// How many queries wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The model's output for one query, `[rows, candidates]`.
    ///
    /// # Errors
    /// A full queue, at once; a model that fails.
    pub async fn run(&self, query: Query) -> Result<Output, EngineError> {
        // Whoever waits already comes first.
        if query.rows <= self.inline_rows
            && self.queue.is_empty()
            && let Some(mut model) = self.free_model()
        {
            let mut outputs = run(&mut model, std::slice::from_ref(&query), &self.signature)?;
            return outputs.pop().ok_or(EngineError::Stopped);
        }
        self.wait(Work::Query(query)).await
    }

    /// The model's output for tensors as they are, in runs of at most `runtime.max_batch` rows, one after the other, so
    /// that a great batch does not keep the queries of others waiting.
    ///
    /// # Errors
    /// As for [`Engine::run`].
    pub async fn run_tensors(&self, batch: Batch) -> Result<Output, EngineError> {
        let mut whole = Output::default();
        let several = batch.rows > self.max_batch;
        for part in batch.parts(self.max_batch) {
            let own = if part.rows <= self.inline_rows
                && self.queue.is_empty()
                && let Some(mut model) = self.free_model()
            {
                measured(&mut model, part)?
            } else {
                self.wait(Work::Tensors(part)).await?
            };
            whole.scores.extend_from_slice(&own.scores);
            whole.appeal.extend_from_slice(&own.appeal);
            if several {
                // Runs on this thread, one after the other, must not keep what else it carries from going on.
                tokio::task::yield_now().await;
            }
        }
        Ok(whole)
    }

    async fn wait(&self, work: Work) -> Result<Output, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Job { work, answer }).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Busy(self.queue.len()),
            TrySendError::Disconnected(_) => EngineError::Stopped,
        })?;
        answered.await.map_err(|_| EngineError::Stopped)?
    }

    /// A model that no thread is running, if there is one.
    fn free_model(&self) -> Option<MutexGuard<'_, Model>> {
        self.models.iter().find_map(|model| match model.try_lock() {
            Ok(model) => Some(model),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }
}

struct Worker {
    model: Arc<Mutex<Model>>,
    signature: Signature,
    jobs: Receiver<Job>,
    max_batch: usize,
}

impl Worker {
    fn work(self) {
        // What was taken from the queue and does not go with what was taken before it.
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.jobs.recv().ok()) {
            // What arrives while a request's own thread has the model joins the batch.
            let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
            let mut jobs = vec![first];
            let mut rows = jobs[0].work.rows();
            while rows < self.max_batch && jobs[0].work.is_query() {
                let Ok(job) = self.jobs.try_recv() else { break };
                if !job.work.is_query() {
                    next = Some(job);
                    break;
                }
                rows += job.work.rows();
                jobs.push(job);
            }
            // Whoever gave up waiting needs no answer.
            jobs.retain(|job| !job.answer.is_closed());
            answer(&mut model, jobs, &self.signature);
        }
    }
}

impl Work {
    const fn is_query(&self) -> bool {
        matches!(self, Self::Query(_))
    }

    const fn rows(&self) -> usize {
        match self {
            Self::Query(query) => query.rows,
            Self::Tensors(batch) => batch.rows,
        }
    }
}

fn answer(model: &mut Model, jobs: Vec<Job>, signature: &Signature) {
    let (mut queries, mut answers) = (Vec::new(), Vec::new());
    for Job { work, answer } in jobs {
        match work {
            Work::Query(query) => {
                queries.push(query);
                answers.push(answer);
            }
            // A receiver that is gone has timed out, and was told so.
            Work::Tensors(batch) => drop(answer.send(measured(model, batch))),
        }
    }
    if queries.is_empty() {
        return;
    }
    match run(model, &queries, signature) {
        Ok(outputs) => {
            for (output, answer) in outputs.into_iter().zip(answers) {
                let _ = answer.send(Ok(output));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(EngineError::Failed(error.to_string())));
            }
        }
    }
}

/// One run of the model, measured.
fn measured(model: &mut Model, batch: Batch) -> Result<Output, EngineError> {
    metrics::histogram!("slated_model_batch_rows").record(batch.rows as f64);
    let started = Instant::now();
    let result = model.run(batch);
    metrics::histogram!("slated_model_run_seconds").record(started.elapsed().as_secs_f64());
    result.map_err(|error| {
        tracing::error!(%error, "model run failed");
        EngineError::Failed(error.to_string())
    })
}

/// Runs the queries as one batch; their outputs, in order.
fn run(model: &mut Model, queries: &[Query], signature: &Signature) -> Result<Vec<Output>, EngineError> {
    let batch = assemble(queries, signature);
    let width = batch.candidates;
    let output = measured(model, batch)?;
    Ok(cut_apart(&output, width, queries))
}

/// What belongs to each query of a batch that was padded to `width` candidates.
pub(super) fn cut_apart(output: &Output, width: usize, queries: &[Query]) -> Vec<Output> {
    let mut row = 0;
    let own = queries.iter().map(|query| {
        let own =
            Output { scores: cut(&output.scores, row, width, query), appeal: cut(&output.appeal, row, width, query) };
        row += query.rows;
        own
    });
    own.collect()
}

/// Pads the queries to the same number of candidates and lays them one after the other.
pub(super) fn assemble(queries: &[Query], signature: &Signature) -> Batch {
    let candidates = queries.iter().map(|query| query.candidates).max().unwrap_or(0);
    let history_size = signature
        .history
        .map_or(0, |window| window * slated_contract::session::SessionSettings::history_width(signature.item_width));
    let mut batch = Batch { candidates, ..Batch::default() };
    for query in queries {
        for _ in 0..query.rows {
            batch.rows += 1;
            batch.state.extend_from_slice(&query.state);
            batch.items.extend_from_slice(&query.items);
            batch.items.resize(batch.rows * candidates * signature.item_width, 0.0);
            if signature.mask {
                batch.mask.extend((0..candidates).map(|candidate| candidate < query.candidates));
            }
            if let Some(window) = signature.history {
                batch.history.extend_from_slice(&query.history);
                batch.history.resize(batch.rows * history_size, 0.0);
                batch.history_length.push((query.history.len() * window / history_size.max(1)) as i64);
            }
        }
        batch.noise.extend_from_slice(&query.noise);
    }
    batch
}

/// The part of `values` (`[rows, width]`) that belongs to a query whose first row is `row`, without its padding.
fn cut(values: &[f32], row: usize, width: usize, query: &Query) -> Vec<f32> {
    if values.is_empty() {
        return Vec::new();
    }
    let rows = &values[row * width..(row + query.rows) * width];
    rows.chunks_exact(width).flat_map(|row| &row[..query.candidates]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_padded_and_cut_apart_again() {
        let signature = Signature { state_width: 1, item_width: 1, mask: true, noise: Some(2), ..Signature::default() };
        let small = Query {
            state: vec![1.0],
            items: vec![10.0],
            candidates: 1,
            noise: vec![0.1, 0.2],
            rows: 1,
            ..Query::default()
        };
        let large = Query {
            state: vec![2.0],
            items: vec![20.0, 21.0],
            candidates: 2,
            noise: vec![0.3, 0.4, 0.5, 0.6],
            rows: 2,
            ..Query::default()
        };
        let batch = assemble(&[small.clone(), large.clone()], &signature);
        assert_eq!((batch.rows, batch.candidates), (3, 2));
        assert_eq!(batch.state, [1.0, 2.0, 2.0]);
        assert_eq!(batch.items, [10.0, 0.0, 20.0, 21.0, 20.0, 21.0]);
        assert_eq!(batch.mask, [true, false, true, true, true, true]);
        assert_eq!(batch.noise, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        let scores = [1.0, -1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(cut(&scores, 0, 2, &small), [1.0]);
        assert_eq!(cut(&scores, 1, 2, &large), [2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn a_batch_is_cut_by_rows() {
        let batch = Batch {
            rows: 3,
            candidates: 2,
            state: vec![1.0, 2.0, 3.0],
            items: (0..6).map(|item| item as f32).collect(),
            mask: vec![true, false, true, true, false, true],
            noise: (0..9).map(|draw| draw as f32).collect(),
            ..Batch::default()
        };
        let parts: Vec<Batch> = batch.clone().parts(2).collect();
        assert_eq!(parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((&parts[0].state[..], &parts[1].state[..]), (&[1.0, 2.0][..], &[3.0][..]));
        assert_eq!(parts[1].items, [4.0, 5.0]);
        assert_eq!(parts[1].mask, [false, true]);
        assert_eq!(parts[1].noise, [6.0, 7.0, 8.0]);
        assert!(parts.iter().all(|part| part.history.is_empty() && part.candidates == 2));
        assert_eq!(batch.clone().parts(3).collect::<Vec<_>>(), [batch]);
    }
}

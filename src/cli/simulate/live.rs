//! Simulated users of a live service.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slated_trainer::env::{Environment, EnvironmentSettings};
use slated_trainer::rollout::{Episode, episode_seed};

use super::SimulateArgs;
use super::report::{PartName, Run};
use crate::api::{FeedbackResponse, RecommendResponse};
use crate::cli::exit::{BadInput, Unavailable};
use crate::cli::progress::bar;
use crate::client::credentials;
use crate::unique;

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends the users of each policy that the command line names, or of the service's default policy.
pub fn run(url: &str, environment: &EnvironmentSettings, args: &SimulateArgs) -> anyhow::Result<Vec<Run>> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let client = client(url)?;
    let policies: Vec<Option<&str>> =
        if args.policy.is_empty() { vec![None] } else { args.policy.iter().map(|name| Some(name.as_str())).collect() };
    let run = |policy| {
        // Ids of this run alone, so that the service does not take its requests for another run's, sent again.
        let id = unique::by_time().simple().to_string();
        let users = Users { url: url.trim_end_matches('/'), client: &client, environment, policy, id };
        runtime.block_on(users.run(args))
    };
    policies.into_iter().map(run).collect()
}

fn client(url: &str) -> anyhow::Result<Client> {
    let parsed = Url::parse(url).ok().filter(|parsed| ["http", "https"].contains(&parsed.scheme()));
    let Some(parsed) = parsed else {
        bail!(BadInput(format!("--url {url}: it must be an address such as http://127.0.0.1:8080")));
    };
    let is_here = parsed.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
    let client = Client::builder().timeout(TIMEOUT).default_headers(credentials()?);
    // The proxy of the environment is for the outside.
    let client = if is_here { client.no_proxy() } else { client };
    client.build().context("cannot make an HTTP client")
}

/// The users of one run.
struct Users<'a> {
    url: &'a str,
    client: &'a Client,
    environment: &'a EnvironmentSettings,
    policy: Option<&'a str>,
    id: String,
}

impl Users<'_> {
    async fn run(&self, args: &SimulateArgs) -> anyhow::Result<Run> {
        let name = self.policy.unwrap_or("the default policy");
        let done = bar(&format!("running {name}"), Some(args.episodes));
        let play = async |index| {
            let played = self.episode(args.seed, index).await;
            done.inc(1);
            played
        };
        let sessions = stream::iter((0..args.episodes).map(play)).buffered(usize::from(args.users));
        let played: Vec<(Episode, String, i64)> = sessions.try_collect().await?;
        done.finish_and_clear();
        // The service may swap versions meanwhile.
        let mut parts: Vec<PartName> = Vec::new();
        let mut episodes = Vec::new();
        for (mut episode, policy, version) in played {
            let same = |part: &PartName| part.policy == policy && part.version == Some(version);
            episode.part = parts.iter().position(same).unwrap_or_else(|| {
                parts.push(PartName { policy, version: Some(version), share: 0.0 });
                parts.len() - 1
            });
            parts[episode.part].share += 1.0 / args.episodes as f64;
            episodes.push(episode);
        }
        Ok(Run { name: format!("{name} at {}", self.url), parts, episodes, journalled: None })
    }

    /// One session, and the policy and version that decided its first slate.
    async fn episode(&self, seed: u64, index: u64) -> anyhow::Result<(Episode, String, i64)> {
        let mut environment = self.environment.build()?;
        environment.reset(episode_seed(seed, index));
        let session = format!("{}-{index}", self.id);
        let mut episode = Episode { index, ..Episode::default() };
        let mut decider = None;
        loop {
            let decision = format!("{session}-{}", episode.steps);
            let answer: RecommendResponse =
                self.post("/recommend", &self.request(&*environment, &session, &decision)).await?;
            let slate = indices(&*environment, &answer)?;
            let outcome = environment.step(&slate).context("the service's slate cannot be shown")?;
            if let Some(position) = outcome.consumed {
                let response = json!({
                    "feedback_id": format!("{decision}-response"),
                    "decision_id": answer.decision_id,
                    "event": environment.spec().event,
                    "value": outcome.reward,
                    "item": answer.slate[position].item,
                });
                self.post::<FeedbackResponse>("/feedback", &response).await?;
            }
            decider.get_or_insert((answer.policy, answer.policy_version));
            episode.add(&outcome);
            episode.add_latent(&environment.latent());
            if let (true, Some((policy, version))) = (outcome.done, &decider) {
                return Ok((episode, policy.clone(), *version));
            }
        }
    }

    fn request(&self, environment: &dyn Environment, session: &str, decision: &str) -> Value {
        let spec = environment.spec();
        let candidate = |index| json!({"id": environment.item_id(index), "features": environment.item(index)});
        json!({
            "event_id": decision,
            "policy": self.policy,
            "user_id": session,
            "session_id": session,
            "user": environment.user(),
            "candidates": (0..spec.candidates).map(candidate).collect::<Vec<_>>(),
            "slate_size": spec.slate_size,
        })
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let sent = self.client.post(format!("{}{path}", self.url)).json(body).send().await;
        let answer = sent.map_err(|error| Unavailable(format!("{} does not answer: {error}", self.url)))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("{}{path} broke off", self.url))?;
        if status.is_client_error() {
            let name = self.environment.name();
            bail!(BadInput(format!("the service refuses environment `{name}`: {path} answered {status}: {text}")));
        }
        if !status.is_success() {
            bail!(Unavailable(format!("{}{path} answered {status}: {text}", self.url)));
        }
        serde_json::from_str(&text).with_context(|| format!("{}{path} answered {text}", self.url))
    }
}

/// The candidates of an answer's slate.
fn indices(environment: &dyn Environment, answer: &RecommendResponse) -> anyhow::Result<Vec<usize>> {
    let ids: Vec<String> = (0..environment.spec().candidates).map(|index| environment.item_id(index)).collect();
    let index = |item: &str| {
        let known = ids.iter().position(|id| id == item);
        known.with_context(|| format!("the service answered item `{item}`, which was no candidate"))
    };
    answer.slate.iter().map(|shown| index(&shown.item)).collect()
}

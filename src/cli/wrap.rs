//! `slated policy wrap`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use slated_contract::feature::Encoder;
use slated_contract::policy::{
    Algorithm, BundleWriter, FORMAT, Manifest, Origin, check_policy_name, hold, sha256_hex, versions,
};
use slated_contract::slate::Exploration;
use slated_contract::tensor::SCORES;
use slated_trainer::onnx::foreign::{ForeignModel, Layout, Plan, Wishes, adapted};

use super::Global;
use super::exit::BadInput;
use crate::serving::{EngineSettings, LoadedPolicy, library};
use crate::settings::Flag;
use crate::wrap::{InputSetting, Proof, Sample, WrapError, WrapSettings, exploration, prove};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy wrap model.onnx --schema schema.toml --name reranker --samples samples.jsonl
  slated policy wrap model.onnx --schema schema.toml --name reranker --exploration softmax:0.5 \\
      --input X=user+item --output scores=probabilities --column 1

schema.toml says what the model reads; docs/models-from-elsewhere.md lists its keys:
  [features]
  user = [{ name = \"age\", kind = \"numeric\", normalisation = { method = \"standard\", mean = 40.0, deviation = 12.0 } }]
  item = [{ name = \"price\", kind = \"numeric\" }]

A line of samples.jsonl is a request with the scores that the framework gave:
  {\"user\": {\"age\": 41}, \"candidates\": [{\"id\": \"a\", \"features\": {\"price\": 9.5}}], \"scores\": [0.37]}")]
pub struct WrapArgs {
    /// The model, in ONNX; weights in files beside it are taken in.
    model: PathBuf,
    /// What the model reads and how it is called, in TOML; the flags below go over it.
    #[arg(long, value_name = "FILE")]
    schema: PathBuf,
    /// Name of the policy.
    #[arg(long)]
    name: Option<String>,
    /// Its version; one more than the latest where absent.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Requests with the framework's scores, one JSON object a line, which the bundle must reproduce.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// How far a score may be from the framework's, relative to the greatest of its request where that is above 1.
    #[arg(long, value_name = "T", default_value_t = 1e-5)]
    tolerance: f32,
    /// What an input of the model is fed with: state, items, a group or a feature such as item.price, several joined by +.
    #[arg(long = "input", value_name = "NAME=SOURCE", value_parser = input)]
    inputs: Vec<(String, String)>,
    /// Which output of the model is `scores`, or `appeal`.
    #[arg(long = "output", value_name = "scores=NAME", value_parser = output)]
    outputs: Vec<(String, String)>,
    /// Which column of the output is `scores`, from 0; of two classes the second where absent.
    #[arg(long, value_name = "N")]
    column: Option<usize>,
    /// How the model takes candidates: `rows`, one a row, or `lists`, all of a request at once.
    #[arg(long, value_name = "KIND", value_parser = layout)]
    scorer: Option<Layout>,
    /// How the policy explores: greedy, epsilon_greedy:E, softmax:T, inverse_gap_weighting:G, posterior_sampling:DRAWS.
    #[arg(long, value_name = "METHOD", value_parser = exploration)]
    exploration: Option<Exploration>,
    /// The greatest slate.
    #[arg(long, value_name = "N")]
    max_size: Option<usize>,
    /// The most candidates of a request.
    #[arg(long, value_name = "N")]
    max_candidates: Option<usize>,
    /// Hold the version back: it is served where a route names it, and does not go live for being the newest.
    #[arg(long)]
    held: bool,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
}

fn input(text: &str) -> Result<(String, String), String> {
    // A source has no `=`, the name of a tensor may.
    let (name, source) = text.rsplit_once('=').ok_or("must be NAME=SOURCE, such as X=state+items")?;
    Ok((name.to_owned(), source.to_owned()))
}

fn output(text: &str) -> Result<(String, String), String> {
    let (ours, name) = text.split_once('=').ok_or("must be scores=NAME or appeal=NAME")?;
    Ok((ours.to_owned(), name.to_owned()))
}

fn layout(text: &str) -> Result<Layout, String> {
    match text {
        "rows" => Ok(Layout::Rows),
        "lists" => Ok(Layout::Lists),
        _ => Err("allowed are rows and lists".to_owned()),
    }
}

/// Writes a bundle of a model that another framework trained, once it is proven.
pub fn run(global: &Global, args: &WrapArgs) -> anyhow::Result<()> {
    let models = global.start([Flag::given("models.folder", args.models.as_ref())])?.settings.models.folder;
    library::environment()?;
    if !(args.tolerance > 0.0 && args.tolerance <= 0.1) {
        return Err(
            BadInput(format!("`--tolerance` is {}, allowed are numbers above 0 up to 0.1", args.tolerance)).into()
        );
    }
    let settings = settings(args)?;
    let name = settings.name.clone();
    let name =
        name.ok_or_else(|| BadInput("give the policy a name, by `--name` or as `name` in the schema".to_owned()))?;
    check_policy_name(&name).map_err(WrapError::from)?;
    let version = match args.version {
        Some(version) => version,
        None => versions(&models, &name)?.last().map_or(1, |latest| latest + 1),
    };
    let wrapped = wrap(args, &settings, name, version)?;
    let writer = BundleWriter::stage(&models, &wrapped.manifest, &wrapped.model, None).map_err(WrapError::from)?;
    LoadedPolicy::load_folder(&writer.folder(), &EngineSettings::default()).map_err(WrapError::from)?;
    if args.held {
        hold(&writer.folder(), true).map_err(WrapError::from)?;
    }
    let folder = writer.publish().map_err(WrapError::from)?;
    report(&wrapped, args.tolerance);
    println!("wrote {}", folder.display());
    Ok(())
}

/// The settings file with the flags over it.
fn settings(args: &WrapArgs) -> Result<WrapSettings, WrapError> {
    let mut settings = WrapSettings::read(&args.schema)?;
    settings.name = args.name.clone().or(settings.name);
    settings.scorer = args.scorer.or(settings.scorer);
    settings.exploration = args.exploration.unwrap_or(settings.exploration);
    settings.slate.max_size = args.max_size.unwrap_or(settings.slate.max_size);
    settings.slate.max_candidates = args.max_candidates.unwrap_or(settings.slate.max_candidates);
    for (name, source) in &args.inputs {
        settings.inputs.insert(name.clone(), InputSetting::Joined(source.clone()));
    }
    for (ours, name) in &args.outputs {
        settings.set_output(ours, Some(name.clone()), None);
    }
    if args.column.is_some() {
        settings.set_output(SCORES, None, args.column);
    }
    Ok(settings)
}

/// A bundle that is proven and not written yet.
struct Wrapped {
    manifest: Manifest,
    model: Vec<u8>,
    plan: Plan,
    proof: Proof,
    samples: usize,
}

fn wrap(args: &WrapArgs, settings: &WrapSettings, name: String, version: u64) -> Result<Wrapped, WrapError> {
    let source = std::fs::read(&args.model)
        .map_err(|error| WrapError::File { path: args.model.clone(), reason: error.to_string() })?;
    let folder = args.model.parent().unwrap_or_else(|| Path::new(""));
    let foreign = ForeignModel::read(&source, folder)?;
    let encoder = Encoder::new(&settings.features)?;
    let (inputs, outputs) = (settings.input_parts(), settings.output_wishes());
    let wishes = Wishes {
        features: &settings.features,
        session: &settings.session,
        inputs: &inputs,
        outputs: &outputs,
        layout: settings.scorer,
    };
    let plan = Plan::new(&foreign, wishes)?;
    let model = adapted(&foreign, &plan)?;
    let framework = foreign.producer.split_whitespace().next().unwrap_or("onnx").to_owned();
    let mut manifest = Manifest {
        format: FORMAT,
        name,
        version,
        algorithm: Algorithm {
            name: settings.algorithm.clone().unwrap_or(framework),
            settings: serde_json::Value::Null,
        },
        discount: settings.discount,
        features: settings.features.clone(),
        session: settings.session.clone(),
        slate: settings.slate,
        exploration: settings.exploration,
        objective: settings.objective,
        signature: plan.signature,
        model_sha256: sha256_hex(&model),
        training: None,
        origin: None,
        evaluation: Vec::new(),
        parity: None,
    };
    // What cannot be served is said before the model is run.
    manifest.check()?;
    let samples = match &args.samples {
        Some(path) => Sample::read(path, &encoder, &plan.signature)?,
        None => Vec::new(),
    };
    let proof = prove(&model, plan.signature, settings.slate, &samples, args.tolerance)?;
    manifest.origin = Some(Origin {
        model_sha256: sha256_hex(&source),
        producer: foreign.producer,
        scorer: plan.layout.to_string(),
        inputs: plan.inputs.iter().map(|(tensor, source)| (tensor.name.clone(), source.to_string())).collect(),
        outputs: outputs_of(&plan),
        samples: samples.len() as u64,
        compared: proof.scores as u64,
        greatest_deviation: f64::from(proof.greatest_deviation),
    });
    manifest.parity = Some(proof.parity.clone());
    Ok(Wrapped { manifest, model, plan, proof, samples: samples.len() })
}

fn outputs_of(plan: &Plan) -> BTreeMap<String, String> {
    let described = plan.outputs.iter().map(|output| {
        let column = output.column.map_or_else(String::new, |column| format!(", column {column}"));
        (output.name.to_owned(), format!("{}{column}", output.tensor.name))
    });
    described.collect()
}

fn report(wrapped: &Wrapped, tolerance: f32) {
    let Wrapped { manifest, plan, proof, samples, .. } = wrapped;
    let producer = manifest.origin.as_ref().map(|origin| origin.producer.as_str()).filter(|name| !name.is_empty());
    let how = match (plan.as_is, plan.layout) {
        (true, _) => "keeps to the signature already",
        (false, Layout::Rows) => "scores one candidate a row",
        (false, Layout::Lists) => "scores all candidates of a request at once",
    };
    let one = if plan.one_by_one { ", and is run once for each, because its first axis is always 1" } else { "" };
    println!("model    {}: {how}{one}", producer.unwrap_or("of an unnamed framework"));
    for (tensor, source) in &plan.inputs {
        println!("input    {} {tensor} <- {source}", tensor.name);
    }
    for (name, output) in outputs_of(plan) {
        println!("output   {name} <- {output}");
    }
    if *samples == 0 {
        println!("samples  none: nothing shows that these are the framework's scores; `--samples` would");
    } else {
        println!(
            "samples  {samples}, {} numbers: furthest from the framework's {:.1e}, allowed {tolerance:.0e}",
            proof.scores, proof.greatest_deviation
        );
    }
}

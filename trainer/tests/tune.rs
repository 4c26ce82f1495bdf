//! Searching for settings: what is tried, what is ended early, and that nothing depends on threads or interruptions.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use slated_trainer::progress::Silent;
use slated_trainer::tune::{
    Search, Status, Trial, TrialError, TrialLog, TuneFolder, TuneLabels, TuneOutcome, TuneSettings, Tuned,
};
use tempfile::TempDir;
use toml::Table;

/// A run that comes close to how good its settings are, the closer the longer it goes: its return is
/// `peak - 100 / sqrt(steps)`, where the peak is 200 at a rate of 1e-3 and kind `good`.
struct Run {
    peak: f64,
    steps: u64,
    /// Steps of all runs together.
    used: Arc<AtomicU64>,
    /// Runs that are held at a time, and the most there were.
    held: Arc<(AtomicU64, AtomicU64)>,
}

impl Run {
    fn peak(settings: &Table) -> f64 {
        let algorithm = settings["algorithm"].as_table().unwrap();
        let rate = algorithm["rate"].as_float().unwrap();
        let kind = if algorithm["kind"].as_str() == Some("good") { 0.0 } else { 20.0 };
        200.0 - kind - 10.0 * (rate.log10() + 3.0).powi(2)
    }
}

impl Trial for Run {
    fn run(&mut self, until: u64) -> Result<f64, TrialError> {
        self.used.fetch_add(until - self.steps, Ordering::Relaxed);
        self.steps = until;
        Ok(self.peak - 100.0 / (until as f64).sqrt())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.held.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes runs, and counts what they use.
#[derive(Default)]
struct Runs {
    made: Cell<u64>,
    used: Arc<AtomicU64>,
    held: Arc<(AtomicU64, AtomicU64)>,
}

impl Runs {
    fn make(&self, settings: &Table) -> Box<dyn Trial> {
        self.made.set(self.made.get() + 1);
        let held = self.held.0.fetch_add(1, Ordering::Relaxed) + 1;
        self.held.1.fetch_max(held, Ordering::Relaxed);
        let (used, held) = (Arc::clone(&self.used), Arc::clone(&self.held));
        Box::new(Run { peak: Run::peak(settings), steps: 0, used, held })
    }
}

const BASE: &str = "policy = \"tuned\"\nseed = 3\n[algorithm]\nname = \"dqn\"\nrate = 0.1\n";
const SPACE: &str = "[space]\n\
                     \"algorithm.rate\" = { log_uniform = [1e-6, 1.0] }\n\
                     \"algorithm.kind\" = { choice = [\"good\", \"bad\"] }\n";

fn base() -> Table {
    BASE.parse().unwrap()
}

fn settings(text: &str) -> TuneSettings {
    toml::from_str(&format!("{text}\n{SPACE}")).unwrap()
}

const HALVING: &str = "trials = 36\nbudget = 900\nearly_stopping = { minimum = 100, reduction = 3 }\nbatch = 4";

fn search(settings: &TuneSettings, threads: usize, log: &mut TrialLog) -> (Tuned, Runs) {
    let (base, runs) = (base(), Runs::default());
    let search = Search { settings, base: &base, threads, stop: &AtomicBool::new(false) };
    let outcome = search.run(&mut |settings| Ok(runs.make(settings)), log, &mut Silent).unwrap();
    let TuneOutcome::Finished(tuned) = outcome else { panic!("{outcome:?}") };
    (tuned, runs)
}

/// Everything about the trials but the time they took.
fn told(tuned: &Tuned) -> Vec<String> {
    let results = |trial: &slated_trainer::tune::Tried| -> Vec<_> {
        trial.results.iter().map(|result| (result.budget, result.value)).collect()
    };
    tuned.trials.iter().map(|trial| format!("{:?} {:?} {:?}", trial.values, trial.status, results(trial))).collect()
}

#[test]
fn early_stopping_finds_what_is_good_for_less_than_half_of_the_steps() {
    let (whole, all) = search(&settings("trials = 36\nbudget = 900"), 2, &mut TrialLog::default());
    assert!(whole.trials.iter().all(|trial| trial.status == Status::Finished));
    assert_eq!(all.used.load(Ordering::Relaxed), 36 * 900);

    let random = format!("{HALVING}\nsampler = {{ name = \"random\" }}");
    let (halved, some) = search(&settings(&random), 2, &mut TrialLog::default());
    let (budget, value) = halved.best().last().unwrap();
    assert_eq!(budget, 900);
    // The best possible value is 200 - 100 / 30.
    assert!(value > 196.667 - 2.5, "{value}");
    let used = some.used.load(Ordering::Relaxed);
    assert!(used < 36 * 900 / 2, "{used} steps");

    let ends = |budget: u64| halved.trials.iter().filter(|trial| trial.last().unwrap().0 == budget).count();
    assert!(ends(100) >= 18 && ends(900) >= 4, "{} ended first, {} came through", ends(100), ends(900));
    assert_eq!(some.made.get(), 36, "a trial goes on from where it was");
    let held = some.held.1.load(Ordering::Relaxed);
    assert!(held < 24, "{held} runs were held at a time, although most can never go on");
    assert_eq!(some.held.0.load(Ordering::Relaxed), 0);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let settings = settings(HALVING);
    let (one, _) = search(&settings, 1, &mut TrialLog::default());
    let (four, _) = search(&settings, 4, &mut TrialLog::default());
    assert_eq!(told(&one), told(&four));
    let other = TuneSettings { seed: 2, ..settings };
    assert_ne!(told(&one), told(&search(&other, 1, &mut TrialLog::default()).0));
}

/// A trial that is stopped once so many have run.
struct Counted(Box<dyn Trial>, Arc<AtomicU64>, u64);

impl Trial for Counted {
    fn run(&mut self, until: u64) -> Result<f64, TrialError> {
        if self.1.fetch_add(1, Ordering::Relaxed) >= self.2 { Err(TrialError::Stopped) } else { self.0.run(until) }
    }
}

#[test]
fn an_interrupted_search_goes_on_where_it_was() {
    let (settings, base) = (settings(HALVING), base());
    let (uninterrupted, _) = search(&settings, 2, &mut TrialLog::default());

    let folder = TempDir::new().unwrap();
    let (runs, count) = (Runs::default(), Arc::new(AtomicU64::new(0)));
    let (_, mut log) = TuneFolder::open(folder.path(), &settings, &base).unwrap();
    let interrupted = Search { settings: &settings, base: &base, threads: 2, stop: &AtomicBool::new(false) };
    let outcome = interrupted
        .run(&mut |settings| Ok(Box::new(Counted(runs.make(settings), Arc::clone(&count), 23))), &mut log, &mut Silent)
        .unwrap();
    assert_eq!(outcome, TuneOutcome::Interrupted { results: 23 });
    drop(log);
    // Killed while it wrote.
    let path = folder.path().join("results.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"trial\":3").unwrap();

    let (_, mut log) = TuneFolder::open(folder.path(), &settings, &base).unwrap();
    let (resumed, rest) = search(&settings, 2, &mut log);
    assert_eq!(told(&resumed), told(&uninterrupted));
    assert!(rest.made.get() < 36, "{} were made again", rest.made.get());

    let (_, mut log) = TuneFolder::open(folder.path(), &settings, &base).unwrap();
    assert_eq!(search(&settings, 2, &mut log).1.made.get(), 0, "all is known");
    let other = TuneSettings { seed: 2, ..settings };
    let refused = TuneFolder::open(folder.path(), &other, &base).unwrap_err();
    assert!(refused.to_string().contains("is of a search with other settings"), "{refused}");
}

#[test]
fn a_search_can_be_made_longer() {
    let (short, base) = (TuneSettings { trials: Some(12), ..settings(HALVING) }, base());
    let long = TuneSettings { trials: Some(36), ..short.clone() };
    let folder = TempDir::new().unwrap();
    search(&short, 2, &mut TuneFolder::open(folder.path(), &short, &base).unwrap().1);
    let (longer, rest) = search(&long, 2, &mut TuneFolder::open(folder.path(), &long, &base).unwrap().1);
    assert_eq!(told(&longer), told(&search(&long, 2, &mut TrialLog::default()).0));
    assert!(rest.made.get() <= 30, "{} were made", rest.made.get());
}

#[test]
fn a_stopped_search_begins_nothing_more() {
    let (settings, base) = (settings(HALVING), base());
    let search = Search { settings: &settings, base: &base, threads: 2, stop: &AtomicBool::new(true) };
    let runs = Runs::default();
    let outcome = search.run(&mut |settings| Ok(runs.make(settings)), &mut TrialLog::default(), &mut Silent).unwrap();
    assert_eq!(outcome, TuneOutcome::Interrupted { results: 0 });
    assert_eq!(runs.used.load(Ordering::Relaxed), 0);
}

/// A run that diverges unless its rate is low.
struct Diverging(f64);

impl Trial for Diverging {
    fn run(&mut self, _: u64) -> Result<f64, TrialError> {
        match self.0 {
            rate if rate > 0.1 => Err(TrialError::Failed(format!("the loss is not a number at a rate of {rate}"))),
            rate if rate > 0.01 => Ok(f64::NAN),
            rate => Ok(-rate),
        }
    }
}

#[test]
fn a_trial_that_fails_is_told_and_passed_over() {
    let (settings, base) = (settings("sampler = { name = \"grid\", points = 7 }\nbudget = 9"), base());
    let search = Search { settings: &settings, base: &base, threads: 2, stop: &AtomicBool::new(false) };
    let rate = |settings: &Table| settings["algorithm"]["rate"].as_float().unwrap();
    let outcome = search
        .run(&mut |settings| Ok(Box::new(Diverging(rate(settings)))), &mut TrialLog::default(), &mut Silent)
        .unwrap();
    let TuneOutcome::Finished(tuned) = outcome else { panic!("{outcome:?}") };
    assert_eq!(tuned.trials.len(), 14);
    assert_eq!(rate(&tuned.best().settings), 1e-6);
    let failures = tuned.ranked().into_iter().filter_map(|trial| match &trial.status {
        Status::Failed(failure) => Some(failure.clone()),
        _ => None,
    });
    let expected = ["the objective is NaN", "the loss is not a number at a rate of 1"].repeat(2);
    assert_eq!(failures.collect::<Vec<_>>(), expected);

    let failed = search.run(&mut |_| Ok(Box::new(Diverging(1.0))), &mut TrialLog::default(), &mut Silent).unwrap_err();
    let message = "all 14 trials failed; the first one: the loss is not a number at a rate of 1";
    assert_eq!(failed.to_string(), message);
    let unmade = search.run(&mut |_| Err("unknown field `rate`".into()), &mut TrialLog::default(), &mut Silent);
    let message = "trial 0 with algorithm.kind = \"good\", algorithm.rate = 0.000001: unknown field `rate`";
    assert_eq!(unmade.unwrap_err().to_string(), message);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases = [
        ("budget = 0", "`budget` is 0, it must be at least 1"),
        ("budget = 9\nbatch = 0", "`batch` is 0, it must be at least 1"),
        ("budget = 9\ntrials = 0", "`trials` is 0, it must be at least 1"),
        ("budget = 9\nsampler = { name = \"grid\", points = 1 }", "`sampler.points` is 1, it must be at least 2"),
        (
            "budget = 9\nsampler = { name = \"grid\", points = 90000 }",
            "`sampler` is a grid of 180000 points, at most 100000",
        ),
        (
            "budget = 9\ntrials = 3\nsampler = { name = \"grid\", points = 2 }",
            "`trials` is 3, the grid has 4 points and tries all; leave it out",
        ),
        (
            "budget = 9\nearly_stopping = { minimum = 9 }",
            "`early_stopping.minimum` is 9, it must be from 1 to below the `budget` of 9",
        ),
        (
            "budget = 9\nearly_stopping = { minimum = 1, reduction = 1 }",
            "`early_stopping.reduction` is 1, it must be at least 2",
        ),
        (
            "budget = 9\ntrials = 8\nearly_stopping = { minimum = 1, reduction = 3 }",
            "`trials` is 8, with `early_stopping` of 1 and a `budget` of 9 none would reach the whole budget; it takes \
             at least 9 trials",
        ),
    ];
    for (text, expected) in cases {
        let message = settings(text).check().unwrap_err().to_string();
        assert!(message.starts_with(expected), "{text}: {message}");
    }
    let unknown = |text: &str| toml::from_str::<TuneSettings>(&format!("{text}\n{SPACE}")).unwrap_err().to_string();
    assert!(unknown("budget = 9\nsampler = { name = \"bayes\" }").contains("expected one of `random`, `grid`, `tpe`"));
    assert!(unknown("budget = 9\nsampler = { name = \"random\", points = 3 }").contains("unknown field `points`"));
    assert!(unknown("budget = 9\nthreads = 3").contains("unknown field `threads`"));
    let empty = toml::from_str::<TuneSettings>("budget = 9\n[space]").unwrap_err().to_string();
    assert!(empty.contains("`space` is empty"), "{empty}");
}

/// The files of a folder by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_search_leaves_tables_plots_and_the_best_settings() {
    let (settings, base) = (settings(HALVING), base());
    let place = TempDir::new().unwrap();
    let (folder, mut log) = TuneFolder::open(place.path(), &settings, &base).unwrap();
    let (tuned, _) = search(&settings, 2, &mut log);
    let labels = TuneLabels {
        title: "Tuning `tuned`".to_owned(),
        objective: "mean return".to_owned(),
        budget: "environment steps".to_owned(),
    };
    folder.write(&tuned, &settings, &labels).unwrap();
    let files = files(place.path());
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected =
        ["best.toml", "parameters.png", "report.html", "results.jsonl", "trials.csv", "trials.json", "trials.png"];
    assert_eq!(names, expected);
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();

    let best: Table = text("best.toml").parse().unwrap();
    assert_eq!(best, tuned.best().settings);
    assert_eq!((best["policy"].as_str(), best["seed"].as_integer()), (Some("tuned"), Some(3)), "the rest stays");
    assert_eq!(Run::peak(&best) - 100.0 / 30.0, tuned.best().last().unwrap().1);

    let csv = text("trials.csv");
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[0], "trial,value,budget,status,seconds,algorithm.kind,algorithm.rate");
    assert_eq!(lines.len(), 37);
    let json: serde_json::Value = serde_json::from_str(&text("trials.json")).unwrap();
    assert_eq!(json["parameters"], serde_json::json!(["algorithm.kind", "algorithm.rate"]));
    assert_eq!(json["trials"][35]["trial"], 35);
    assert_eq!(json["trials"][json["best"].as_u64().unwrap() as usize]["status"], "finished");

    let table = tuned.to_string();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 37);
    assert_eq!(rows[1][0], tuned.best().trial.to_string(), "the best stands first");
    let page = text("report.html");
    for said in ["The greatest mean return", "algorithm.rate", "stopped early", "The best 25 trials", "log_uniform"] {
        assert!(page.contains(said), "the page does not say {said}");
    }
    // Four plots: trials and two parameters, each wide and narrow.
    assert_eq!(page.matches("<svg").count(), 6);
}

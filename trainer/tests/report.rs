//! What a run leaves behind: its progress, its event files as TensorBoard reads them, its page and its plots.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use slated_trainer::report::{
    Axis, Curve, CurvePlot, CurvePoint, Estimate, Evaluation, Line, Plot, PointPlot, ProgressRow, ReportError,
    RunFolder, RunReport, RunSteps, Series,
};
use tempfile::TempDir;

fn row(step: u64) -> ProgressRow {
    let value = step as f64;
    ProgressRow {
        step,
        episodes: step / 10,
        seconds: value / 1000.0,
        mean_return: Some(value / 4.0),
        loss: Some(1.0 / value),
        evaluation: step.is_multiple_of(200).then_some(Estimate {
            mean: value,
            lower: value - 1.0,
            upper: value + 1.0,
        }),
        ..ProgressRow::default()
    }
}

fn record(run: &mut RunFolder, steps: impl IntoIterator<Item = u64>) {
    steps.into_iter().for_each(|step| run.record(row(step)).unwrap());
}

#[test]
fn progress_is_in_the_file_as_soon_as_it_is_recorded() {
    let folder = TempDir::new().unwrap();
    let mut run = RunFolder::create(folder.path()).unwrap();
    record(&mut run, [100, 200]);
    let text = fs::read_to_string(folder.path().join("progress.csv")).unwrap();
    let expected = "step,episodes,seconds,mean_return,loss,gradient_norm,epsilon,steps_per_second,\
                    evaluation_return,evaluation_lower,evaluation_upper,validation_loss\n\
                    100,10,0.1,25.0,0.01,,,,,,,\n\
                    200,20,0.2,50.0,0.005,,,,200.0,199.0,201.0,\n";
    assert_eq!(text, expected);
}

#[test]
fn a_resumed_run_goes_on_from_its_checkpoint() {
    let folder = TempDir::new().unwrap();
    let progress = folder.path().join("progress.csv");
    record(&mut RunFolder::create(folder.path()).unwrap(), [100, 200, 300]);
    // Killed in the middle of a row.
    fs::write(&progress, fs::read_to_string(&progress).unwrap() + "400,40,0.").unwrap();

    let mut run = RunFolder::resume(folder.path(), 200).unwrap();
    assert_eq!(run.rows(), [row(100), row(200)]);
    record(&mut run, [250, 300]);
    assert_eq!(run.rows().len(), 4);
    let steps: Vec<_> = fs::read_to_string(&progress)
        .unwrap()
        .lines()
        .map(|line| line.split(',').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(steps, ["step", "100", "200", "250", "300"]);
}

#[test]
fn a_run_never_writes_over_another() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    RunFolder::create(&run).unwrap();
    let error = RunFolder::create(&run).unwrap_err();
    assert!(matches!(&error, ReportError::Taken(path) if *path == run), "{error}");

    let missing = RunFolder::resume(&folder.path().join("other"), 0).unwrap_err();
    assert!(missing.to_string().contains("other/progress.csv"), "{missing}");
    fs::write(run.join("progress.csv"), "step,reward\n1,2\n").unwrap();
    let foreign = RunFolder::resume(&run, 0).unwrap_err();
    assert!(foreign.to_string().contains("reward"), "{foreign}");
}

/// The scalars of a folder by tag, as TensorBoard's own reader gives them: checksums compared, restarts purged.
fn tensorboard(folder: &Path) -> BTreeMap<String, Vec<(u64, f64)>> {
    const READ: &str = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0})
events.Reload()
tags = events.Tags()['scalars']
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags}))";
    let python = std::env::var_os("SLATED_TEST_PYTHON").expect("run this through `make test`");
    let output = Command::new(python).args(["-c", READ]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn tensorboard_reads_the_event_files() {
    let folder = TempDir::new().unwrap();
    record(&mut RunFolder::create(folder.path()).unwrap(), [100, 200, 300]);
    let mut resumed = RunFolder::resume(folder.path(), 200).unwrap();
    record(&mut resumed, [400]);

    let scalars = tensorboard(folder.path());
    assert_eq!(scalars["rollout/mean_return"], [(100, 25.0), (200, 50.0), (400, 100.0)]);
    assert_eq!(scalars["evaluation/upper"], [(200, 201.0), (400, 401.0)]);
    let tags: Vec<_> = scalars.keys().map(String::as_str).collect();
    let measured = ["evaluation/lower", "evaluation/mean_return", "evaluation/upper"];
    let measured = [&measured[..], &["rollout/episodes", "rollout/mean_return", "train/loss"]].concat();
    assert_eq!(tags, measured, "what was not measured has no curve");
}

fn report() -> RunReport {
    RunReport {
        title: "sweets <1>".to_owned(),
        algorithm: "dqn".to_owned(),
        environment: "long_term_satisfaction".to_owned(),
        steps: RunSteps::Environment,
        seed: 7,
        settings: "[algorithm]\ndiscount = 0.99\n".to_owned(),
        baselines: vec![Line { name: "random".to_owned(), value: 99.7 }],
        optimum: Some(225.9),
        evaluation: Some(Evaluation {
            episodes: 1000,
            mean_return: Estimate { mean: 223.64, lower: 223.1, upper: 224.2 },
            confidence: 0.95,
        }),
        peak_memory: Some(300 << 20),
        facts: vec![("threads".to_owned(), "2".to_owned())],
    }
}

#[test]
fn the_page_says_everything_and_needs_nothing() {
    let folder = TempDir::new().unwrap();
    let mut run = RunFolder::create(folder.path()).unwrap();
    record(&mut run, (1..=50).map(|index| 100 * index));
    run.write_report(&report()).unwrap();

    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    let said =
        ["sweets &lt;1&gt;", "223.64", "95 % interval 223.10 to 224.20, 1000 episodes", "99.0 %", "optimum 225.9"];
    let said =
        said.into_iter().chain(["random 99.7", "300 MiB", "discount = 0.99", "<dt>seed</dt><dd>7</dd>", "threads"]);
    for text in said {
        assert!(page.contains(text), "the page does not say {text}");
    }
    for outside in ["src=", "href=", "url(", "@import", "<script", "<1>"] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    for name in ["learning_curve.png", "loss.png"] {
        let image = fs::read(folder.path().join(name)).unwrap();
        assert!(image.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        let side = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
        assert_eq!((side(16), side(20)), (1920, 1080), "{name}");
    }
}

#[test]
fn a_run_that_was_cut_short_has_a_page_too() {
    let folder = TempDir::new().unwrap();
    let mut run = RunFolder::create(folder.path()).unwrap();
    let unfinished = RunReport { evaluation: None, ..report() };
    run.write_report(&unfinished).unwrap();
    run.record(ProgressRow { step: 10, loss: Some(f64::NAN), mean_return: Some(f64::INFINITY), ..row(10) }).unwrap();
    run.write_report(&unfinished).unwrap();
    assert!(fs::read_to_string(folder.path().join("report.html")).unwrap().contains("Mean return so far"));
}

#[test]
fn a_value_that_is_not_finite_leaves_a_gap() {
    let curve = |values: [f64; 6]| {
        let point =
            |(x, mean): (usize, f64)| CurvePoint { x: x as f64, mean, interval: Some((mean - 0.5, mean + 0.5)) };
        let points = values.into_iter().enumerate().map(point).collect();
        let curve = Curve { name: "value".to_owned(), points, ..Curve::default() };
        let (x, y) = (Axis::linear("step"), Axis::linear("value"));
        let plot = CurvePlot { title: "Values".to_owned(), x, y, curves: vec![curve], lines: Vec::new() };
        Plot::Curves(plot).svg(400, 300).unwrap()
    };
    let count = |svg: &str| (svg.matches("<polygon").count(), svg.matches("stroke=\"#0072B2\"").count());
    assert_eq!(count(&curve([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), (1, 1));
    assert_eq!(count(&curve([1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0])), (2, 2));
}

#[test]
fn the_svg_and_the_png_are_drawn_by_the_same_code() {
    let estimate = |mean: f64| Some(Estimate { mean, lower: mean - 1.0, upper: mean + 1.0 });
    let series = |name: &str, estimates| Series { name: name.to_owned(), estimates };
    let plot = Plot::Points(PointPlot {
        title: "Mean return of each policy".to_owned(),
        value: Axis::linear("mean return"),
        groups: vec!["random".to_owned(), "dqn".to_owned()],
        series: vec![
            series("there", vec![estimate(99.7), None]),
            series("here", vec![estimate(99.5), estimate(223.0)]),
        ],
        lines: vec![Line { name: "optimum".to_owned(), value: 225.9 }],
    });
    let svg = plot.svg(400, 300).unwrap();
    assert!(svg.starts_with("<svg viewBox=\"0 0 3200 2400\""), "the width is the page's to choose: {svg}");
    // Three estimates, and two entries of the legend.
    assert_eq!(svg.matches("<circle").count(), 5);
    for text in ["random", "dqn", "there", "here", "optimum 225.9", "mean return"] {
        assert!(svg.contains(text), "{text} is not in the plot");
    }
    assert_eq!(plot.png(400, 300).unwrap(), plot.png(400, 300).unwrap());
    let grid = Plot::png_grid(&[plot.clone(), plot.clone(), plot], 2, 200, 150).unwrap();
    assert_eq!(grid[16..24], [800_u32.to_be_bytes(), 600_u32.to_be_bytes()].concat());
}

//! The corpus of the fuzz targets, and each of its inputs cut and altered in a fixed way.

use std::fs;
use std::path::Path;

#[path = "../fuzz/targets.rs"]
mod targets;

use targets::Target;

/// Inputs of a target, by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    assert!(inputs.len() > 1, "{name} has no corpus");
    inputs
}

/// The input, beginnings of it, and some with one byte changed.
fn variants(input: &[u8], of_each: usize) -> impl Iterator<Item = Vec<u8>> {
    let step = (input.len() / of_each.max(1)).max(1);
    let cut = (0..input.len()).step_by(step).map(|length| input[..length].to_vec());
    let flipped = (0..input.len()).step_by(step).map(|at| {
        let mut altered = input.to_vec();
        altered[at] ^= 1 << (at % 8);
        altered
    });
    std::iter::once(input.to_vec()).chain(cut).chain(flipped)
}

/// Runs a target's corpus and variants of each input.
fn run(name: &str, of_each: usize) {
    let (_, target): &(_, Target) = targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    for (input, bytes) in corpus(name) {
        println!("{name}/{input}");
        variants(&bytes, of_each).for_each(|bytes| target(&bytes));
    }
}

#[test]
fn requests() {
    run("requests", 12);
}

#[test]
fn manifests() {
    run("manifest", 40);
}

#[test]
fn models() {
    run("model", 10);
}

#[test]
fn dsjson() {
    run("dsjson", 25);
}

/// Variants of what is written now, and the corpus, which was written as it was written then.
fn run_logs(name: &str, extension: &str, holds: &[&str]) {
    let sound = targets::sound(extension);
    for id in holds {
        assert!(sound.windows(id.len()).any(|bytes| bytes == id.as_bytes()), "it lacks `{id}`");
    }
    if std::env::var_os("UPDATE").is_some() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        fs::create_dir_all(&corpus).unwrap();
        fs::write(corpus.join("sound"), &sound).unwrap();
        fs::write(corpus.join("torn"), &sound[..sound.len() - 9]).unwrap();
    }
    run(name, 10);
    let (_, target): &(_, Target) = targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    variants(&sound, 10).for_each(|bytes| target(&bytes));
}

#[test]
fn journals() {
    run_logs("journal", "log", &["first", "second", "third"]);
}

#[test]
fn indices() {
    run_logs("index", "jnl", &["closed", "sealed/feedback"]);
}

//! A journal in an object store, over the wire: listed by the page, fetched once, learned from like a folder.

mod common;

use std::path::Path;
use std::process::Command;

use common::bucket::{BUCKET, PAGE, Store};
use common::{files, must, slated};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_a_bucket_is_fetched_once_and_learned_from_like_a_folder() {
    let folder = TempDir::new().unwrap();
    must(folder.path(), &["simulate", "-e", "lts-tutorial", "-p", "random", "-n", "600", "--journal", "journal"]);
    let journal = folder.path().join("journal");
    let store = Store::default();
    let address = store.serve().await;
    let segments = files(&journal, Path::new(""));
    assert!(segments.len() > 2 * PAGE, "{segments:?}");
    for path in &segments {
        let bytes = std::fs::read(journal.join(path)).unwrap();
        store.put(&format!("team/a_journal/{}", path.display()), bytes);
    }
    // What is no segment, or is another journal's.
    store.put("team/a_journal/decisions/date=2025-01-01/.half.parquet", vec![0]);
    store.put("team/a_journal/decisions/README", vec![0]);
    store.put("team/a_journal_of_others/decisions/date=2025-01-01/x.parquet", vec![0]);

    let settings =
        "policy = \"p\"\nalgorithm = { name = \"linucb\" }\ndata = { reward = { weights = { watch = 1.0 } } }\n";
    std::fs::write(folder.path().join("train.toml"), settings).unwrap();
    let train = |journal: &str, models: &str, secret: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_slated"))
            .args(["train", "--settings", "train.toml", "--journal", journal, "--models", models])
            .current_dir(folder.path())
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .envs(Store::environment(&address, secret))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let bucket = format!("s3://{BUCKET}/team/a_journal");
    let bundle = |models: &str| std::fs::read(folder.path().join(models).join("p/1/model.onnx")).unwrap();

    must(folder.path(), &["train", "--settings", "train.toml", "--models", "near"]);
    // A store that is busy for a moment is asked again.
    store.0.lock().unwrap().failing = 2;
    let (ok, error) = train(&bucket, "far", "key");
    assert!(ok, "{error}");
    assert!(bundle("near") == bundle("far"));
    let mut fetched = store.fetched();
    fetched.sort();
    assert_eq!(fetched.len(), segments.len(), "{fetched:?}");
    fetched.dedup();
    assert_eq!(fetched.len(), segments.len());
    assert!(store.0.lock().unwrap().pages >= segments.len() / PAGE);

    // Again: nothing to fetch. With one segment gone from the store: gone here too.
    assert!(train(&bucket, "again", "key").0);
    assert_eq!(store.fetched(), Vec::<String>::new());
    let gone = segments.iter().find(|path| path.starts_with("decisions")).unwrap();
    store.0.lock().unwrap().objects.remove(&format!("team/a_journal/{}", gone.display()));
    std::fs::remove_file(journal.join(gone)).unwrap();
    must(folder.path(), &["train", "--settings", "train.toml", "--models", "near-less"]);
    assert!(train(&bucket, "less", "key").0);
    assert!(bundle("near-less") == bundle("less") && bundle("less") != bundle("far"));

    // What goes wrong says what and where.
    let (ok, error) = train(&bucket, "never", "wrong");
    assert!(!ok && error.contains(&bucket) && error.contains("403"), "{error}");
    let (ok, error) = train("ftp://somewhere/else", "never", "key");
    assert!(!ok && error.contains("ftp://somewhere/else") && error.contains("s3://"), "{error}");
    let output = slated(folder.path(), &["serve", "--journal", &bucket, "--models", "near", "--policy", "p"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("`journal.folder`"), "{error}");
}

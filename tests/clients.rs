//! Typed clients made from `openapi.yaml`: they compile under the strictest settings, and work against the service.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::{Service, Workplace};
use tempfile::TempDir;

fn variable(name: &str, what: &str) -> PathBuf {
    std::env::var_os(name).map(PathBuf::from).unwrap_or_else(|| panic!("{name} names {what}; run `make test`"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}\n{error}");
    said.into_owned()
}

/// The clients, made anew once a run.
fn clients() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    // They are fetched by `make test`, so that a test never is.
    variable("SLATED_TEST_API_PYTHON", "a Python with openapi-python-client");
    variable("SLATED_TEST_NPM_CLIENTS", "a folder with openapi-typescript");
    let made = MADE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        must(Command::new(root().join("scripts/clients.sh")).arg(folder.path()));
        folder
    });
    made.path()
}

/// A service with keys, and a key that may do everything.
fn serve(place: &Workplace) -> (Service, String) {
    fs::write(place.path().join("slated.toml"), "[security]\nkeys = \"keys.toml\"\n").unwrap();
    let roles = ["--role", "recommend", "--role", "feedback", "--role", "admin", "--role", "metrics"];
    let key = place.must(&[&["key", "new", "all", "--keys", "keys.toml"], &roles[..]].concat()).trim().to_owned();
    (place.serve(&[]), key)
}

#[test]
fn the_python_client_is_typed_and_works() {
    let python = variable("SLATED_TEST_API_PYTHON", "a Python with mypy");
    let package = clients().join("python");
    let smoke = root().join("tests/clients/smoke.py");
    let mypy = || {
        let mut mypy = Command::new(&python);
        mypy.args(["-m", "mypy", "--strict", "--cache-dir"]).arg(package.join(".mypy_cache"));
        mypy.env("MYPYPATH", &package);
        mypy
    };
    must(mypy().args(["--package", "slated_client"]).current_dir(&package));
    must(mypy().arg(&smoke));
    // What has the wrong type is found before it runs.
    let wrong = package.join("wrong.py");
    let text = fs::read_to_string(&smoke).unwrap();
    let right = "slate_size=2";
    assert!(text.contains(right));
    fs::write(&wrong, text.replace(right, "slate_size=\"two\"")).unwrap();
    let found = mypy().arg(&wrong).output().unwrap();
    assert!(!found.status.success() && String::from_utf8_lossy(&found.stdout).contains("slate_size"));

    let place = Workplace::new();
    let (service, key) = serve(&place);
    let mut run = Command::new(&python);
    run.arg(&smoke).args([&service.url, &key]).env("PYTHONPATH", &package).env("NO_PROXY", "127.0.0.1");
    assert_eq!(must(&mut run).trim(), "ok");
    service.stop();
}

#[test]
fn the_typescript_client_is_typed_and_works() {
    let node = variable("SLATED_TEST_NODE", "a Node.js");
    let packages = variable("SLATED_TEST_NPM_CLIENTS", "a folder with TypeScript").join("node_modules");
    let folder = clients().join("typescript");
    std::os::unix::fs::symlink(&packages, folder.join("node_modules")).unwrap();
    fs::write(folder.join("package.json"), r#"{"type": "module"}"#).unwrap();
    let smoke = fs::read_to_string(root().join("tests/clients/smoke.ts")).unwrap();
    let right = "slate_size: 2";
    assert!(smoke.contains(right));
    fs::write(folder.join("smoke.ts"), &smoke).unwrap();
    fs::write(folder.join("wrong.ts"), smoke.replace(right, "slate_size: \"two\"")).unwrap();
    let tsc = |file: &str| {
        let mut tsc = Command::new(&node);
        tsc.arg(packages.join("typescript/bin/tsc")).args(["--strict", "--noEmit", "--noUncheckedIndexedAccess"]);
        tsc.args(["--exactOptionalPropertyTypes", "--erasableSyntaxOnly", "--allowImportingTsExtensions"]);
        tsc.args(["--module", "nodenext", "--target", "es2024", "--types", "node", file]).current_dir(&folder);
        tsc
    };
    must(&mut tsc("smoke.ts"));
    let found = tsc("wrong.ts").output().unwrap();
    // TypeScript's number for a value of another type than its place has.
    assert!(!found.status.success() && String::from_utf8_lossy(&found.stdout).contains("TS2322"));

    let place = Workplace::new();
    let (service, key) = serve(&place);
    let mut run = Command::new(&node);
    run.arg("smoke.ts").args([&service.url, &key]).current_dir(&folder);
    assert_eq!(must(&mut run).trim(), "ok");
    service.stop();
}

//! The Personalizer's own clients against the running service.

use std::path::PathBuf;
use std::process::Command;

use crate::{Place, common};

/// A key that the clients have, where the service needs one.
fn place() -> (Place, String) {
    let place = Place::started();
    place.set("[security]\nkeys = \"keys.toml\"\n");
    let roles = ["--role", "recommend", "--role", "feedback", "--role", "admin"];
    let key = place.must(&[&["key", "new", "client", "--keys", "keys.toml"], &roles[..]].concat()).trim().to_owned();
    (place, key)
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/personalizer").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    assert!(out.trim().ends_with("all is well"), "{out}{error}");
}

fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable} is not set; run `make test`"))
}

#[test]
fn the_python_client_works() {
    let (place, key) = place();
    let service = place.serve();
    run(Command::new(common::python()).arg(script("client.py")).args([&service.url, &key]));
    service.stop();
}

#[test]
fn the_javascript_clients_work() {
    let (place, key) = place();
    let service = place.serve();
    let packages = named("SLATED_TEST_NPM_PERSONALIZER");
    for client in ["client.cjs", "rest-client.cjs"] {
        let mut node = Command::new(named("SLATED_TEST_NODE"));
        // Node looks for packages beside the script, and there; not where it is started.
        node.env("NODE_PATH", packages.join("node_modules")).arg(script(client)).args([&service.url, &key]);
        run(&mut node);
    }
    service.stop();
}

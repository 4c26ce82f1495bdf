//! The compose file, Prometheus and Grafana.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::Value;
use slated::autopilot::AutopilotSettings;
use tempfile::TempDir;

use crate::common::Service;
use crate::image;
use crate::said::{deploy, parses, port, settings, yaml};

fn file() -> Value {
    yaml(&deploy("compose/compose.yaml")).remove(0)
}

/// A text with the defaults of its variables.
fn interpolated(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').unwrap();
    let default = variable.split_once(":-").unwrap_or_else(|| panic!("{text}: {variable} has no default")).1;
    format!("{before}{default}{}", interpolated(after))
}

/// What the file sets for a service, over what its image sets.
fn variables(service: &Value) -> BTreeMap<String, String> {
    let mut all = image::variables(&image::stages()["cpu"]);
    let own = service["environment"].as_object().into_iter().flatten();
    all.extend(own.map(|(name, value)| (name.clone(), interpolated(value.as_str().unwrap()))));
    all
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| interpolated(text.as_str().unwrap())).collect()
}

/// Where it is mounted, what is there, for each of a service's mounts of files.
fn mounts(service: &Value) -> BTreeMap<String, PathBuf> {
    let split = |mount: String| {
        let mut parts = mount.split(':');
        let (source, target) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
        source.starts_with('.').then(|| (target, deploy("compose").join(source)))
    };
    texts(&service["volumes"]).into_iter().filter_map(split).collect()
}

#[test]
fn settings_and_arguments_are_slateds() {
    let file = file();
    for name in ["slated", "autopilot"] {
        let service = &file["services"][name];
        let set = variables(service);
        let loaded = settings(&set, "");
        for variable in service["environment"].as_object().into_iter().flatten().map(|(variable, _)| variable) {
            assert!(loaded.values().any(|(_, source)| source == variable), "{name}: {variable} sets nothing");
        }
        let command = texts(&service["command"]);
        if !command.is_empty() {
            parses(&command);
        }
        let volumes: Vec<String> = texts(&service["volumes"])
            .into_iter()
            .chain(texts(&service["tmpfs"]).into_iter().map(|path| format!("tmpfs:{path}")))
            .filter(|mount| !mount.starts_with('.'))
            .map(|mount| mount.split(':').nth(1).unwrap().to_owned())
            .collect();
        for key in ["models.folder", "journal.folder", "catalogue.folder"] {
            let inside = volumes.iter().any(|volume| Path::new(&loaded[key].0).starts_with(volume));
            assert!(inside, "{name}: {key} is in no volume, and the root is read-only");
        }
    }
    let loaded = settings(&variables(&file["services"]["slated"]), "");
    let published: Vec<(u16, u16)> = texts(&file["services"]["slated"]["ports"])
        .iter()
        .map(|mapping| {
            let mut parts = mapping.rsplit(':').map(|part| part.parse::<u16>().ok());
            (parts.next().flatten().unwrap(), parts.next().flatten().unwrap())
        })
        .collect();
    assert_eq!(published, [(port(&loaded["server.listen"].0), 8080)], "the administration stays inside");
    let policy = &loaded["models.default"].0;
    assert!(deploy("../models").join(policy).is_dir(), "the image has no policy {policy}");
    let targets = image::stages();
    let target = interpolated(file["services"]["slated"]["build"]["target"].as_str().unwrap());
    assert!(targets.contains_key(&target), "{target} is no stage of the Dockerfile");
    assert!(
        deploy("compose")
            .join(file["services"]["slated"]["build"]["context"].as_str().unwrap())
            .join("Dockerfile")
            .is_file()
    );
}

#[test]
fn the_autopilot_is_told_where_things_are() {
    let file = file();
    let service = &file["services"]["autopilot"];
    let path = &mounts(service)["/etc/slated/autopilot.toml"];
    let autopilot = AutopilotSettings::read(path).unwrap();
    let arguments = texts(&service["command"]);
    assert!(arguments.contains(&"/etc/slated/autopilot.toml".to_owned()));
    let admin = settings(&variables(&file["services"]["slated"]), "")["server.admin_listen"].0.clone();
    assert!(arguments.contains(&format!("http://slated:{}", port(&admin))), "{arguments:?}");
    let loaded = settings(&variables(&file["services"]["slated"]), "");
    assert_eq!(autopilot.journal, Path::new(&loaded["journal.folder"].0));
    assert_eq!(autopilot.models, Path::new(&loaded["models.folder"].0));
    assert!(texts(&service["volumes"]).contains(&format!("autopilot:{}", autopilot.folder.display())));
}

#[test]
fn what_is_named_is_there() {
    let file = file();
    let services = file["services"].as_object().unwrap();
    for (name, service) in services {
        for (target, source) in mounts(service) {
            assert!(source.exists(), "{name}: {} for {target} is not there", source.display());
        }
        for mount in texts(&service["volumes"]).iter().filter(|mount| !mount.starts_with('.')) {
            let volume = mount.split(':').next().unwrap();
            assert!(file["volumes"].get(volume).is_some(), "{name}: no volume {volume}");
        }
        let after = &service["depends_on"];
        let after =
            texts(after).into_iter().chain(after.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        for dependency in after {
            assert!(services.contains_key(&dependency), "{name} depends on {dependency}");
        }
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        for mapping in texts(&service["ports"]) {
            assert!(mapping.starts_with("127.0.0.1:"), "{name}: {mapping} is for everyone");
        }
    }
}

#[test]
fn prometheus_scrapes_and_grafana_shows_what_is_there() {
    let file = file();
    let prometheus = &file["services"]["prometheus"];
    let inside = mounts(prometheus);
    let argument = texts(&prometheus["command"]);
    let path = argument.iter().find_map(|argument| argument.strip_prefix("--config.file=")).unwrap();
    let scraping = yaml(&inside[path]).remove(0);
    let admin = settings(&variables(&file["services"]["slated"]), "")["server.admin_listen"].0.clone();
    assert_eq!(scraping["scrape_configs"][0]["static_configs"][0]["targets"][0], format!("slated:{}", port(&admin)));
    // The alert on what is down names the job.
    assert_eq!(scraping["scrape_configs"][0]["job_name"], "slated");
    let rules = Path::new(path).parent().unwrap().join(scraping["rule_files"][0].as_str().unwrap());
    assert_eq!(yaml(&inside[rules.to_str().unwrap()])[0]["groups"][0]["name"], "slated");
    // The one beside the alerts, for a service on the same machine.
    let local = yaml(&deploy("prometheus/prometheus.yml")).remove(0);
    let default = &settings(&BTreeMap::new(), "")["server.listen"].0;
    assert_eq!(local["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str(), Some(default.as_str()));
    assert!(deploy("prometheus").join(local["rule_files"][0].as_str().unwrap()).is_file());

    let inside = mounts(&file["services"]["grafana"]);
    let provisioning = &inside["/etc/grafana/provisioning"];
    let source = &yaml(&provisioning.join("datasources/prometheus.yaml"))[0]["datasources"][0];
    let listens = texts(&prometheus["ports"])[0].rsplit(':').next().unwrap().to_owned();
    assert_eq!(source["url"], format!("http://prometheus:{listens}"));
    let folder = yaml(&provisioning.join("dashboards/slated.yaml"))[0]["providers"][0]["options"]["path"].clone();
    let shown = format!("{}/slated.json", folder.as_str().unwrap());
    let dashboard: Value = serde_json::from_slice(&std::fs::read(&inside[&shown]).unwrap()).unwrap();
    let home = &file["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home.as_str(), Some(shown.as_str()));
    // It lets its reader choose a source of this kind, and takes the default one at first.
    let asked = &dashboard["templating"]["list"][0];
    assert_eq!((asked["type"].as_str(), &asked["query"]), (Some("datasource"), &source["type"]));
    assert_eq!(source["isDefault"], true);
}

#[tokio::test]
async fn a_service_with_these_variables_answers_the_probes() {
    let file = file();
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    crate::common::copy(&deploy("../models"), &folder.path().join("models"));
    let mut set = variables(&file["services"]["slated"]);
    for value in set.values_mut() {
        if let Some(path) = value.strip_prefix('/') {
            *value = folder.path().join(path).display().to_string();
        } else if value.starts_with("0.0.0.0:") {
            "127.0.0.1:0".clone_into(value);
        }
    }
    let policy = set["SLATED_MODELS__DEFAULT"].clone();
    let set: Vec<(&str, String)> = set.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let service = Service::with_environment(folder.path(), &set, &["--policy", &policy]);
    assert_eq!(service.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    // Which is at the address of its own.
    assert_eq!(service.get("/policies").await.0, StatusCode::NOT_FOUND);
    service.stop();
}

//! The manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use slated::autopilot::AutopilotSettings;
use tempfile::TempDir;

use crate::common::Service;
use crate::image;
use crate::said::{deploy, parses, port, routes, settings, yaml};

/// Every resource that the two kustomizations list.
fn resources() -> Vec<Value> {
    let mut all = Vec::new();
    for folder in ["kubernetes", "kubernetes/autopilot"] {
        let folder = deploy(folder);
        let listed = yaml(&folder.join("kustomization.yaml")).remove(0);
        for file in listed["resources"].as_array().unwrap() {
            all.extend(yaml(&folder.join(file.as_str().unwrap())));
        }
    }
    all
}

fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = all.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Those that run pods.
fn workloads(all: &[Value]) -> Vec<&Value> {
    all.iter().filter(|one| one["spec"]["template"]["spec"]["containers"].is_array()).collect()
}

fn containers(pod: &Value) -> Vec<&Value> {
    list(&pod["initContainers"]).iter().chain(list(&pod["containers"])).collect()
}

/// The settings in force: those of the ConfigMap under the variables of the image.
fn service_settings(all: &[Value]) -> BTreeMap<String, (String, String)> {
    let file = text(&find(all, "ConfigMap", "slated")["data"]["slated.toml"]);
    settings(&image::variables(&image::stages()["cpu"]), file)
}

#[test]
fn references_meet() {
    let all = resources();
    let names: BTreeSet<(String, String)> =
        all.iter().map(|one| (text(&one["kind"]).to_owned(), text(&one["metadata"]["name"]).to_owned())).collect();
    assert_eq!(names.len(), all.len(), "a name twice");
    let stateful = find(&all, "StatefulSet", "slated");
    find(&all, "Service", text(&stateful["spec"]["serviceName"]));
    // A replica's claim is called after the template, the set and its number.
    let replicas = stateful["spec"]["replicas"].as_u64().unwrap();
    let templates = list(&stateful["spec"]["volumeClaimTemplates"]);
    let claims: BTreeSet<String> = templates
        .iter()
        .flat_map(|claim| (0..replicas).map(|number| format!("{}-slated-{number}", text(&claim["metadata"]["name"]))))
        .collect();
    for workload in workloads(&all) {
        let name = text(&workload["metadata"]["name"]);
        let template = &workload["spec"]["template"];
        assert_eq!(workload["spec"]["selector"]["matchLabels"], template["metadata"]["labels"], "{name}");
        let pod = &template["spec"];
        find(&all, "ServiceAccount", text(&pod["serviceAccountName"]));
        let mut volumes: BTreeSet<&str> = list(&workload["spec"]["volumeClaimTemplates"])
            .iter()
            .map(|claim| text(&claim["metadata"]["name"]))
            .collect();
        for volume in list(&pod["volumes"]) {
            volumes.insert(text(&volume["name"]));
            if let Some(config) = volume["configMap"]["name"].as_str() {
                find(&all, "ConfigMap", config);
            }
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                assert!(
                    claims.contains(claim) || names.contains(&("PersistentVolumeClaim".to_owned(), claim.to_owned())),
                    "{name}: no claim {claim}"
                );
            }
        }
        for container in containers(pod) {
            for mount in list(&container["volumeMounts"]) {
                assert!(volumes.contains(text(&mount["name"])), "{name}: no volume {mount}");
                if let Some(key) = mount["subPath"].as_str() {
                    let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).unwrap();
                    let config = find(&all, "ConfigMap", text(&volume["configMap"]["name"]));
                    assert!(config["data"][key].is_string(), "{name}: the ConfigMap has no {key}");
                }
            }
        }
    }
    let labels = &stateful["spec"]["template"]["metadata"]["labels"];
    for (kind, name, selector) in [
        ("PodDisruptionBudget", "slated", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "slated", "/spec/podSelector/matchLabels"),
    ] {
        assert_eq!(find(&all, kind, name).pointer(selector), Some(labels), "{kind}");
    }
}

#[test]
fn ports_and_probes_are_the_services() {
    let all = resources();
    let loaded = service_settings(&all);
    let stateful = find(&all, "StatefulSet", "slated");
    let container = &stateful["spec"]["template"]["spec"]["containers"][0];
    let ports: BTreeMap<&str, u64> = list(&container["ports"])
        .iter()
        .map(|port| (text(&port["name"]), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports["http"], u64::from(port(&loaded["server.listen"].0)));
    assert_eq!(ports["admin"], u64::from(port(&loaded["server.admin_listen"].0)));
    let routes = routes();
    for (probe, path) in [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["path"], path, "{probe}");
        assert!(routes.iter().any(|route| route == path), "{path} is no route: {routes:?}");
        assert!(ports.contains_key(text(&asked["port"])), "{probe}");
    }
    for (service, name) in [("slated", "http"), ("slated-admin", "admin")] {
        let service = find(&all, "Service", service);
        assert_eq!(service["spec"]["selector"], stateful["spec"]["template"]["metadata"]["labels"]);
        assert_eq!(service["spec"]["ports"][0]["targetPort"], name);
        assert_eq!(service["spec"]["ports"][0]["port"].as_u64(), Some(ports[name]));
    }
    // Everyone in the namespace may ask, and only some may administer.
    for rule in list(&find(&all, "NetworkPolicy", "slated")["spec"]["ingress"]) {
        let name = text(&rule["ports"][0]["port"]);
        assert!(ports.contains_key(name), "no port {name}");
        let everyone =
            list(&rule["from"]).iter().any(|from| from["podSelector"] == json!({})) || list(&rule["from"]).is_empty();
        assert_eq!(everyone, name == "http", "{name}");
    }
    let grace = stateful["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let drain: u64 = loaded["server.drain_seconds"].0.parse().unwrap();
    assert!(grace >= before + drain + 10, "{grace} seconds are not enough to stop");
}

#[test]
fn pods_are_locked_and_know_where_to_write() {
    let all = resources();
    for workload in workloads(&all) {
        let name = text(&workload["metadata"]["name"]);
        let pod = &workload["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let expected = json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], expected, "{name}");
        for container in containers(pod) {
            let expected = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}});
            assert_eq!(container["securityContext"], expected, "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name} has no limit");
            assert_eq!(container["image"], "slated:cpu", "{name}");
        }
    }
    let loaded = service_settings(&all);
    let stateful = find(&all, "StatefulSet", "slated");
    let container = &stateful["spec"]["template"]["spec"]["containers"][0];
    let mounts: Vec<&Value> = list(&container["volumeMounts"]).iter().collect();
    for key in ["models.folder", "journal.folder", "catalogue.folder"] {
        let inside = |mount: &&Value| Path::new(&loaded[key].0).starts_with(text(&mount["mountPath"]));
        assert!(mounts.iter().any(|mount| inside(mount) && mount["readOnly"] != true), "{key} cannot be written");
    }
    for key in ["security.keys", "security.decision_secret"] {
        let inside = mounts.iter().any(|mount| Path::new(&loaded[key].0).starts_with(text(&mount["mountPath"])));
        assert!(inside, "{key} is mounted nowhere");
    }
    let arguments: Vec<String> = list(&container["args"]).iter().map(|one| text(one).to_owned()).collect();
    parses(&arguments);
    assert!(mounts.iter().any(|mount| arguments.contains(&text(&mount["mountPath"]).to_owned())), "{arguments:?}");
}

#[test]
fn the_autopilot_reads_the_first_replicas_journal() {
    let all = resources();
    let deployment = find(&all, "Deployment", "slated-autopilot");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments: Vec<String> = list(&container["args"]).iter().map(|one| text(one).to_owned()).collect();
    parses(&arguments);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("autopilot.toml");
    std::fs::write(&path, text(&find(&all, "ConfigMap", "slated-autopilot")["data"]["autopilot.toml"])).unwrap();
    let settings = AutopilotSettings::read(&path).unwrap();
    let admin = port(&service_settings(&all)["server.admin_listen"].0);
    assert_eq!(settings.service, format!("http://slated-0.slated-admin:{admin}"));
    let mount = |folder: &Path| {
        let found =
            list(&container["volumeMounts"]).iter().find(|mount| Path::new(text(&mount["mountPath"])) == folder);
        found.unwrap_or_else(|| panic!("{} is mounted nowhere", folder.display()))
    };
    assert_eq!(mount(&settings.journal)["readOnly"], true);
    assert_ne!(mount(&settings.models)["readOnly"], true);
    assert_ne!(mount(&settings.folder)["readOnly"], true);
    // Where one volume can be mounted on one node alone, and two of them would tell two stories.
    let near = &pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    let labels = &find(&all, "StatefulSet", "slated")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&near["labelSelector"]["matchLabels"], labels);
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&json!(1), &json!("Recreate"))
    );
    assert_eq!(container["env"][0]["name"], "SLATED_API_KEY");
}

/// The ConfigMap's own settings, with the paths of the container under a folder of the test.
#[tokio::test]
async fn a_service_with_these_settings_answers_the_probes_and_asks_for_keys() {
    let all = resources();
    let folder = TempDir::new().unwrap();
    let here = |path: &str| folder.path().join(path).display().to_string();
    std::fs::create_dir_all(folder.path().join("models")).unwrap();
    std::fs::create_dir_all(folder.path().join("etc/slated/secrets")).unwrap();
    crate::common::copy(&deploy("../models"), &folder.path().join("models"));
    let keys = here("etc/slated/secrets/keys.toml");
    let key = |name: &str, role: &str| {
        crate::common::must(folder.path(), &["key", "new", name, "--role", role, "--keys", &keys]).trim().to_owned()
    };
    let (_, measure) = (key("shop", "recommend"), key("prometheus", "metrics"));
    std::fs::write(here("etc/slated/secrets/decision.secret"), "0123456789abcdef0123456789abcdef").unwrap();
    let text = text(&find(&all, "ConfigMap", "slated")["data"]["slated.toml"])
        .replace("\"/", &format!("\"{}/", folder.path().display()));
    // Free when it was asked; nobody else asks for ports by number.
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    std::fs::write(here("slated.toml"), text.replace("0.0.0.0:8081", &admin)).unwrap();
    let policy = service_settings(&all)["models.default"].0.clone();
    let service = Service::start(folder.path(), &["--policy", &policy]);
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(service.get("/healthz").await.0, StatusCode::OK);
    let (status, _) = service.post("/recommend", &json!({"candidates": [{"id": "a"}], "slate_size": 1})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // Measured at the other address alone, with a key alone.
    assert_eq!(service.send(Method::GET, "/metrics", None).await.status(), StatusCode::NOT_FOUND);
    let client = Client::builder().no_proxy().build().unwrap();
    let asked = || client.get(format!("http://{admin}/metrics"));
    assert_eq!(asked().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(asked().bearer_auth(&measure).send().await.unwrap().status(), StatusCode::OK);
    service.stop();
}

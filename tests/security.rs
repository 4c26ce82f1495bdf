//! Keys and roles, ids that cannot be made up, an address for operators alone, TLS, and clients that never finish.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Workplace, request};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn set(place: &Workplace, settings: &str) {
    fs::write(place.path().join("slated.toml"), settings).unwrap();
}

fn key(place: &Workplace, name: &str, args: &[&str]) -> String {
    place.must(&[&["key", "new", name, "--keys", "keys.toml"], args].concat()).trim().to_owned()
}

fn ask(method: Method, url: &str, path: &str) -> RequestBuilder {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    client.request(method, format!("{url}{path}"))
}

async fn send(request: RequestBuilder, key: Option<&str>) -> Response {
    let request = match key {
        Some(key) => request.bearer_auth(key),
        None => request,
    };
    request.send().await.unwrap()
}

fn recommend(url: &str) -> RequestBuilder {
    let mut body = request("unused");
    body.as_object_mut().unwrap().remove("event_id");
    ask(Method::POST, url, "/recommend").json(&body)
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(10), "not in 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_roles_say_and_changes_without_a_restart() {
    let place = Workplace::new();
    set(&place, "[security]\nkeys = \"keys.toml\"\nreload_seconds = 0.1\n");
    let shop = key(&place, "shop", &["--role", "recommend", "--role", "feedback"]);
    let operator = key(&place, "operator", &["--role", "admin"]);
    let prometheus = key(&place, "prometheus", &["--role", "metrics"]);
    let gone = key(&place, "gone", &["--role", "recommend", "--expires", "2020-01-01T00:00:00Z"]);
    let text = fs::read_to_string(place.path().join("keys.toml")).unwrap();
    assert!(!text.contains(&shop) && text.contains("sha256"), "{text}");
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(place.path().join("keys.toml")).unwrap()) & 0o777,
        0o600
    );

    let service = place.serve(&[]);
    let url = service.url.as_str();
    let change = json!({"action": "promote", "version": 1, "by": "anna", "why": "test"});
    let routes = [
        (recommend(url), "recommend"),
        (ask(Method::GET, url, "/decisions/none"), "recommend"),
        (ask(Method::POST, url, "/feedback").json(&json!({"decision_id": "d", "event": "click"})), "feedback"),
        (ask(Method::GET, url, "/policies"), "admin"),
        (ask(Method::POST, url, "/policies/thompson/route").json(&change), "admin"),
        (ask(Method::PUT, url, "/items/x").json(&json!({"features": {}})), "admin"),
        (ask(Method::POST, url, "/journal/seal"), "admin"),
        (ask(Method::GET, url, "/metrics"), "metrics"),
    ];
    for (request, role) in &routes {
        for bad in [None, Some("slk_0000"), Some(gone.as_str()), Some("")] {
            let answer = send(request.try_clone().unwrap(), bad).await;
            assert_eq!(
                (answer.status(), answer.headers()["www-authenticate"].to_str().unwrap()),
                (StatusCode::UNAUTHORIZED, "Bearer")
            );
            assert_eq!(answer.json::<Value>().await.unwrap()["type"], "urn:slated:problem:unauthenticated");
        }
        for (key, roles) in [(&shop, "recommend, feedback"), (&operator, "admin"), (&prometheus, "metrics")] {
            let answer = send(request.try_clone().unwrap(), Some(key)).await;
            if roles.contains(role) {
                assert!(!matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), "{role} {roles}");
            } else {
                assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{role} {roles}");
                let problem: Value = answer.json().await.unwrap();
                assert!(problem["detail"].as_str().unwrap().contains(&format!("`{role}`")), "{problem}");
            }
        }
    }
    for open in ["/healthz", "/readyz", "/openapi.yaml"] {
        assert_eq!(send(ask(Method::GET, url, open), None).await.status(), StatusCode::OK);
    }
    let answer = recommend(url).header("x-api-key", &shop).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "the other header");

    // Rotation: the new key works beside the old one, then alone; a file that is none changes nothing.
    let renewed = key(&place, "shop-2", &["--role", "recommend"]);
    until("the new key", || async { send(recommend(url), Some(&renewed)).await.status() == StatusCode::OK }).await;
    place.must(&["key", "revoke", "shop", "--keys", "keys.toml"]);
    until("the old one is out", || async {
        send(recommend(url), Some(&shop)).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    fs::write(place.path().join("keys.toml"), "[[keys]]\nname = \"half\"").unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(send(recommend(url), Some(&renewed)).await.status(), StatusCode::OK);
    assert!(!place.must(&["config"]).contains(&shop));
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_own_limit() {
    let place = Workplace::new();
    set(&place, "[security]\nkeys = \"keys.toml\"\n");
    let limited = key(&place, "limited", &["--role", "recommend", "--requests-per-second", "1", "--burst", "3"]);
    let free = key(&place, "free", &["--role", "recommend"]);
    let service = place.serve(&[]);
    let mut refused = 0;
    for _ in 0..6 {
        let answer = send(recommend(&service.url), Some(&limited)).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()["retry-after"], "1");
            refused += 1;
        }
        assert_eq!(send(recommend(&service.url), Some(&free)).await.status(), StatusCode::OK);
    }
    assert!((2..=3).contains(&refused), "{refused}");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_an_address_of_their_own() {
    let place = Workplace::new();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    set(&place, &format!("[server]\nadmin_listen = \"{admin}\"\n"));
    let service = place.serve(&[]);
    let admin = format!("http://{admin}");
    for path in ["/policies", "/metrics", "/items/x"] {
        let answer = send(ask(Method::GET, &service.url, path), None).await;
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("there is nothing at"), "{path}: {problem}");
    }
    for path in ["/policies", "/metrics", "/readyz"] {
        assert_eq!(send(ask(Method::GET, &admin, path), None).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(send(recommend(&service.url), None).await.status(), StatusCode::OK);
    assert_eq!(send(recommend(&admin), None).await.status(), StatusCode::NOT_FOUND);
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_on_a_decision_that_nobody_made_is_refused_by_any_replica() {
    let (first, second, other) = (Workplace::new(), Workplace::new(), Workplace::new());
    for (place, secret) in [(&first, "a"), (&second, "a"), (&other, "b")] {
        fs::write(place.path().join("secret"), secret.repeat(40)).unwrap();
        set(place, "[security]\ndecision_secret = \"secret\"\n");
    }
    set(&other, "[security]\ndecision_secret = \"secret\"\ncaller_ids = false\n");
    let (first, second, other) = (first.serve(&[]), second.serve(&[]), other.serve(&[]));
    let about = |id: &str| json!({"decision_id": id, "event": "click", "position": 0});
    let mine = first.ok("/recommend", &request("mine")).await;
    let id = mine["decision_id"].as_str().unwrap();
    assert!(id.starts_with("mine.") && id.len() == "mine.".len() + 20, "{id}");
    assert_eq!(first.ok("/recommend", &request("mine")).await, mine, "sent again");
    let given = send(recommend(&first.url), None).await.json::<Value>().await.unwrap();
    for id in [id, given["decision_id"].as_str().unwrap()] {
        first.ok("/feedback", &about(id)).await;
        second.ok("/feedback", &about(id)).await;
        let (status, problem) = other.post("/feedback", &json!([about(id)])).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("[0].decision_id"))
        );
    }
    let (status, problem) = first.post("/feedback", &about("mine")).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("decision_id")));

    let (status, problem) = other.post("/recommend", &request("mine")).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("event_id")));
    let mut slots = request("unused");
    let (candidates, slate_size) = (slots["candidates"].take(), slots["slate_size"].take());
    let body = json!({"user": slots["user"], "context": slots["context"],
        "slots": [{"slot": "top", "candidates": candidates, "slate_size": slate_size}]});
    let page = other.ok("/recommend/slots", &body).await;
    other.ok("/feedback", &about(page["slots"][0]["decision_id"].as_str().unwrap())).await;
    for service in [first, second, other] {
        service.stop();
    }
}

/// Sends a byte a second until the service closes the connection; how long that took.
async fn drip(url: &str, bytes: &[u8]) -> (Duration, String) {
    let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let mut buffer = [0; 1024];
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(read)) => answer.extend_from_slice(&buffer[..read]),
            Err(_) => assert!(started.elapsed() < Duration::from_secs(15), "it waits for ever"),
        }
        if !answer.is_empty() {
            break;
        }
    }
    (started.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_a_byte_a_second_is_not_waited_for() {
    let place = Workplace::new();
    set(&place, "[server]\nheader_timeout_seconds = 2\nrequest_timeout_ms = 2000\n");
    let service = place.serve(&[]);
    let (took, _) = drip(&service.url, b"POST /recommend HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(took < Duration::from_secs(6), "headers: {took:?}");
    // Headers at once, the body slowly.
    let address: SocketAddr = service.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let started = Instant::now();
    let mut buffer = [0; 1024];
    let read = loop {
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(read) => break read.unwrap(),
            Err(_) => stream.write_all(b" ").await.unwrap(),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it waits for ever");
    };
    let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(started.elapsed() < Duration::from_secs(6) && answer.starts_with("HTTP/1.1 503"), "{answer}");
    // Others were answered all the while.
    assert_eq!(send(recommend(&service.url), None).await.status(), StatusCode::OK);
    service.stop();
}

/// A certificate for 127.0.0.1 of its own making, written where the settings say.
fn certify(folder: &Path) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_and_takes_up_new_certificates() {
    let place = Workplace::new();
    set(
        &place,
        "[server]\ntls_certificate = \"certificate.pem\"\ntls_key = \"key.pem\"\n[security]\nreload_seconds = 0.1\n",
    );
    let first = certify(place.path());
    let service = place.serve(&[]);
    assert!(service.url.starts_with("https://"), "{}", service.url);
    let trusting =
        |certificate: &Certificate| Client::builder().no_proxy().tls_certs_only([certificate.clone()]).build().unwrap();
    let url = format!("{}/recommend", service.url);
    let post = async |certificate: &Certificate| trusting(certificate).post(&url).json(&request("tls")).send().await;
    assert_eq!(post(&first).await.unwrap().status(), StatusCode::OK);
    let plain = url.replace("https", "http");
    assert!(Client::builder().no_proxy().build().unwrap().post(plain).json(&request("plain")).send().await.is_err());
    let second = certify(place.path());
    until("the new certificate", || async { post(&second).await.is_ok() }).await;
    assert!(post(&first).await.is_err());
    // Half a certificate changes nothing.
    fs::write(place.path().join("certificate.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(post(&second).await.is_ok());
    service.stop();

    let output = common::slated(place.path(), &["serve", "--listen", "127.0.0.1:0", "--policy", "thompson"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("`server.tls_certificate`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pages_of_named_origins_may_call() {
    let place = Workplace::new();
    for (settings, allowed) in [("", false), ("[security]\ncors_origins = [\"https://shop.example\"]\n", true)] {
        set(&place, settings);
        let service = place.serve(&[]);
        for (origin, ours) in [("https://shop.example", true), ("https://evil.example", false)] {
            let preflight = ask(Method::OPTIONS, &service.url, "/recommend")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "content-type,authorization");
            let answer = send(preflight, None).await;
            let told = answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(told, (allowed && ours).then_some(origin));
        }
        service.stop();
    }
}

#[test]
fn what_cannot_be_used_is_said_at_the_start() {
    let place = Workplace::new();
    fs::write(place.path().join("short"), "secret").unwrap();
    fs::write(place.path().join("bad.toml"), "[[keys]]\nname = \"x\"\nroles = []\nsha256 = \"00\"\n").unwrap();
    for (settings, words) in [
        ("[security]\nkeys = \"absent.toml\"\n", "absent.toml"),
        ("[security]\nkeys = \"bad.toml\"\n", "key `x`"),
        ("[security]\ndecision_secret = \"short\"\n", "at least 32"),
        ("[server]\ntls_key = \"key.pem\"\n", "`server.tls_certificate`"),
    ] {
        set(&place, settings);
        let output = common::slated(place.path(), &["serve", "--listen", "127.0.0.1:0", "--policy", "thompson"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() != Some(0) && error.contains(words), "{settings}: {error}");
    }
}

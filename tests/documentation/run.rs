//! Runs what a page says, in a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::page::{Block, Page, root};

/// What the pages call the service, and where it is administered where that is elsewhere.
const ADDRESSES: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8081"];
/// How long one block may take; generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is there before a page's first command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The examples, and nothing else.
    Nothing,
    /// The example's log in `journal/`, and `shop` version 1 in `models/`, learned from it.
    Shop,
    /// That, `shop` served, a decision `page-1` with its click, and a version 2 that is live.
    Service,
}

/// A folder in which a page is tried, with addresses that nobody else listens at.
pub struct Trial {
    folder: TempDir,
    /// Held until the service takes them.
    ports: Vec<TcpListener>,
    addresses: Vec<String>,
    running: Vec<Child>,
}

impl Trial {
    pub fn new(setup: Setup) -> Result<Self, String> {
        let folder = TempDir::new().unwrap();
        crate::common::copy(shop(setup != Setup::Nothing), folder.path());
        let ports: Vec<TcpListener> = ADDRESSES.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        let mut trial = Self { folder, ports, addresses, running: Vec::new() };
        if setup == Setup::Service {
            trial.serve("slated serve --policy shop")?;
            let told = r#"
                curl -s 127.0.0.1:8080/recommend -H 'Content-Type: application/json' -d '{"event_id": "page-1",
                  "user_id": "user-42", "candidates": [{"id": "mug", "features": {"price": 9}}], "slate_size": 1}'
                curl -s 127.0.0.1:8080/feedback -H 'Content-Type: application/json' \
                  -d '{"decision_id": "page-1", "event": "click", "position": 0}'"#;
            trial.run(told, 0)?;
            let second = "slated train --policy shop --algorithm square_cb
                curl -s -X POST 127.0.0.1:8080/policies/shop/versions/2/load";
            trial.run(second, 0)?;
        }
        Ok(trial)
    }

    /// Does what a block says: writes its file, or runs its commands.
    pub fn block(&mut self, block: &Block) -> Result<(), String> {
        let mut text = block.text.clone();
        for (long, quick) in block
            .word("quick")
            .into_iter()
            .flat_map(|pairs| pairs.split("; "))
            .map(|pair| pair.split_once(" => ").unwrap_or_else(|| panic!("quick=\"long => quick\", not `{pair}`")))
        {
            if !text.contains(long) {
                return Err(format!("`{long}` of `quick` is not in the block"));
            }
            text = text.replace(long, quick);
        }
        if let Some(file) = block.word("file") {
            let path = self.folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, self.here(&text)).unwrap();
        }
        if block.language != "sh" || block.word("not-run").is_some() {
            return Ok(());
        }
        if block.word("service").is_some() {
            return self.serve(&text);
        }
        let expected = block.word("exit").map_or(0, |code| code.parse().expect("exit=<number>"));
        self.run(&text, expected)
    }

    /// Runs commands to their end, which must be with `expected`.
    fn run(&self, text: &str, expected: i32) -> Result<(), String> {
        let output = self.folder.path().join(".output");
        let file = fs::File::create(&output).unwrap();
        let mut child = self.shell(text).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => {
                    end(&mut child);
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let said = fs::read(&output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        match ended {
            Some(status) if status.code() == Some(expected) => Ok(()),
            Some(status) => Err(format!("ended with {status}, expected was {expected}:\n{}", end_of(&said))),
            None => Err(format!("did not end in {PATIENCE:?}; does it need `service`?\n{}", end_of(&said))),
        }
    }

    /// Starts commands of which the last is a service, and waits until it listens.
    fn serve(&mut self, text: &str) -> Result<(), String> {
        self.ports.clear();
        let log = fs::File::create(self.folder.path().join(".service")).unwrap();
        let mut child = self.shell(text).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        self.running.push(child);
        let (tell, told) = std::sync::mpsc::channel();
        // Reads on, because a service that cannot write its output may end.
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if line.starts_with("listening on ") {
                    let _ = tell.send(());
                }
            }
        });
        told.recv_timeout(PATIENCE).map_err(|_| {
            let log = fs::read(self.folder.path().join(".service")).unwrap_or_default();
            format!("it does not say `listening on`:\n{}", end_of(&String::from_utf8_lossy(&log)))
        })
    }

    /// A shell that stops at the first command that fails, in which `slated` is the one under test.
    fn shell(&self, text: &str) -> Command {
        let binaries = Path::new(env!("CARGO_BIN_EXE_slated")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        // An answer that is an error is one here, as it is for whoever reads it.
        let text = format!("curl() {{ command curl --fail-with-body \"$@\"; }}\n{}", self.here(text));
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-euo", "pipefail", "-c", &text]);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLATED_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .env("PATH", format!("{}:{path}", binaries.display()))
            .env("NO_PROXY", "127.0.0.1")
            .env("SLATED_SERVER__LISTEN", &self.addresses[0])
            .env("SLATED_LOG__LEVEL", "warn")
            .stdin(Stdio::null())
            // So that what it started ends with it.
            .process_group(0);
        command
    }

    /// A text with the addresses of this trial.
    fn here(&self, text: &str) -> String {
        let pairs = ADDRESSES.iter().zip(&self.addresses);
        pairs.fold(text.to_owned(), |text, (known, here)| text.replace(known, here))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(end);
    }
}

/// The last lines, where what went wrong is.
fn end_of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Ends a shell and all that it started.
fn end(child: &mut Child) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
    let _ = child.wait();
}

/// A folder with the examples; with the log and the policy too.
fn shop(learned: bool) -> &'static Path {
    static EMPTY: OnceLock<TempDir> = OnceLock::new();
    static SHOP: OnceLock<TempDir> = OnceLock::new();
    let examples = |folder: &TempDir| {
        for part in ["examples", "models"] {
            let to = folder.path().join(part);
            fs::create_dir(&to).unwrap();
            crate::common::copy(&root().join(part), &to);
        }
    };
    if !learned {
        let make = || {
            let folder = TempDir::new().unwrap();
            examples(&folder);
            folder
        };
        return EMPTY.get_or_init(make).path();
    }
    let make = || {
        let folder = TempDir::new().unwrap();
        examples(&folder);
        crate::common::must(folder.path(), &["journal", "import", "jsonl", "examples/shop"]);
        crate::common::must(folder.path(), &["train", "--policy", "shop", "--seed", "1"]);
        folder
    };
    SHOP.get_or_init(make).path()
}

/// What a page asks to be there: `<!-- commands: shop -->`.
pub fn setup(page: &Page) -> Setup {
    let Some((_, after)) = page.text.split_once("<!-- commands: ") else {
        return Setup::Nothing;
    };
    match after.split_once(" -->").map(|(name, _)| name) {
        Some("shop") => Setup::Shop,
        Some("service") => Setup::Service,
        other => panic!("{}: `commands: {other:?}` is none of shop and service", page.path.display()),
    }
}

/// Runs a page's blocks in order; what went wrong.
pub fn run(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    if !blocks.iter().any(|block| block.language == "sh" && block.word("not-run").is_none()) {
        return Vec::new();
    }
    let mut trial = match Trial::new(setup(page)) {
        Ok(trial) => trial,
        Err(error) => return vec![format!("{}: what its commands ask for: {error}", page.path.display())],
    };
    let mut wrong = Vec::new();
    for block in &blocks {
        if let Err(error) = trial.block(block) {
            wrong.push(format!("{}:{}: {error}", page.path.display(), block.line));
        }
    }
    wrong
}

//! Every command of the documentation is run, or says why not.
//!
//! `docs/decisions/documentation.md` has what may stand behind a fence.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::page::pages;
use crate::run::run;

/// Languages of blocks in which there may be no commands.
const NO_COMMANDS: [&str; 9] = ["text", "toml", "json", "sql", "python", "yaml", "ini", "ts", "rust"];
/// What a line of commands begins with.
const COMMANDS: [&str; 9] =
    ["slated ", "make ", "curl ", "docker ", "cargo ", "kubectl ", "systemctl ", "scripts/", "pip "];
/// What may stand behind `sh`.
const WORDS: [&str; 4] = ["not-run", "quick", "exit", "service"];
/// How many blocks there are whose commands are not run. A greater number needs a reason; a smaller one is welcome.
const NOT_RUN: usize = 21;

/// `PAGES=traffic` runs those alone whose path has this in it.
#[test]
fn every_command_runs() {
    let wanted = std::env::var("PAGES").unwrap_or_default();
    let pages: Vec<_> = pages().into_iter().filter(|page| page.path.to_string_lossy().contains(&wanted)).collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    wrong.lock().unwrap().extend(run(page));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} blocks went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_not_run_says_why() {
    let mut not_run = Vec::new();
    for page in pages() {
        for block in page.blocks() {
            let at = format!("{}:{}", page.path.display(), block.line);
            for (word, _) in &block.words {
                let known = if block.language == "sh" {
                    WORDS.contains(&word.as_str())
                } else {
                    ["file", "quick"].contains(&word.as_str())
                };
                assert!(known, "{at}: `{word}` means nothing behind `{}`", block.language);
            }
            if let Some(reason) = block.word("not-run") {
                assert!(reason.len() > 10, "{at}: not-run=\"why not\"");
                not_run.push(format!("{at}: {reason}"));
            }
        }
    }
    println!("not run:\n{}", not_run.join("\n"));
    assert!(
        not_run.len() <= NOT_RUN,
        "{} blocks are not run, {NOT_RUN} are known:\n{}",
        not_run.len(),
        not_run.join("\n")
    );
}

#[test]
fn commands_stand_where_they_are_run() {
    let mut astray = Vec::new();
    for page in pages() {
        let path = page.path.display();
        for block in page.blocks() {
            let known = block.language == "sh" || NO_COMMANDS.contains(&block.language.as_str());
            let said = "say `sh` for commands, `text` for what is printed";
            if !known {
                astray.push(format!("{path}:{}: a block of `{}`; {said}", block.line, block.language));
            }
            // A page that the code writes shows help texts, whose examples are read by the command line's own parser.
            if block.language == "text" && !page.path.starts_with("docs/reference") {
                let command = block.text.lines().find(|line| COMMANDS.iter().any(|word| line.starts_with(word)));
                astray.extend(command.map(|command| format!("{path}:{}: `{command}` is not run; {said}", block.line)));
            }
        }
        for (line, text) in page.prose() {
            let indented =
                text.strip_prefix("    ").is_some_and(|text| COMMANDS.iter().any(|word| text.starts_with(word)));
            if indented {
                astray.push(format!("{path}:{line}: `{}` is not run; put it into a block of `sh`", text.trim()));
            }
        }
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

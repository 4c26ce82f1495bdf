//! A Markdown page: its headings, links and fenced blocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A page of the documentation.
#[derive(Debug)]
pub struct Page {
    /// Its path, from the repository's root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    /// The first word after the fence.
    pub language: String,
    /// The other words: `name` or `name="value"`.
    pub words: Vec<(String, Option<String>)>,
    /// What is in it.
    pub text: String,
}

impl Block {
    /// The value of a word; empty where it has none.
    pub fn word(&self, name: &str) -> Option<&str> {
        let found = self.words.iter().find(|(word, _)| word == name)?;
        Some(found.1.as_deref().unwrap_or_default())
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page: the README, that of the models, and all of `docs/`.
pub fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> = ["README.md", "models/README.md"].map(PathBuf::from).into();
    paths.extend(crate::common::files(root(), Path::new("docs")));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let read = |path: PathBuf| Page { text: std::fs::read_to_string(root().join(&path)).unwrap(), path };
    paths.into_iter().map(read).collect()
}

impl Page {
    /// Its fenced blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(information), None) => {
                    let (language, rest) = information.split_once(' ').unwrap_or((information, ""));
                    let at = format!("{}:{}", self.path.display(), index + 1);
                    open = Some(Block {
                        line: index + 1,
                        language: language.to_owned(),
                        words: words(rest, &at),
                        text: String::new(),
                    });
                }
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.path.display());
        blocks
    }

    /// Its lines outside of fenced blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((index + 1, line));
            }
        }
        lines
    }

    /// What its headings are linked by.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let Some((_, heading)) = line.split_once("# ").filter(|(marks, _)| marks.chars().all(|mark| mark == '#'))
            else {
                continue;
            };
            let base = anchor(heading);
            let mut anchor = base.clone();
            for number in 1.. {
                if anchors.insert(anchor) {
                    break;
                }
                anchor = format!("{base}-{number}");
            }
        }
        anchors
    }

    /// Its links: line and target.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            let text = without_code(text);
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("](") {
                let end =
                    after.find(')').unwrap_or_else(|| panic!("{}:{line}: a link is not closed", self.path.display()));
                links.push((line, after[..end].to_owned()));
                rest = &after[end..];
            }
            // A reference's definition: `[name]: target`.
            if let Some((name, target)) = text.split_once("]: ")
                && name.starts_with('[')
            {
                links.push((line, target.trim().to_owned()));
            }
        }
        links
    }
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let characters = heading.trim().chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ if character.is_alphanumeric() => Some(character.to_ascii_lowercase()),
        _ => None,
    });
    characters.collect()
}

/// A line with what stands between backticks left out.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// `name`, `name=value` and `name="a value"`.
fn words(text: &str, at: &str) -> Vec<(String, Option<String>)> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut value = None;
        if let Some(after) = rest.strip_prefix("=\"") {
            let close = after.find('"').unwrap_or_else(|| panic!("{at}: a quotation mark is not closed"));
            value = Some(after[..close].to_owned());
            rest = &after[close + 1..];
        } else if let Some(after) = rest.strip_prefix('=') {
            let end = after.find(' ').unwrap_or(after.len());
            value = Some(after[..end].to_owned());
            rest = &after[end..];
        }
        words.push((name, value));
        rest = rest.trim_start();
    }
    words
}

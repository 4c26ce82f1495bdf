//! Keeping out of the service's way: niceness, and few processors.

use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::settings::LimitSettings;

/// What could be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The niceness; absent where the system's `renice` is not there or refuses.
    pub nice: Option<u8>,
    /// The processors that it runs on, as a list; absent where the system's `taskset` is not there or refuses.
    pub processors: Option<String>,
}

impl Quiet {
    /// Lowers the priority of this process and pins it to the last of the processors that it may use. To be called before
    /// there are threads: those that begin later inherit both, and every part that takes as many threads as there are
    /// processors then takes as many as it may.
    ///
    /// Both are done by the system's own tools, `renice` and `taskset`. Where one is not there, as on systems that are not
    /// Linux, the autopilot runs without it and says so in its log and in its reports.
    #[must_use]
    pub fn down(limits: &LimitSettings) -> Self {
        let pid = std::process::id().to_string();
        let nice = limits.nice.to_string();
        let quiet = Self {
            nice: done("renice", &["-n", &nice, "-p", &pid]).then_some(limits.nice),
            processors: processors(limits.threads).filter(|list| done("taskset", &["-p", "-c", list, &pid])),
        };
        if quiet.nice.is_none() {
            tracing::warn!(
                nice,
                "the niceness cannot be set: `renice` is not there, or refuses; cycles compete with the service"
            );
        }
        if quiet.processors.is_none() {
            tracing::warn!(
                threads = limits.threads,
                "the processors cannot be limited: `taskset` is not there, or refuses; cycles may use all"
            );
        }
        quiet
    }
}

fn done(tool: &str, arguments: &[&str]) -> bool {
    let run =
        Command::new(tool).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// The last so many of the processors that this process may use.
fn processors(most: usize) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    last(list.trim(), most)
}

/// The last so many of a list such as `0-3,8`.
fn last(list: &str, most: usize) -> Option<String> {
    let mut all = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        all.extend(from.parse::<usize>().ok()?..=to.parse().ok()?);
    }
    let chosen: Vec<String> = all.iter().skip(all.len().saturating_sub(most)).map(usize::to_string).collect();
    Some(chosen.join(","))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_processors_are_taken_of_those_that_there_are() {
        assert_eq!(super::last("0-3,8", 2).as_deref(), Some("3,8"));
        assert_eq!(super::last("5", 4).as_deref(), Some("5"));
        assert_eq!(super::last("all", 4), None);
    }
}

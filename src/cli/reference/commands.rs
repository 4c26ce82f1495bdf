//! The command line, from clap's own tree.

use std::fmt::Write;

use clap::{Arg, Command};

use super::{cell, generated};

const ABOUT: &str = "What `slated help` and `slated <command> --help` print. A test reads every example below with the command line's own \
parser.";

/// The page.
pub fn page(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut text = generated("Command line", ABOUT);
    let _ = writeln!(text, "\n## Flags of every command\n");
    table(&mut text, command.get_arguments().filter(|arg| arg.is_global_set()));
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(text, "\n```text\n{after}\n```");
    }
    describe(&mut text, &command, "slated", 2);
    text
}

fn describe(text: &mut String, command: &Command, path: &str, depth: usize) {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let path = format!("{path} {}", subcommand.get_name());
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n{} `{path}`\n", "#".repeat(depth));
        if let Some(about) = subcommand.get_long_about().or(subcommand.get_about()) {
            let _ = writeln!(text, "{}\n", sentence(&about.to_string()));
        }
        if subcommand.has_subcommands() {
            describe(text, subcommand, &path, depth + 1);
            continue;
        }
        let usage = subcommand.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let _ = writeln!(text, "```text\n{usage}\n```");
        let own: Vec<&Arg> = subcommand
            .get_arguments()
            .filter(|arg| {
                !arg.is_global_set() && !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())
            })
            .collect();
        if !own.is_empty() {
            text.push('\n');
            table(text, own.into_iter());
        }
        if let Some(after) = subcommand.get_after_long_help().or(subcommand.get_after_help()) {
            let _ = writeln!(text, "\n```text\n{}\n```", after.to_string().trim_end());
        }
    }
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| argument | what | default |\n|---|---|---|\n");
    for arg in arguments {
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| format!("`{}`", cell(&value.to_string_lossy()))).collect();
        // A switch is off where it is absent; clap calls that a default.
        let defaults = if arg.get_action().takes_values() { defaults.join(", ") } else { String::new() };
        let _ = writeln!(text, "| {} | {} | {defaults} |", name(arg), what(arg));
    }
}

fn name(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())
        .unwrap_or_default()
        .iter()
        .map(|name| if arg.is_positional() { name.to_string() } else { format!("<{name}>") })
        .collect();
    let values = values.join(" ");
    if arg.is_positional() {
        let many = if arg.get_num_args().is_some_and(|range| range.max_values() > 1) { "..." } else { "" };
        let whole = if arg.is_required_set() { format!("<{values}>{many}") } else { format!("[{values}]{many}") };
        return format!("`{}`", cell(&whole));
    }
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let long = arg.get_long().unwrap_or_else(|| arg.get_id().as_str());
    let space = if values.is_empty() { "" } else { " " };
    format!("{short}`--{long}{space}{}`", cell(&values))
}

/// With the full stop that clap takes from the end.
fn sentence(text: &str) -> String {
    if text.ends_with(['.', '?', '!', ':']) { text.to_owned() } else { format!("{text}.") }
}

fn what(arg: &Arg) -> String {
    let mut what = arg.get_help().map(|help| sentence(&cell(&help.to_string()))).unwrap_or_default();
    let values = arg.get_possible_values();
    let values: Vec<String> = values
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), cell(&help.to_string())),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        let _ = write!(what, " One of {}.", values.join(", "));
    }
    if arg.is_required_set() && !arg.is_positional() {
        what.push_str(" Required.");
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(what, " Or the variable `{}`.", variable.to_string_lossy());
    }
    what
}

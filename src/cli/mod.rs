//! The command line: one file a subcommand.

mod autopilot;
mod companion;
mod completions;
mod config;
mod demo;
mod evaluate;
mod exit;
mod healthcheck;
mod journal;
mod key;
mod openapi;
mod policy;
mod progress;
mod reference;
mod route;
mod serve;
mod simulate;
mod train;
mod tune;
mod wrap;

pub use serve::assemble;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::settings::{Flag, Layered, LogFormat};
use crate::telemetry;

/// Serves recommendation policies, journals every interaction, and learns the next policy from the journal.
#[derive(Debug, Parser)]
#[command(name = "slated", version, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, Args)]
struct Global {
    /// Settings file in TOML; `slated.toml` in the current folder is read where it exists.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look. Logs go to the standard error.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged, such as `info` or `slated=debug,info`.
    #[arg(long, global = true, value_name = "FILTER")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Train(train::TrainArgs),
    Evaluate(evaluate::EvaluateArgs),
    Simulate(simulate::SimulateArgs),
    Tune(tune::TuneArgs),
    Autopilot(autopilot::AutopilotArgs),
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    Demo(demo::DemoArgs),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Config(config::ConfigArgs),
    Openapi(openapi::OpenapiArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
}

impl Global {
    /// The settings, with the flags of a subcommand on top.
    fn settings(&self, flags: impl IntoIterator<Item = Option<Flag>>) -> anyhow::Result<Layered> {
        let own =
            [Flag::given("log.format", self.log_format.as_ref()), Flag::given("log.level", self.log_level.as_ref())];
        let flags: Vec<Flag> = own.into_iter().chain(flags).flatten().collect();
        Ok(Layered::read(self.config.as_deref(), &flags)?)
    }

    /// The settings, with logging started.
    fn start(&self, flags: impl IntoIterator<Item = Option<Flag>>) -> anyhow::Result<Layered> {
        let layered = self.settings(flags)?;
        telemetry::start_logging(&layered.settings.log)?;
        Ok(layered)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let result = match command {
        Command::Serve(args) => serve::run(&global, &args),
        Command::Train(args) => train::run(&global, &args),
        Command::Evaluate(args) => evaluate::run(&global, &args),
        Command::Simulate(args) => simulate::run(&global, &args),
        Command::Tune(args) => tune::run(&global, &args),
        Command::Autopilot(args) => autopilot::run(&global, &args),
        Command::Journal(command) => journal::run(&global, &command),
        Command::Demo(args) => demo::run(&global, &args),
        Command::Policy(command) => policy::run(&global, &command),
        Command::Key(command) => key::run(&global, command),
        Command::Config(args) => config::run(&global, &args),
        Command::Openapi(args) => openapi::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&global, &args),
        Command::Completions(args) => completions::run::<Cli>(&args),
        Command::Reference(args) => reference::run::<Cli>(&args),
    };
    telemetry::flush();
    exit::code(result)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_is_a_command_line() {
        fn collect(command: &clap::Command, examples: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // A line that ends in a backslash goes on in the next.
            let lines = help.replace("\\\n", " ");
            let commands =
                lines.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.contains("slated "));
            examples.extend(commands.map(str::to_owned));
            for subcommand in command.get_subcommands() {
                collect(subcommand, examples);
            }
        }
        let mut examples = Vec::new();
        collect(&super::Cli::command(), &mut examples);
        assert!(examples.len() > 60, "{}", examples.len());
        for example in examples {
            let words = words(&example);
            let begin = words.iter().position(|word| word == "slated").unwrap_or_else(|| panic!("{example}"));
            let read = |words: &[String]| super::Cli::command().try_get_matches_from(words).map(drop);
            let read = read(&words[begin..]).or_else(|error| match error.kind() {
                // The variable USER says who asks, where there is one.
                ErrorKind::MissingRequiredArgument => read(&[&words[begin..], &["--by=anna".to_owned()]].concat()),
                _ => Err(error),
            });
            if let Err(error) = read {
                panic!("`{example}` in the help: {error}");
            }
        }
    }

    /// The words of a line as a shell reads them, up to a redirection, a pipe or a comment.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
        for character in line.chars() {
            match (character, quote) {
                (_, Some(open)) if character == open => quote = None,
                (_, Some(_)) => word.get_or_insert_default().push(character),
                ('\'' | '"', None) => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (' ', None) => words.extend(word.take()),
                ('|' | '>' | '#' | ';', None) if word.is_none() => return words,
                (_, None) => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        words
    }
}

//! `slated completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print shell completions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated completions bash > /etc/bash_completion.d/slated
  slated completions zsh > ~/.zfunc/_slated")]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the completions of `C`.
pub fn run<C: CommandFactory>(args: &CompletionsArgs) -> anyhow::Result<()> {
    clap_complete::generate(args.shell, &mut C::command(), "slated", &mut std::io::stdout());
    Ok(())
}

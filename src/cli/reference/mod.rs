//! `slated reference`: the pages of the book that the code writes about itself.

mod api;
mod commands;
mod metrics;
mod settings;

use clap::{Args, CommandFactory, ValueEnum};

/// Print a page of the reference in Markdown, as it stands in `docs/reference/`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// Which page.
    page: Page,
}

/// The pages.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// The command line.
    Cli,
    /// What `slated.toml` sets.
    Settings,
    /// What `/metrics` shows.
    Metrics,
    /// The HTTP interface.
    Api,
}

/// Prints a page; `C` is the command line.
pub fn run<C: CommandFactory>(args: &ReferenceArgs) -> anyhow::Result<()> {
    let page = match args.page {
        Page::Cli => commands::page(&C::command()),
        Page::Settings => settings::page()?,
        Page::Metrics => metrics::page(),
        Page::Api => api::page()?,
    };
    print!("{page}");
    Ok(())
}

/// What each page says of itself.
fn generated(title: &str, what: &str) -> String {
    format!("# {title}\n\n<!-- Written by `slated reference`; `make reference` writes it anew. -->\n\n{what}\n")
}

/// A text as it may stand in a cell of a table: in one line, without what would end the cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

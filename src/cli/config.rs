//! `slated config`.

use clap::Args;

use super::Global;
use super::serve::ServeArgs;

/// Print the settings in force, and where each came from.
///
/// The layers are: defaults, `slated.toml` (or `--config`), variables `SLATED_<SECTION>__<KEY>`, flags; the later wins.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated config
  SLATED_SERVER__MAX_CANDIDATES=500 slated config --listen 0.0.0.0:8080
  slated config --json")]
pub struct ConfigArgs {
    /// Print JSON lines of `{\"key\", \"value\", \"source\"}`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Prints the settings.
pub fn run(global: &Global, args: &ConfigArgs) -> anyhow::Result<()> {
    let origins = global.settings(args.serve.flags())?.origins();
    if args.json {
        for origin in &origins {
            println!("{}", serde_json::to_string(origin)?);
        }
        return Ok(());
    }
    let width = |text: fn(&crate::settings::Origin) -> &String| {
        origins.iter().map(|origin| text(origin).len()).max().unwrap_or(0)
    };
    let (keys, values) = (width(|origin| &origin.key), width(|origin| &origin.value));
    for origin in &origins {
        println!("{:keys$} = {:values$}  # {}", origin.key, origin.value, origin.source);
    }
    Ok(())
}

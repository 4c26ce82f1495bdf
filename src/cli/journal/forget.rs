//! `slated journal forget`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::journal::upkeep::Forgetting;
use crate::settings::Flag;

/// Whom to forget.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal forget --user user-42 --by anna --why 'asked on 3 March'

Removes the person's decisions, and the feedback about them, from the tail and from every segment, and adds a line to
forgotten.jsonl that says when, by whom, why and how much, and not whom. Where user ids are hashed, give the id itself,
with the same `journal.hash_users`. A running service does it on DELETE /users/{id}/events; features known of the person
go with DELETE /users/{id}. Segments that were sent to an object store and are no longer kept here are brought back, and
sent again without the person's events.")]
pub struct ForgetArgs {
    /// The person's `user_id`.
    #[arg(long, value_name = "ID")]
    user: String,
    /// Who asks for it; kept in the journal.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
    /// Why; kept in the journal.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &ForgetArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let forgetting = Forgetting { by: args.by.clone(), why: args.why.clone() };
    let address = settings.server.listen;
    let instead = format!("ask it to forget, with DELETE http://{address}/users/<id>/events?by=<name>&why=<text>");
    let forgot =
        super::with_journal(&settings.journal, &instead, async |journal| journal.forget(&args.user, forgetting).await)?;
    // Opening the journal again writes its tail anew, without what was removed.
    super::with_journal(&settings.journal, &instead, async |_| Ok(()))?;
    super::print(&forgot, args.json)
}

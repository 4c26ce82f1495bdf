//! Exit codes that mean something.

use std::process::ExitCode;

use slated_contract::policy::BundleError;
use slated_trainer::dataset::QueryError;
use slated_trainer::env::EnvironmentError;
use slated_trainer::offline::OfflineError;
use slated_trainer::online::OnlineError;
use slated_trainer::ope::OpeError;
use slated_trainer::rollout::RolloutError;
use slated_trainer::train::TrainError;
use slated_trainer::tune::{LogError, TuneError};

use crate::access::AccessError;
use crate::api::ServeError;
use crate::autopilot::AutopilotError;
use crate::catalogue::CatalogueError;
use crate::evaluation::EvidenceError;
use crate::journal::exchange::ExchangeError;
use crate::journal::import::ImportError;
use crate::journal::stats::StatsError;
use crate::journal::verify::VerifyError;
use crate::serving::library::LibraryError;
use crate::serving::traffic::TrafficError;
use crate::serving::{LoadError, RegistryError};
use crate::session::SessionStoreError;
use crate::settings::SettingsError;
use crate::wrap::WrapError;

/// What `--help` says of them.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed; the message says why
  2    the command line is wrong
  3    settings or input are wrong: nothing was changed
  4    something needed is not there: an address in use, a service that does not answer
  5    a check said no: a log that its bundles do not reproduce, a policy whose evidence does not suffice
  130  interrupted; what was done so far is kept";

/// A command that was interrupted and kept what it had.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub String);

/// A check that ran to its end and said no.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Input that a command cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Something outside slated that a command needs is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Prints the error, with its causes, and picks the code.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::from(code_of(&error))
}

fn code_of(error: &anyhow::Error) -> u8 {
    let is_input = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<SettingsError>()
            || cause.is::<BundleError>()
            || cause.is::<LoadError>()
            || cause.is::<RegistryError>()
            || cause.is::<AccessError>()
            || cause.is::<CatalogueError>()
            || cause.is::<TrafficError>()
            || cause.is::<ImportError>()
            || cause.is::<ExchangeError>()
            || cause.is::<TrainError>()
            || cause.is::<VerifyError>()
            || cause.is::<EvidenceError>()
            || cause.is::<OpeError>()
            || cause.downcast_ref::<QueryError>().is_some_and(QueryError::is_input)
            || cause.downcast_ref::<StatsError>().is_some_and(StatsError::is_input)
            || cause.downcast_ref::<OnlineError>().is_some_and(OnlineError::is_input)
            || cause.downcast_ref::<OfflineError>().is_some_and(OfflineError::is_input)
            || cause.is::<EnvironmentError>()
            || cause.downcast_ref().is_some_and(RolloutError::is_input)
            || cause.is::<WrapError>()
            || cause.is::<BadInput>()
            || cause.downcast_ref::<TuneError>().is_some_and(TuneError::is_input)
            || matches!(cause.downcast_ref(), Some(LogError::Other(_)))
            || matches!(cause.downcast_ref(), Some(SessionStoreError::Url(_) | SessionStoreError::NotBuilt))
            || cause.is::<toml::de::Error>()
            || matches!(cause.downcast_ref(), Some(AutopilotError::Settings(_) | AutopilotError::State { .. }))
    };
    let mut code = 1;
    for cause in error.chain() {
        if cause.is::<Interrupted>() || matches!(cause.downcast_ref(), Some(AutopilotError::Stopped)) {
            return 130;
        }
        if is_input(cause) {
            code = 3;
        }
        let disproved = matches!(cause.downcast_ref(), Some(WrapError::Disproved(_) | WrapError::Run { .. }));
        if disproved || cause.is::<Refused>() {
            code = 5;
        }
        if cause.is::<ServeError>()
            || cause.is::<Unavailable>()
            || cause.is::<LibraryError>()
            || matches!(cause.downcast_ref(), Some(AutopilotError::Unavailable(_) | AutopilotError::Locked(_)))
        {
            code = 4;
        }
    }
    code
}

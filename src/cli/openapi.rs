//! `slated openapi`.

use clap::Args;

use crate::api::{self, KeysNeeded};

/// Print the HTTP interface as OpenAPI 3.1, the text of `openapi.yaml`.
#[derive(Debug, Args)]
pub struct OpenapiArgs {}

/// Prints the description.
pub fn run(_: &OpenapiArgs) -> anyhow::Result<()> {
    print!("{}", api::openapi_yaml(KeysNeeded::Perhaps).map_err(|problem| anyhow::anyhow!(problem.detail))?);
    Ok(())
}

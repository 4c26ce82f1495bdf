//! `slated key`: API keys.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use slated_contract::policy::sha256_hex;

use super::Global;
use super::exit::BadInput;
use crate::access::{KeyEntry, KeyFile, Role, new_key};
use crate::settings::Flag;

/// Make, list and revoke API keys. A running service takes changes up by itself.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key, print it once, and add its hash to the file of keys.
    New(NewArgs),
    /// List the keys by name.
    List(FileArgs),
    /// Remove a key.
    Revoke(RevokeArgs),
}

/// The file of keys.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The file; `security.keys` of the settings where absent.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated key new shop --role recommend --role feedback --keys keys.toml
  slated key new prometheus --role metrics
  slated key new partner --role recommend --requests-per-second 50 --burst 200 --expires 2030-01-01T00:00:00Z

To rotate a key, make a new one under another name, give it to the application, and revoke the old one.")]
pub struct NewArgs {
    /// Whose it is; stands in logs, never the key.
    name: String,
    /// What it allows; given once for each.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<Role>,
    /// The most requests a second, on average.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<u32>,
    /// The most requests at once that this allows; those of a second where absent.
    #[arg(long, value_name = "N", requires = "requests_per_second")]
    burst: Option<u32>,
    /// When it ends to be valid.
    #[arg(long, value_name = "TIME")]
    expires: Option<DateTime<Utc>>,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Whose it is.
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

/// Runs the command.
pub fn run(global: &Global, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New(args) => new(global, args),
        KeyCommand::List(args) => list(global, &args),
        KeyCommand::Revoke(args) => revoke(global, &args),
    }
}

fn file(global: &Global, args: &FileArgs) -> anyhow::Result<PathBuf> {
    let settings = global.start([Flag::given("security.keys", args.keys.as_ref())])?.settings;
    let none = || BadInput("no file of keys; name it with `--keys`, or set `security.keys`".to_owned());
    Ok(settings.security.keys.ok_or_else(none)?)
}

fn new(global: &Global, args: NewArgs) -> anyhow::Result<()> {
    let path = file(global, &args.file)?;
    let mut keys = if path.exists() { KeyFile::read(&path)? } else { KeyFile::default() };
    if keys.keys.iter().any(|key| key.name == args.name) {
        return Err(
            BadInput(format!("{} has a key `{}` already; choose another name", path.display(), args.name)).into()
        );
    }
    let key = new_key();
    let mut roles = args.roles;
    roles.sort_unstable();
    roles.dedup();
    keys.keys.push(KeyEntry {
        name: args.name,
        roles,
        sha256: sha256_hex(key.as_bytes()),
        requests_per_second: args.requests_per_second,
        burst: args.burst,
        expires: args.expires,
    });
    keys.write(&path)?;
    // Alone on the standard output, so that a script can take it.
    println!("{key}");
    eprintln!("its hash is in {}; the key itself is kept nowhere", path.display());
    Ok(())
}

fn list(global: &Global, args: &FileArgs) -> anyhow::Result<()> {
    for key in KeyFile::read(&file(global, args)?)?.keys {
        let roles: Vec<&str> = key.roles.iter().map(|role| role.name()).collect();
        let rate = key.requests_per_second.map_or_else(String::new, |rate| format!("  {rate} a second"));
        let expires = key.expires.map_or_else(String::new, |expires| format!("  until {}", expires.to_rfc3339()));
        println!("{:24} {}{rate}{expires}", key.name, roles.join(", "));
    }
    Ok(())
}

fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<()> {
    let path = file(global, &args.file)?;
    let mut keys = KeyFile::read(&path)?;
    let before = keys.keys.len();
    keys.keys.retain(|key| key.name != args.name);
    if keys.keys.len() == before {
        return Err(
            BadInput(format!("{} has no key `{}`; `slated key list` lists them", path.display(), args.name)).into()
        );
    }
    keys.write(&path)?;
    println!("revoked `{}`", args.name);
    Ok(())
}

//! The `slated` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    slated::cli::main()
}

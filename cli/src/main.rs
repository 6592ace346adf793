//! Arguments -> command -> exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // One provider is compiled in; a second installation would only mean that it is in place already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match mcpctl::commands::run(mcpctl::args::Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            mcpctl::output::eprint(format!("mcpctl: {error}"));
            ExitCode::from(error.exit as u8)
        }
    }
}

//! The entry point: parses arguments, runs the command and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Only one provider is compiled in; an error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if mcpctl::complete::run() {
        return ExitCode::SUCCESS;
    }
    match mcpctl::commands::run(mcpctl::args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            mcpctl::output::eprint_error(&error);
            ExitCode::from(error.exit as u8)
        }
    }
}

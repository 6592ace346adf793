//! How programs start: with options of the command line and of the environment, alone in their data directory, and with one line
//! where they cannot.
//!
//! It must not know what a program does.

mod lock;
pub mod options;

use std::process::ExitCode;

pub use lock::{DirectoryLock, LockError};

/// Runs a program. What it fails with is printed as one line, without a backtrace: whoever starts it mends the machine, not
/// the code.
pub fn run(program: &str, body: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    match body() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", line(program, &error));
            ExitCode::FAILURE
        }
    }
}

fn line(program: &str, error: &anyhow::Error) -> String {
    format!("{program}: {}", causes(error))
}

/// The whole chain of causes on one line. What one says for another is not said again.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::line;

    #[test]
    fn a_chain_of_causes_is_one_line() {
        let error = Err::<(), _>(anyhow!("no such\nfile")).context("cannot read a.pem").unwrap_err();
        assert_eq!(line("program", &error), "program: cannot read a.pem: no such file");
        let error = Err::<(), _>(anyhow!("denied")).context("a.pem: denied").unwrap_err();
        assert_eq!(line("program", &error), "program: a.pem: denied");
    }
}

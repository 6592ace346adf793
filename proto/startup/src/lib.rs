//! How programs start: alone in their data directory, and with one line where they cannot.
//!
//! It must not know what a program does.

mod lock;

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

/// The whole chain of causes on one line.
fn line(program: &str, error: &anyhow::Error) -> String {
    let text = format!("{program}: {error:#}");
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
    }
}

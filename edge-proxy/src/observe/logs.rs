//! Logs, on standard error.

use std::io::IsTerminal as _;

use printable::logs::{FilterError, JsonStderr, PrintableFields, filter as log_filter};

use crate::config::LogFormat;

/// The reason that there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("--log (TRUNKLINE_LOG): {0}")]
    Filter(#[from] FilterError),
    /// Logs were set up before.
    #[error("logging is set up already")]
    Again,
}

/// Sets up logs for the whole process. Programs call it once; libraries and tests do not.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = log_filter(filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    // Colours are for terminals, which `NO_COLOR` can turn off.
    let logs = if std::io::stderr().is_terminal() { logs } else { logs.with_ansi(false) };
    let set = match format {
        LogFormat::Text => logs.fmt_fields(PrintableFields).with_writer(std::io::stderr).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_writer(|| JsonStderr).try_init(),
    };
    set.map_err(|_| LogError::Again)
}

//! Log lines and metrics.
//!
//! It must not know what is logged or counted.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use printable::logs::{FilterError, JsonStderr, PrintableFields, filter as log_filter};

use crate::config::LogFormat;

/// Log lines go to stderr: stdout is for data. Where something logs already, that stays.
pub fn init(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = log_filter(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    // Colours are for terminals, and there `NO_COLOR` has its say; in files they are noise.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let _ = match format {
        LogFormat::Text => lines.fmt_fields(PrintableFields).with_writer(std::io::stderr).try_init(),
        LogFormat::Json => lines.json().with_writer(|| JsonStderr).try_init(),
    };
    Ok(())
}

/// A number of `/metrics` that goes up and down, without labels.
pub struct Gauge {
    /// Its name.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The value.
    pub value: i64,
}

/// A number of `/metrics` that only grows.
pub struct Counter {
    /// Its name, which ends in `_total`.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The label, its value if there is any, and the number.
    pub values: Vec<(Option<(&'static str, &'static str)>, u64)>,
}

/// The text that Prometheus reads.
pub fn render(gauges: &[Gauge], counters: &[Counter]) -> String {
    let mut text = String::new();
    for Gauge { name, help, value } in gauges {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    for Counter { name, help, values } in counters {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (label, value) in values {
            let _ = match label {
                Some((label, of)) => writeln!(text, "{name}{{{label}=\"{of}\"}} {value}"),
                None => writeln!(text, "{name} {value}"),
            };
        }
    }
    text
}

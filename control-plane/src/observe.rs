//! Log lines and metrics.
//!
//! It must not know what is logged or counted.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use printable::logs::{JsonStderr, PrintableFields};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Log lines go to stderr: stdout is for data. Where something logs already, that stays.
pub fn init(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    // Colours are for terminals, and there `NO_COLOR` has its say; in files they are noise.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let _ = match format {
        LogFormat::Text => lines.fmt_fields(PrintableFields).with_writer(std::io::stderr).try_init(),
        LogFormat::Json => lines.json().with_writer(|| JsonStderr).try_init(),
    };
}

/// One number of `/metrics`.
pub struct Gauge {
    /// Its name.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The value.
    pub value: i64,
}

/// The text that Prometheus reads.
pub fn render(gauges: &[Gauge]) -> String {
    gauges.iter().fold(String::new(), |mut text, Gauge { name, help, value }| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        text
    })
}

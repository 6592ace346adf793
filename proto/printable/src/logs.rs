//! Log lines that no logged text can forge, cut or colour.

use std::fmt::{Debug, Display};
use std::io::{self, Write};

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

/// The crates that log what a peer sends: a frame of a few bytes, repeated, would be a line each. What matters of it
/// they return as errors, which are logged by whoever handles them. PostgreSQL tells at every start what is there already.
const SILENT: &str = "h2=off,hyper=off,hyper_util=off,rustls=off,tokio_rustls=off,tungstenite=off,\
    tokio_tungstenite=off,tonic=off,tower_http=off,axum=off,reqwest=off,sqlx::postgres::notice=warn";

/// Why a text is no log filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// It says nothing: every target would be silent.
    Empty,
    /// A word is neither a level nor part of `target=level`: by itself it would silence all targets but one.
    NoLevel(String),
    /// A part cannot be read.
    NoDirective(String),
}

impl std::error::Error for FilterError {}

impl Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty: use info, or leave it out; off silences everything"),
            Self::NoLevel(word) => write!(
                f,
                "`{word}` is no level: use off, error, warn, info, debug or trace; a target has one too, as in `{word}=debug`"
            ),
            Self::NoDirective(part) => {
                write!(f, "`{part}` is neither a level nor TARGET=LEVEL, as in `info,h2=warn`")
            }
        }
    }
}

/// Parses a log filter: a level, or a list of `target=level`. Crates whose lines any peer can cause are off, whatever
/// the level, unless the filter names them.
///
/// # Errors
/// When it is not a filter; the error names the part that is wrong.
pub fn filter(directives: &str) -> Result<EnvFilter, FilterError> {
    if directives.trim().is_empty() {
        return Err(FilterError::Empty);
    }
    let parts: Vec<&str> = directives.split(',').map(str::trim).collect();
    if let Some(word) = parts.iter().find(|part| is_bare_target(part)) {
        return Err(FilterError::NoLevel(crate::line(word).into_owned()));
    }
    let parsed = |text: &str| EnvFilter::builder().parse(text);
    // Of two directives for one target the later one counts.
    parsed(&format!("{SILENT},{}", parts.join(","))).map_err(|_| {
        let part = parts.iter().find(|part| parsed(part).is_err()).unwrap_or(&directives);
        FilterError::NoDirective(crate::line(part).into_owned())
    })
}

/// Checks a log filter, for a command line; returns it as it is.
///
/// # Errors
/// As [`filter`].
pub fn checked(directives: &str) -> Result<String, FilterError> {
    filter(directives).map(|_| directives.to_owned())
}

fn is_bare_target(part: &str) -> bool {
    let is_word =
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.'));
    is_word && part.parse::<LevelFilter>().is_err()
}

/// Formats the message and the fields of an event or a span as `message name=value`, each safe as a part of one line.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrintableFields;

impl<'writer> FormatFields<'writer> for PrintableFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
            let value = format!("{value:?}");
            let value = crate::line(&value);
            if field.name() == "message" {
                write!(writer, "{value}")
            } else {
                write!(writer, "{}={value}", field.name())
            }
        };
        format::debug_fn(field).delimited(" ").format_fields(writer, fields)
    }
}

/// Standard error for logs in JSON: what does not print is escaped within the strings.
#[derive(Debug)]
pub struct JsonStderr;

impl Write for JsonStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A subscriber writes each event at once, as one line of UTF-8.
        io::stderr().lock().write_all(crate::json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_logged_text_stays_within_its_line() {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(PrintableFields)
            .with_writer(move || to.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let hostile = "bad\n2026 INFO all is well\u{1b}[2J\u{202e}";
            tracing::info_span!("call", upstream = %hostile)
                .in_scope(|| tracing::warn!(error = %hostile, text = hostile, "failed: {hostile}"));
        });
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let escaped = "bad\\n2026 INFO all is well\\u{1b}[2J\\u{202e}";
        assert_eq!(
            written,
            format!(
                " WARN call{{upstream={escaped}}}: printable::logs::tests: failed: {escaped} error={escaped} text=\"{escaped}\"\n"
            )
        );
    }

    #[test]
    fn crates_that_log_what_peers_send_are_silent_unless_a_filter_names_them() {
        let logged = |directives: &str| {
            let lines = Lines::default();
            let to = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter(directives).unwrap())
                .with_writer(move || to.clone())
                .with_ansi(false)
                .without_time()
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "h2::proto::ping_pong", "h2");
                tracing::error!(target: "rustls::common_state", "rustls");
                tracing::warn!(target: "tonic::status", "tonic");
                tracing::info!(target: "tunnel", "ours");
            });
            let lines = lines.0.lock().unwrap().clone();
            let lines = String::from_utf8(lines).unwrap();
            lines.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(logged("info"), ["ours"]);
        assert_eq!(logged("trace"), ["ours"]);
        assert_eq!(logged("off"), Vec::<String>::new());
        assert_eq!(logged("info,h2=warn"), ["h2", "ours"]);
        assert_eq!(logged("off,rustls=error"), ["rustls"]);
        assert_eq!(logged("tonic::status=warn,tunnel=info"), ["tonic", "ours"]);
    }

    #[test]
    fn what_is_no_filter_is_named() {
        for empty in ["", " "] {
            assert_eq!(checked(empty), Err(FilterError::Empty));
        }
        for good in
            ["info", "WARN", "off", "3", "info,h2=warn", "h2=0, tonic=off", "a::b=debug,", "[span{a=1}]=info"]
        {
            assert_eq!(checked(good).as_deref(), Ok(good));
        }
        let no_level = "is no level: use off, error, warn, info, debug or trace";
        for (bad, part, why) in [
            ("verbose", "`verbose`", no_level),
            ("inf", "`inf`", no_level),
            ("info,trunkline_edge_proxy", "`trunkline_edge_proxy`", no_level),
            ("6", "`6`", no_level),
            ("a=b=c", "`a=b=c`", "neither a level nor TARGET=LEVEL"),
            ("info,h2=loud", "`h2=loud`", "neither a level nor TARGET=LEVEL"),
            ("a=\u{1b}[31m", "`a=\\u{1b}[31m`", "neither a level nor TARGET=LEVEL"),
        ] {
            let error = filter(bad).map(|_| ()).expect_err(bad).to_string();
            assert!(error.contains(part) && error.contains(why), "{bad}: {error}");
        }
    }
}

//! Log lines that no logged text can forge, cut or colour.

use std::fmt::Debug;
use std::io::{self, Write};

use tracing::field::Field;
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

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
}

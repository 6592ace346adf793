//! Progress display for long operations: only on a terminal, and only on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress line that is shown until dropped. It stays hidden if stderr is not a terminal.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Shows the line with a first text.
    pub fn start(text: impl AsRef<str>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(one_line(text));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows nothing, where other lines come to the terminal all the time.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Shows another text.
    pub fn text(&self, text: impl AsRef<str>) {
        self.0.set_message(one_line(text));
    }

    /// Shows progress, as a bar if the total is known.
    pub fn position(&self, done: f64, total: Option<f64>, text: &str) {
        let Some(total) = total.filter(|total| *total > 0.0) else {
            return self.text(format!("{done} {text}"));
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:30}] {msg}") {
            self.0.set_style(style);
        }
        // Fractions are common (0.25 of 1), so the bar counts thousandths.
        self.0.set_length(1_000);
        self.0.set_position((done / total * 1_000.0).clamp(0.0, 1_000.0) as u64);
        self.text(format!("{done}/{total} {text}"));
    }

    /// Takes the line away while something else is printed.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Prints a line above the progress line.
    pub fn println(&self, text: &str) {
        if self.0.is_hidden() { super::eprint(text) } else { self.0.println(printable::text(text)) }
    }
}

fn one_line(text: impl AsRef<str>) -> String {
    printable::line(text.as_ref()).into_owned()
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

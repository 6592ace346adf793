//! Signs of life while something takes long: on a terminal only, and only on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that moves until it is dropped. Where stderr is no terminal it shows nothing.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Starts with a first text.
    pub fn start(text: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows another text.
    pub fn text(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// Shows how far it is.
    pub fn position(&self, done: f64, total: Option<f64>, text: &str) {
        let Some(total) = total.filter(|total| *total > 0.0) else {
            return self.text(format!("{done} {text}"));
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:30}] {msg}") {
            self.0.set_style(style);
        }
        // Fractions are common (0.25 of 1): count in thousandths.
        self.0.set_length(1_000);
        self.0.set_position((done / total * 1_000.0).clamp(0.0, 1_000.0) as u64);
        self.text(format!("{done}/{total} {text}"));
    }

    /// Prints a line above the moving one.
    pub fn println(&self, text: &str) {
        if self.0.is_hidden() { super::eprint(text) } else { self.0.println(text) }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

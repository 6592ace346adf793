//! Questions before something is lost: asked on a terminal, and answered by `--yes` where there is nobody to ask.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::error::{Error, Result};
use crate::parse;

/// Asks whether `what` is meant, as in `this deletes 3 resources`. `yes`: the answer was given with the command.
pub fn confirm(what: &str, yes: bool) -> Result {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(needs_yes(what));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}; continue? [y/N] ", printable::line(what))?;
    stderr.flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        // Ctrl-D leaves the cursor behind the question.
        writeln!(stderr)?;
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::failure("stopped; nothing was changed")),
    }
}

/// So many resources, in words.
pub fn resources(count: usize) -> String {
    parse::counted(count, "resource")
}

/// The error where nobody can be asked.
pub fn needs_yes(what: &str) -> Error {
    Error::usage(format!("{what}, and nobody can be asked here; nothing was changed; add --yes to confirm"))
}

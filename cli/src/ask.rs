//! Asks on the terminal, also for what must not be seen there. Whoever calls knows that stdin is one.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::{Error, Result};

/// Keys as a terminal sends them.
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];

/// Asks for a secret, which is not shown while it is typed.
pub fn secret(question: &str) -> Result<String> {
    let failure = |error| Error::failure(format!("cannot set up the terminal: {error}"));
    let before = tcgetattr(std::io::stdin()).map_err(failure)?;
    let mut quiet = before.clone();
    // Ctrl-C comes as a key, so that nothing ends this program before the terminal is as it was.
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet).map_err(failure)?;
    let _restored = Restored(before);
    tell(question);
    let typed = read();
    tell("\n");
    typed?.ok_or_else(|| Error::failure("cancelled; nothing was changed"))
}

/// Writes to whoever is asked: also where messages go to a file.
fn tell(text: &str) {
    let terminal = match std::io::stderr().is_terminal() {
        true => None,
        false => std::fs::OpenOptions::new().write(true).open("/dev/tty").ok(),
    };
    let _ = match terminal {
        Some(mut terminal) => terminal.write_all(text.as_bytes()),
        None => std::io::stderr().write_all(text.as_bytes()),
    };
}

/// Asks for a line, which is shown while it is typed.
pub fn line(question: &str) -> Result<String> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut typed = String::new();
    match std::io::stdin().lock().read_line(&mut typed)? {
        0 => {
            // Ctrl-D leaves the cursor behind the question.
            writeln!(stderr)?;
            Err(Error::failure("cancelled; nothing was changed"))
        }
        _ => Ok(typed.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// Returns what is typed before Enter; `None` if it is cancelled.
fn read() -> Result<Option<String>> {
    let mut typed = Vec::new();
    for key in std::io::stdin().lock().bytes() {
        match key? {
            b'\r' | b'\n' => break,
            INTERRUPT => return Ok(None),
            END if typed.is_empty() => return Ok(None),
            END => break,
            key if BACKSPACE.contains(&key) => drop(typed.pop()),
            key => typed.push(key),
        }
    }
    Ok(Some(String::from_utf8_lossy(&typed).into_owned()))
}

/// Gives the terminal its settings back.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

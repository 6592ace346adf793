//! A terminal with somebody before it: a command runs on it, its screen is read, and lines are typed. It must not know
//! what is run.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pty_process::blocking::Pts;

use super::process::guard;
use super::{PATIENCE, eventually};

/// How many lines and columns a terminal has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u16, pub(crate) u16);

/// Narrower than most of what is printed.
pub(crate) const NARROW: Size = Size(24, 40);
/// Wider than all that is printed.
pub(crate) const WIDE: Size = Size(24, 200);

/// A command on a terminal of its own, which is killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    guard: Child,
    keyboard: File,
    /// Held open, so that its settings are there to be read after the command.
    pts: Option<Pts>,
    shown: Arc<Mutex<Shown>>,
    reader: Option<JoinHandle<()>>,
}

struct Shown {
    screen: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// Starts a command. The environment says what a terminal says, without `NO_COLOR`, and then `environment`.
    pub(crate) fn start(mut command: Command, size: Size, environment: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        let Size(lines, columns) = size;
        pty.resize(pty_process::Size::new(lines, columns)).unwrap();
        command.env("TERM", "xterm-256color").envs(environment.iter().copied());
        for unwanted in ["COLUMNS", "LINES", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM_PROGRAM"] {
            if environment.iter().all(|(name, _)| *name != unwanted) {
                command.env_remove(unwanted);
            }
        }
        let child = pty_process::blocking::Command::from(command).spawn_borrowed(&pts).unwrap();
        let [lines, columns] = [lines, columns].map(|number| NonZeroU16::new(number).unwrap());
        let screen = vt100::Parser::new(lines, columns, 0);
        let shown = Arc::new(Mutex::new(Shown { screen, raw: Vec::new() }));
        let output = File::from(pty.as_fd().try_clone_to_owned().unwrap());
        let reader = std::thread::spawn({
            let shown = shown.clone();
            move || read(output, &shown)
        });
        let (guard, keyboard) = (guard(child.id()), File::from(OwnedFd::from(pty)));
        Self { child, guard, keyboard, pts: Some(pts), shown, reader: Some(reader) }
    }

    /// What is on the screen, without spaces at the ends of lines and without the empty lines below.
    pub(crate) fn screen(&self) -> String {
        let shown = self.shown.lock().unwrap();
        let screen = shown.screen.screen();
        let lines = screen.rows(0, screen.size().1.get()).map(|line| line.trim_end().to_owned() + "\n");
        lines.collect::<String>().trim_end().to_owned()
    }

    /// Everything that was written to it so far.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap().raw).into_owned()
    }

    /// Waits until a text is on the screen.
    pub(crate) async fn wait_for(&self, text: &str) {
        eventually(&format!("the terminal shows {text:?}"), PATIENCE, || async {
            let screen = self.screen();
            if screen.contains(text) { Ok(()) } else { Err(format!("\n{screen}")) }
        })
        .await;
    }

    /// Types a line and the Enter key.
    pub(crate) fn type_line(&mut self, line: &str) {
        self.type_keys(&format!("{line}\r"));
    }

    /// Types keys as a terminal sends them: `\u{3}` is Ctrl-C, `\u{4}` is Ctrl-D.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end of the command and for everything that it wrote. It must leave the terminal as it was: the
    /// cursor is seen, and what is typed as well. Returns the exit code; -1 is a signal.
    pub(crate) async fn ended(&mut self) -> i32 {
        let status = eventually("the command ends", PATIENCE, || {
            let ended = self.child.try_wait().unwrap().ok_or_else(|| format!("\n{}", self.screen()));
            async move { ended }
        })
        .await;
        let settings = self.settings();
        // Without the command and this side nobody writes any more, and the reader comes to the end.
        self.pts = None;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let screen = self.screen();
        assert!(
            !self.shown.lock().unwrap().screen.screen().hide_cursor(),
            "the cursor stays hidden:\n{screen}"
        );
        for setting in ["echo", "icanon", "isig"] {
            let is_set = settings.split_whitespace().any(|word| word == setting);
            assert!(is_set, "{setting} is not restored: {settings}\n{screen}");
        }
        status.code().unwrap_or(-1)
    }

    /// The settings of the terminal, as `stty` names them.
    fn settings(&self) -> String {
        let mut stty = Command::new("stty");
        stty.arg("-a").stdin(Stdio::from(self.keyboard.try_clone().unwrap()));
        let output = stty.output().unwrap();
        assert!(output.status.success(), "stty: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().replace(';', " ")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The guard kills the group, which is the session of the terminal.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the terminal shows ---\n{}\n---", self.screen());
        }
    }
}

/// Shows what is written until nobody can write any more, which is an error on a terminal.
fn read(mut output: File, shown: &Mutex<Shown>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        let mut shown = shown.lock().unwrap();
        shown.raw.extend_from_slice(&buffer[..count]);
        shown.screen.process(&buffer[..count]);
    }
}

//! Passwords as commands read them, from the terminal, files or lines of stdin; and `mcpctl change-password`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ask;
use crate::commands::Invocation;
use crate::commands::fields::read_text;
use crate::context::{Context, Secret};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output;

/// Arguments of `change-password`.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    /// File with the password of now; - reads a line of stdin. Without it, it is asked for on the terminal, or read from stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// File with the new password; - reads a line of stdin. Without it, it is asked for on the terminal, or read from stdin
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Runs `change-password`.
pub async fn change(invocation: &Invocation, args: ChangeArgs) -> Result {
    let context = invocation.context()?;
    let Some(session) = &context.session else {
        return Err(Error::usage(
            "nobody is signed in in this context; run `mcpctl login` first: keys and the admin token have no password",
        ));
    };
    let mut passwords = Passwords::default();
    let old = passwords.read("Password: ", args.password_file.as_deref())?;
    let new = passwords.chosen(args.new_password_file.as_deref())?;
    set(invocation, &context, &session.secret, [&old, &new]).await?;
    let who = session.principal.as_deref().unwrap_or("whoever is signed in");
    output::print(&format!("the password of {who} is changed; their other sessions are signed out"))
}

/// Sets another password for whoever has a session.
pub async fn set(
    invocation: &Invocation,
    context: &Context,
    session: &Secret,
    [old, new]: [&Secret; 2],
) -> Result {
    let client = ControlClient::connect_as(context, Some(session), invocation.timeout()).await?;
    let request = json!({ "password": old.expose(), "newPassword": new.expose() });
    let answer = client.call("trunkline.identity.v1.SessionService/ChangePassword", request).await;
    answer.map(drop).map_err(|error| error.calling("new_password", "the new password"))
}

/// Reads passwords. Those that come on stdin are its lines, in the order in which they are asked for.
#[derive(Debug, Default)]
pub struct Passwords {
    lines: Option<std::vec::IntoIter<Secret>>,
}

impl Passwords {
    /// Reads one: from a file, else from the terminal, else from stdin.
    pub fn read(&mut self, question: &str, file: Option<&Path>) -> Result<Secret> {
        match file.filter(|path| path.as_os_str() != "-") {
            Some(path) => Ok(Secret::new(read_text(path)?)),
            None if file.is_none() && std::io::stdin().is_terminal() => {
                Ok(Secret::new(ask::secret(question)?))
            }
            None => self.line(),
        }
    }

    /// Reads one that somebody chooses, on a terminal twice.
    pub fn chosen(&mut self, file: Option<&Path>) -> Result<Secret> {
        let first = self.read("New password: ", file)?;
        if file.is_none() && std::io::stdin().is_terminal() && self.read("Again: ", None)? != first {
            return Err(Error::usage("the passwords differ; nothing was changed"));
        }
        Ok(first)
    }

    fn line(&mut self) -> Result<Secret> {
        if self.lines.is_none() {
            let lines: Vec<_> = read_text(Path::new("-"))?.lines().map(Secret::new).collect();
            self.lines = Some(lines.into_iter());
        }
        self.lines.as_mut().and_then(Iterator::next).ok_or_else(|| {
            Error::usage("stdin ends before a password that is needed: write one in each line, or name files")
        })
    }
}

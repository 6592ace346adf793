//! Which form of an entry the flags ask for. Every flag has an effect, or is refused by a sentence that names the hosts on
//! which it has one. Pure.

use super::hosts::{BearerForm, Host, HostSpec, Via, Wire, names};
use crate::error::{Error, Result};

/// The flags that choose the form of an entry.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct FormFlags {
    /// Saved token to use [default: the first that was made of those that may call the server]
    #[arg(long, value_name = "NAME")]
    pub(super) token: Option<String>,
    /// Include the bearer itself instead of a reference to it; a file that it is written to can be read by its owner only
    #[arg(long)]
    pub(super) show_bearer: bool,
    /// How the host connects: by URL, or by running `mcpctl connect` [default: by URL, where the host's file can refer to a
    /// bearer that is elsewhere]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) via: Option<Via>,
    /// Transport for connections by URL [default: http]
    #[arg(long, value_enum)]
    pub(super) transport: Option<Wire>,
    /// Variable of the environment that holds the bearer [default: TRUNKLINE_TOKEN]
    #[arg(long, value_name = "NAME")]
    pub(super) variable: Option<String>,
}

/// The form of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) via: Via,
    pub(super) wire: Wire,
    /// Whether the entry holds the bearer itself.
    pub(super) shows_bearer: bool,
}

impl FormFlags {
    /// Which of the two hosts that were one name is meant: the one that can connect by URL where that is asked for.
    pub(super) fn meant(&self, host: Host) -> Host {
        let by_url = self.via != Some(Via::Stdio) && self.wants_url();
        match host {
            Host::Claude if by_url => Host::ClaudeCode,
            Host::Claude => Host::ClaudeDesktop,
            host => host,
        }
    }

    fn wants_url(&self) -> bool {
        self.via == Some(Via::Http) || self.transport.is_some() || self.show_bearer || self.variable.is_some()
    }

    /// The form for a host.
    ///
    /// # Errors
    /// When a flag would have no effect on it.
    pub(super) fn form(&self, spec: &HostSpec) -> Result<Form> {
        let wanted = if self.wants_url() { Via::Http } else { spec.via };
        let form = Form {
            via: self.via.unwrap_or(wanted),
            wire: self.transport.unwrap_or(Wire::Http),
            shows_bearer: self.show_bearer,
        };
        match form.via {
            Via::Stdio => self.check_stdio()?,
            Via::Http => self.check_url(spec)?,
        }
        Ok(form)
    }

    /// The form in which a host runs a command, unless another one is asked for.
    pub(super) fn by_command(&self, spec: &HostSpec) -> Option<Form> {
        let command = Self { via: Some(Via::Stdio), ..self.clone() };
        command.form(spec).ok().filter(|_| self.via != Some(Via::Http) && !self.wants_url())
    }

    fn check_stdio(&self) -> Result {
        let flags = [
            ("--transport", self.transport.is_some(), "`mcpctl connect` chooses it"),
            ("--show-bearer", self.show_bearer, "`mcpctl connect` reads the bearer from the context file"),
            (
                "--variable",
                self.variable.is_some(),
                "`mcpctl connect` reads the bearer from the context file",
            ),
        ];
        match flags.into_iter().find(|(_, given, _)| *given) {
            Some((flag, _, why)) => Err(Error::usage(format!(
                "{flag} has no effect with --via stdio: {why}; leave one of the two out"
            ))),
            None => Ok(()),
        }
    }

    fn check_url(&self, spec: &HostSpec) -> Result {
        let host = spec.host.name();
        let Some(url) = spec.url else {
            let flag = self.flag_of_urls();
            let others = names(|spec| spec.url.is_some());
            return Err(Error::usage(format!(
                "{flag} has no effect on {host}, which only runs commands; it has one on {others}"
            )));
        };
        if self.transport == Some(Wire::Sse) && url.sse.is_none() {
            let others = names(|spec| spec.url.is_some_and(|url| url.sse.is_some()));
            return Err(Error::usage(format!(
                "--transport sse has no effect on {host}, which does not speak it; it has one on {others}"
            )));
        }
        self.check_bearer(&host, url.bearer)
    }

    fn check_bearer(&self, host: &str, bearer: BearerForm) -> Result {
        let with_variable = || names(|spec| spec.url.is_some_and(|url| url.bearer.is_variable()));
        if self.show_bearer && bearer == BearerForm::NameOnly {
            let others = names(|spec| spec.url.is_some_and(|url| url.bearer != BearerForm::NameOnly));
            return Err(Error::usage(format!(
                "--show-bearer has no effect on {host}, which rejects bearers in its file; it has one on {others}"
            )));
        }
        if self.variable.is_some() && (self.show_bearer || !bearer.is_variable()) {
            let others = with_variable();
            return Err(Error::usage(match self.show_bearer {
                true => "--variable has no effect with --show-bearer; leave one of the two out".to_owned(),
                false => format!(
                    "--variable has no effect on {host}, whose file cannot refer to one; it has one on {others}, fastmcp, python, typescript"
                ),
            }));
        }
        if bearer == BearerForm::Literal && !self.show_bearer {
            return Err(Error::usage(format!(
                "the file of {host} cannot refer to a variable, so that an entry with a URL has to hold the bearer itself; add \
                 --show-bearer to include it, or use --via stdio; variables are known to {}",
                with_variable()
            )));
        }
        Ok(())
    }

    /// The flag that asks for a connection by URL.
    fn flag_of_urls(&self) -> &'static str {
        match self {
            Self { transport: Some(_), .. } => "--transport",
            Self { show_bearer: true, .. } => "--show-bearer",
            Self { variable: Some(_), .. } => "--variable",
            _ => "--via http",
        }
    }

    /// The transport of a program.
    ///
    /// # Errors
    /// When a flag would have no effect on it.
    pub(super) fn program(&self, host: Host) -> Result<Wire> {
        let host = host.name();
        if self.via == Some(Via::Stdio) {
            return Err(Error::usage(format!(
                "--via stdio has no effect on {host}, whose program connects by URL; it has one on {}",
                names(|_| true)
            )));
        }
        if self.variable.is_some() && self.show_bearer {
            return Err(Error::usage(
                "--variable has no effect with --show-bearer; leave one of the two out",
            ));
        }
        Ok(self.transport.unwrap_or(Wire::Http))
    }
}

//! `mcpctl edit KIND NAME`: changes a resource in an editor. Nothing is stored that is not valid, or over what somebody else
//! stored meanwhile; and nothing that was written is lost.

mod draft;
mod editor;
mod merge;

use std::ops::ControlFlow;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use serde_yaml_ng::{Mapping, Value as Document};

use self::draft::{Draft, Saved};
use self::editor::Editor;
use crate::commands::changes::changes;
use crate::commands::warnings::{self, Rights, When};
use crate::commands::{Invocation, apply, create, get, update};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::{Kind, short_name};
use crate::manifest::{self, Resource};
use crate::output;
use crate::reflection;
use crate::selection::Selection;

/// The kinds whose changes give and take rights, beside tokens, whose own warnings say so.
const OF_RIGHTS: [&str; 3] = ["Server", "Team", "Role"];

/// Arguments of `edit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of resource: upstream, server, tool, resource, prompt or token; or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    kind: String,
    /// Name of the resource
    name: Option<String>,
}

/// Runs `edit`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let (kind, name) = Selection::parse(&args.kind, args.name.as_slice())?.one()?;
    if kind.manifest.is_none() {
        return Err(Error::usage(format!(
            "{} cannot be edited; run `mcpctl describe {} {}` to look at it",
            kind.words(),
            kind.singular,
            short_name(&name)
        )));
    }
    let editor = Editor::find()?;
    let client = invocation.client().await?;
    let stored = get::one(&client, kind, &name).await?;
    let rights = Rights::before(&client, kind, None).await;
    let draft = Draft::new(kind.singular);
    let (note, body, gains) = (Note::Start, String::new(), Vec::new());
    let mut editing = Editing { client, kind, editor, draft, stored, note, body, gains };
    match editing.edited().await? {
        None => output::print(&format!("{} unchanged", editing.name())),
        Some(after) => {
            if kind.singular == "token" {
                create::refresh_token(invocation, &after);
            }
            update::report(invocation, kind, [&editing.stored, &after], "edited")?;
            editing.gains.iter().for_each(output::eprint);
            warnings::of_protection(kind, &[(Some(editing.stored.clone()), after.clone())], When::Now);
            update::warn(&editing.client, kind, &[[editing.stored.clone(), after]], &rights).await;
            Ok(())
        }
    }
}

/// Why the file is opened.
enum Note {
    /// It is new.
    Start,
    /// What was written cannot be stored.
    Invalid(Error),
    /// Somebody else stored something meanwhile: what that was, and which fields both changed.
    Changed { theirs: Vec<String>, both: Vec<String> },
}

/// One resource in an editor, until it is stored or given up.
struct Editing {
    client: ControlClient,
    kind: &'static Kind,
    editor: Editor,
    draft: Draft,
    /// What the text was made from.
    stored: DynamicMessage,
    note: Note,
    /// The text of the file below its comments.
    body: String,
    /// Who gains and who loses something by it, line by line.
    gains: Vec<String>,
}

impl Editing {
    fn name(&self) -> String {
        reflection::text(&self.stored, "name")
    }

    /// Opens the file until what is in it is stored. Returns the resource; `None` if there is nothing to store.
    async fn edited(&mut self) -> Result<Option<DynamicMessage>> {
        self.body = self.text(self.desired(&self.stored))?;
        loop {
            if let ControlFlow::Break(end) = self.round().await? {
                self.draft.discard();
                return Ok(end);
            }
        }
    }

    async fn round(&mut self) -> Result<ControlFlow<Option<DynamicMessage>>> {
        let saved = self.open().await?;
        let written = without_comments(&saved.text);
        if written.trim().is_empty() || !self.goes_on(written, saved.is_new)? {
            return Ok(ControlFlow::Break(None));
        }
        written.clone_into(&mut self.body);
        let wanted = match self.read() {
            Ok(wanted) => wanted,
            Err(error) => {
                self.note = Note::Invalid(error);
                return Ok(ControlFlow::Continue(()));
            }
        };
        if self.desired(&wanted) == self.desired(&self.stored) {
            return Ok(ControlFlow::Break(None));
        }
        let is_of_rights = OF_RIGHTS.contains(&self.kind.name);
        self.gains = match is_of_rights {
            true => apply::gains_of(&self.client, self.kind, std::slice::from_ref(&wanted)).await,
            false => Vec::new(),
        };
        match editor::unless_interrupted(self.store(&wanted)).await {
            Ok(after) => Ok(ControlFlow::Break(Some(after))),
            Err(error) => self.mend(error, &wanted).await.map(ControlFlow::Continue),
        }
    }

    /// Opens the editor. Returns what is in the file afterwards.
    async fn open(&mut self) -> Result<Saved> {
        let text = self.header(&self.note) + &self.body;
        self.draft.write(&text)?;
        if !editor::is_attended() && self.is_question() {
            return Err(self.given_up());
        }
        if let Err(error) = self.editor.open(self.draft.path()).await {
            // Some editors end so on purpose, as vi does at `:cq`.
            let is_same = self.draft.read().is_ok_and(|saved| saved.text == text);
            if is_same && matches!(self.note, Note::Start) {
                self.draft.discard();
                return Err(error);
            }
            return Err(self.kept(error));
        }
        self.draft.read()
    }

    /// Whether the file says something that only people can decide. Programs that edit would leave the same text, or add to it
    /// for ever.
    fn is_question(&self) -> bool {
        match &self.note {
            Note::Start => false,
            Note::Invalid(_) => true,
            Note::Changed { both, .. } => !both.is_empty(),
        }
    }

    /// Returns whether there is something to store. It is an error where somebody gives up what was written.
    fn goes_on(&self, written: &str, is_new: bool) -> Result<bool> {
        match &self.note {
            _ if written != self.body => Ok(true),
            Note::Start => Ok(false),
            Note::Changed { .. } if is_new => Ok(true),
            _ => Err(self.given_up()),
        }
    }

    /// The error where nothing is done about what the file says.
    fn given_up(&self) -> Error {
        self.kept(match &self.note {
            Note::Invalid(error) => Error::new(error.exit, error.to_string()),
            _ => Error::new(Exit::Conflict, format!("{} was changed while you edited it", self.name())),
        })
    }

    /// Reads what was written. Its error names the lines of the file as it will be opened again.
    fn read(&self) -> Result<DynamicMessage> {
        let file = self.draft.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = |text: &str| self.only(manifest::parse(&file, text)?);
        read(&self.body).or_else(|error| {
            let lines = self.header(&Note::Invalid(error)).lines().count();
            read(&("#\n".repeat(lines) + &self.body))
        })
    }

    /// Returns the one resource, which must be the one that is edited.
    fn only(&self, resources: Vec<Resource>) -> Result<DynamicMessage> {
        let name = self.name();
        let [resource]: [Resource; 1] = resources.try_into().map_err(|resources: Vec<_>| {
            Error::usage(format!("the file has {} resources; it must have {name} alone", resources.len()))
        })?;
        if resource.name != name || resource.kind.name != self.kind.name {
            return Err(Error::usage(format!(
                "the file is about {}; `edit` changes {name} alone, and renames nothing",
                resource.name
            )));
        }
        Ok(resource.message)
    }

    async fn store(&self, wanted: &DynamicMessage) -> Result<DynamicMessage> {
        let mut body = reflection::to_json(wanted);
        if !body["meta"].is_object() {
            body["meta"] = json!({});
        }
        self.check_owner_stays(&body["meta"])?;
        body["meta"]["etag"] = self.etag().into();
        let request = json!({ self.kind.field(): body, "updateMask": "*" });
        update::send(&self.client, self.kind, request).await
    }

    /// Files that say nothing of whose it is leave that as it is: to take it away is said in so many words.
    fn check_owner_stays(&self, meta: &Value) -> Result {
        let stored = reflection::to_json(&self.stored);
        let gone = ["owner", "team", "visibility"]
            .into_iter()
            .find(|field| !stored["meta"][field].is_null() && meta[field].is_null());
        match gone {
            None => Ok(()),
            Some(field) => Err(Error::usage(format!(
                "a file does not take `meta.{field}` away; run `mcpctl update {} {} --clear meta.{field}`",
                self.kind.singular,
                short_name(&self.name())
            ))),
        }
    }

    /// Prepares the file for being opened again after an error; or returns the error, where that cannot help.
    async fn mend(&mut self, error: Error, wanted: &DynamicMessage) -> Result {
        if !matches!(error.exit, Exit::Usage | Exit::Conflict) {
            return Err(self.kept(error));
        }
        let now = get::one(&self.client, self.kind, &self.name()).await.map_err(|error| self.kept(error))?;
        let before = std::mem::replace(&mut self.stored, now);
        if etag(&before) == self.etag() {
            self.note = Note::Invalid(error);
            return Ok(());
        }
        let [base, mine, theirs] = [&before, wanted, &self.stored].map(|one| self.desired(one));
        let merged = merge::merge(&base, &mine, &theirs);
        self.body = self.text(merged.document)?;
        let theirs = changes(self.kind, &before, &self.stored);
        self.note = Note::Changed { theirs, both: merged.both };
        Ok(())
    }

    fn desired(&self, message: &DynamicMessage) -> Mapping {
        manifest::desired(self.kind, message)
    }

    fn etag(&self) -> String {
        etag(&self.stored)
    }

    /// Writes a document with the etag of what it was made from.
    fn text(&self, mut document: Mapping) -> Result<String> {
        let mut meta = Mapping::from_iter([(Document::from("etag"), Document::from(self.etag()))]);
        if let Some(Document::Mapping(others)) = document.shift_remove("meta") {
            meta.extend(others);
        }
        let mut whole = Mapping::new();
        for key in ["kind", "name"] {
            whole.extend(document.shift_remove(key).map(|value| (Document::from(key), value)));
        }
        whole.insert("meta".into(), meta.into());
        whole.extend(document);
        output::yaml(&whole)
    }

    /// Writes the comments before the text.
    fn header(&self, note: &Note) -> String {
        let name = self.name();
        let mut lines = match note {
            Note::Start => vec![format!(
                "{name}: save the file to store what you change; leave it as it is, or empty it, to store nothing."
            )],
            Note::Invalid(error) => {
                let error = error.to_string();
                let error = error.lines().map(|line| format!("  {line}"));
                let end = "Mend it and save the file; leave it as it is to give up.";
                std::iter::once("Nothing was stored:".to_owned())
                    .chain(error)
                    .chain([end.to_owned()])
                    .collect()
            }
            Note::Changed { theirs, both } => {
                let head = format!("Nothing was stored: {name} was changed while you edited it:");
                let theirs = theirs.iter().map(|line| format!("  {line}"));
                let both =
                    both.iter().map(|field| format!("You both changed {field}: below is what you wrote."));
                let end = "Below is what you changed, together with that. Save the file to store it; leave it unsaved to give up.";
                std::iter::once(head).chain(theirs).chain(both).chain([end.to_owned()]).collect()
            }
        };
        if self.kind.singular == "upstream" {
            lines.push("Secrets are not shown; where they are empty, they stay what they are.".to_owned());
        }
        lines.iter().map(|line| format!("# {}\n", printable::line(line))).collect()
    }

    /// Says where the file is that somebody wrote something into.
    fn kept(&self, error: Error) -> Error {
        let path = self.draft.path().display();
        Error::new(error.exit, format!("{error}; what you wrote is kept in {path}"))
    }
}

fn etag(message: &DynamicMessage) -> String {
    reflection::submessage(message, "meta").map(|meta| reflection::text(&meta, "etag")).unwrap_or_default()
}

/// The text after the comments and empty lines that it begins with.
fn without_comments(mut text: &str) -> &str {
    let is_comment = |line: &str| line.trim().is_empty() || line.starts_with('#');
    while let Some((_, rest)) = text.split_once('\n').filter(|(line, _)| is_comment(line)) {
        text = rest;
    }
    let is_over = !text.contains('\n') && is_comment(text);
    if is_over { "" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_comments_above_are_ours() {
        for (text, body) in [
            ("# a\n# b\nkind: X\n# c\nname: y\n", "kind: X\n# c\nname: y\n"),
            ("kind: X", "kind: X"),
            ("#\n\n  \n#", ""),
            ("", ""),
        ] {
            assert_eq!(without_comments(text), body, "{text}");
        }
    }
}

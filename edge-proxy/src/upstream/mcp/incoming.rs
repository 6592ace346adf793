//! Reads messages of an upstream that cannot be translated as they are: what has one meaning is mended, what has none is set
//! aside as long as another message may come, and named when none does.
//!
//! It is entered only after a message could not be translated, so sane upstreams pay nothing. It must not know methods.

use bytes::Bytes;
use mcp::border::{Mended, Peer, Skipped, Unreadable, ids, mend};
use mcp::message::{Envelope, Kind};
use mcp::quirk::{Quirk, Quirks};

use super::translator::{CallContext, Translated, Translator};
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::quirk_sink::QuirkSink;

/// Why a response without an id is not taken.
const SOMEBODYS: &str = "it sent a response without an id where that may be the one to another request";

/// What was set aside while the response to one call is awaited.
#[derive(Default)]
pub(super) struct SkippedMessages {
    unreadable: Skipped<Box<str>>,
    /// Why the first message was set aside that could be read.
    reason: Option<Box<str>>,
    /// A response without an id on a stream. It is the one to the call only where no other comes.
    unnamed: Option<Bytes>,
}

/// A request whose response is awaited.
pub(super) struct Awaited<'a> {
    /// Its raw id at the upstream.
    pub own: &'a str,
    /// Where the response comes.
    pub place: ResponsePlace,
    pub quirks: &'a QuirkSink,
}

/// Where a response comes, which tells what to make of one without an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponsePlace {
    /// The body of the request's own response, on a connection that carried nothing before: it is the one.
    Body,
    /// The stream that responds to the request, on such a connection: it is the one if it stays the only one.
    OwnStream,
    /// A stream, channel or connection of other requests, before it or beside it: nobody can tell.
    Shared,
}

impl SkippedMessages {
    /// Looks again at a message that could not be translated because of `fault`. Returns the translation of what it was meant
    /// to be, in whose place it is put, or `None` if it is set aside.
    #[cold]
    pub(super) fn reconsider<T>(
        &mut self,
        message: &mut Bytes,
        fault: Fault,
        awaited: &Awaited<'_>,
        translate: impl FnOnce(&Bytes) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let Err(error) = Envelope::parse(message) else {
            return self.set_aside(message, fault, awaited).map(|()| None);
        };
        let from = Peer::Server { open: Some(awaited.own) };
        let Mended { message: meant, quirks } = match mend(message, error, from) {
            Ok(mended) => mended,
            Err(unreadable) => return self.skip(message, &unreadable, awaited).map(|()| None),
        };
        awaited.quirks.note_all(quirks, message);
        if quirks.contains(Quirk::IdsMissing) {
            match awaited.place {
                ResponsePlace::Body => {}
                ResponsePlace::OwnStream => return self.hold(meant).map(|()| None),
                ResponsePlace::Shared => return self.leave(message).map(|()| None),
            }
        }
        *message = meant;
        match translate(message) {
            Ok(translated) => Ok(Some(translated)),
            Err(fault) => self.set_aside(message, fault, awaited).map(|()| None),
        }
    }

    /// Holds a response that had no id until the stream ends, under the id of the call.
    fn hold(&mut self, response: Bytes) -> Result<(), Fault> {
        match self.unnamed.replace(response) {
            None => Ok(()),
            Some(_) => Err(Fault::Malformed("it sent several responses without an id".to_owned())),
        }
    }

    /// Leaves a response that had no id, where it may be the one to another request.
    fn leave(&mut self, response: &Bytes) -> Result<(), Fault> {
        let added = self.unreadable.add(response.len(), || SOMEBODYS.into());
        added.map_err(|first| Fault::Malformed(first.into()))
    }

    /// Whether one response came without an id.
    pub(super) fn has_unnamed(&self) -> bool {
        self.unnamed.is_some()
    }

    /// The response to the call when its stream has ended: the only one, which had no id.
    pub(super) fn take_unnamed(&mut self) -> Option<Bytes> {
        self.unnamed.take()
    }

    /// Sets a message aside that can be read: the response to another request, or a notification that says nothing. Too many of
    /// them are an error as well: they would keep the call waiting for ever.
    fn set_aside(&mut self, message: &Bytes, fault: Fault, awaited: &Awaited<'_>) -> Result<(), Fault> {
        let (Fault::Malformed(reason), Ok(envelope)) = (&fault, Envelope::parse(message)) else {
            return Err(fault);
        };
        let reason = match (envelope.kind(), envelope.id) {
            (Kind::Response, Some(id)) if ids::same(id, awaited.own).is_none() => {
                let id = awaited.quirks.quote(id.as_bytes());
                format!("it answered request {id}, but was asked {}", awaited.own)
            }
            (Kind::Notification, _) => reason.clone(),
            _ => return Err(fault),
        };
        awaited.quirks.note(Quirk::UnreadableMessages, message);
        let first = self.reason.get_or_insert(reason.into());
        match self.unreadable.is_over(message.len()) {
            true => Err(Fault::Malformed(first.to_string())),
            false => Ok(()),
        }
    }

    /// Skips a message that cannot be read, unless it was the response, or too many were skipped.
    fn skip(&mut self, message: &Bytes, unreadable: &Unreadable, awaited: &Awaited<'_>) -> Result<(), Fault> {
        let quoted = || unreadable.quoted(message, awaited.quirks.secrets());
        if awaited.own.parse().is_ok_and(|number: u64| ids::claimed(message) == Some(number)) {
            return Err(Fault::Malformed(quoted()));
        }
        awaited.quirks.note(Quirk::UnreadableMessages, message);
        let added = self.unreadable.add(unreadable.length, || quoted().into());
        added.map_err(|first| Fault::Malformed(first.into()))
    }

    /// The fault of a response that ended before the call was answered.
    #[cold]
    pub(super) fn ended(&mut self) -> Fault {
        match (self.unreadable.take_first(), self.reason.take()) {
            (Some(unreadable), _) => Fault::Malformed(unreadable.into()),
            (None, Some(reason)) => Fault::Malformed(reason.into()),
            (None, None) => Fault::Interrupted,
        }
    }
}

/// Translates the one message of a body, which can only be the response to the call.
pub(super) fn translate_body<T: Translator>(
    context: &Context,
    translator: &mut T,
    body: &mut Bytes,
    place: ResponsePlace,
) -> Result<Translated, Fault> {
    let translated = match translator.translate(body) {
        Ok(translated) => translated,
        Err(fault) => reconsider_body(context, translator, body, place, fault)?,
    };
    note_odd(context, translator.call(), body)?;
    Ok(translated)
}

#[cold]
fn reconsider_body<T: Translator>(
    context: &Context,
    translator: &mut T,
    body: &mut Bytes,
    place: ResponsePlace,
    fault: Fault,
) -> Result<Translated, Fault> {
    let pool = context.http_pool(&translator.call().upstream)?;
    let own = translator.own_id().raw();
    let awaited = Awaited { own: &own, place, quirks: &pool.quirks };
    let mut skipped = SkippedMessages::default();
    let translated = skipped.reconsider(body, fault, &awaited, |body| translator.translate(body))?;
    translated.ok_or_else(|| skipped.ended())
}

/// Notes what a translator found odd in a message.
#[inline]
pub(super) fn note_odd(context: &Context, call: &CallContext, message: &Bytes) -> Result<(), Fault> {
    let odd = call.odd.take();
    if odd.is_empty() { Ok(()) } else { note(context, call, odd, message) }
}

#[cold]
fn note(context: &Context, call: &CallContext, odd: Quirks, message: &Bytes) -> Result<(), Fault> {
    context.http_pool(&call.upstream)?.quirks.note_all(odd, message);
    Ok(())
}

//! Reads the events of a body, which may turn out to be JSON texts under the label of events. It must not know connections,
//! nor what the events say.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::body::{Media, Told, tell};
use crate::message::Envelope;
use crate::sse::{Decoder, Ends, Event, EventError};

/// How long the end of an event is waited for before it is taken without.
pub const UNENDED_WAIT: Duration = Duration::from_millis(250);
/// How often an event that has begun is looked at: to look is to read all of it.
const MAX_LOOKS: u8 = 8;

/// Takes a body that is labelled as events apart, while it comes.
///
/// What it holds is bounded by `max_event_bytes`, plus the chunk that was pushed last: push, then call `next` until it has no
/// more, and `end` when the body has ended.
#[derive(Debug)]
pub struct EventReader {
    limit: usize,
    form: Form,
    decoder: Decoder,
    /// How often the event that has begun was looked at as a whole.
    looks: u8,
}

#[derive(Debug)]
enum Form {
    /// Only so much has come, which does not tell.
    Unknown(Bytes),
    Events,
    Json(JsonTexts),
}

/// JSON texts, one after another.
#[derive(Debug, Default)]
struct JsonTexts {
    held: BytesMut,
    /// Bytes of `held` that were looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    /// Whether the byte before, in a string, was the backslash of an escape.
    escaped: bool,
}

impl EventReader {
    /// A reader that refuses events larger than `max_event_bytes`.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            limit: max_event_bytes,
            form: Form::Unknown(Bytes::new()),
            decoder: Decoder::new(max_event_bytes),
            looks: 0,
        }
    }

    /// A reader that skips events larger than `max_event_bytes`: `next` fails once for each, and goes on.
    #[must_use]
    pub fn skipping(max_event_bytes: usize) -> Self {
        Self { decoder: Decoder::skipping(max_event_bytes), ..Self::new(max_event_bytes) }
    }

    /// Takes what is left of the data of the event for which `next` has failed, if it goes on.
    #[cold]
    pub fn take_ends(&mut self) -> Option<Ends> {
        self.decoder.take_ends()
    }

    /// Adds what arrived. Returns true when that shows that the body is JSON, which is told once.
    ///
    /// # Errors
    /// When a text is larger than the limit.
    #[inline]
    pub fn push(&mut self, chunk: Bytes) -> Result<bool, EventError> {
        if matches!(self.form, Form::Events) {
            self.decoder.push(chunk);
            return Ok(false);
        }
        self.push_unproven(chunk)
    }

    #[cold]
    fn push_unproven(&mut self, chunk: Bytes) -> Result<bool, EventError> {
        let first = match &mut self.form {
            Form::Json(texts) => return texts.push(&chunk, self.limit).map(|()| false),
            Form::Unknown(before) if before.is_empty() => chunk,
            Form::Unknown(before) => [&before[..], &chunk].concat().into(),
            Form::Events => chunk,
        };
        match tell(Some(Media::Events), &first, false) {
            None => self.form = Form::Unknown(first),
            Some(Told::Mislabelled(_)) => {
                let mut texts = JsonTexts::default();
                texts.push(&first, self.limit)?;
                self.form = Form::Json(texts);
                return Ok(true);
            }
            Some(Told::Labelled(_) | Told::Neither) => {
                self.form = Form::Events;
                self.decoder.push(first);
            }
        }
        Ok(false)
    }

    /// The next whole event, or `None` until more is pushed. A JSON text is the data of an event.
    ///
    /// # Errors
    /// When an event is larger than the limit; from then on always, unless it skips.
    #[expect(clippy::should_implement_trait, reason = "it is not an iterator: `None` is not the end")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Event>, EventError> {
        match &mut self.form {
            Form::Json(texts) => Ok(texts.next().map(event)),
            Form::Events | Form::Unknown(_) => {
                let event = self.decoder.next()?;
                if event.is_some() {
                    self.looks = 0;
                }
                Ok(event)
            }
        }
    }

    /// What the body's end cut off of a JSON text, as an event; or the last event, if only the empty line after it is missing: no
    /// line could have been added to a whole message.
    pub fn end(&mut self) -> Option<Event> {
        match &mut self.form {
            Form::Unknown(_) => None,
            Form::Events => {
                self.looks = 0;
                self.take_unended()
            }
            Form::Json(texts) => {
                let rest = std::mem::take(texts).held.freeze();
                (!rest.trim_ascii().is_empty()).then(|| event(rest))
            }
        }
    }

    /// Whether an event has begun whose end has not come yet.
    #[inline]
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.decoder.has_begun()
    }

    /// The event whose end has not come yet, if its data is a whole message. To be asked when nothing has come for [`UNENDED_WAIT`]:
    /// some servers keep a stream open without the empty line after its last event. One that comes in many parts is looked at a few
    /// times only.
    #[cold]
    pub fn take_unended(&mut self) -> Option<Event> {
        self.looks += 1;
        if self.looks > MAX_LOOKS {
            self.looks = MAX_LOOKS;
            return None;
        }
        let event = self.decoder.unended().filter(|event| Envelope::look(&event.data).is_ok())?;
        self.decoder.skip_unended();
        self.looks = 0;
        Some(event)
    }

    /// Whether the body turned out to be JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        matches!(self.form, Form::Json(_))
    }
}

fn event(data: Bytes) -> Event {
    Event { data, ..Event::default() }
}

impl JsonTexts {
    fn push(&mut self, chunk: &[u8], limit: usize) -> Result<(), EventError> {
        if self.held.len() + chunk.len() > limit {
            return Err(EventError::TooLarge { limit });
        }
        self.held.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole text. It ends with the bracket that closes its first one.
    fn next(&mut self) -> Option<Bytes> {
        while let Some(&byte) = self.held.get(self.scanned) {
            self.scanned += 1;
            if self.ends_with(byte) {
                let end = std::mem::take(&mut self.scanned);
                return Some(self.held.split_to(end).freeze());
            }
        }
        None
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            let escaped = std::mem::take(&mut self.escaped);
            self.in_string = byte != b'"' || escaped;
            self.escaped = byte == b'\\' && !escaped;
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

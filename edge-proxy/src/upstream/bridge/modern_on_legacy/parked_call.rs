//! What a modern client brings back with its answers: where its call waits for them, sealed, so that any edge goes on.
//!
//! It must not know how a call is parked or gone on with.

use mcp::method::Method;

use crate::upstream::bridge::input_requests::ServerRequest;
use crate::clock::now;
use crate::held::Place;
use crate::session::Owner;
use crate::session::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;

/// A call that waits for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct ParkedCall {
    /// When it is given up, in seconds since the Unix epoch.
    pub expires: u64,
    /// The id of the upstream.
    pub upstream: Box<str>,
    /// The session there; empty where it has none.
    pub session: Box<[u8]>,
    /// The revision of that session.
    pub version: Box<[u8]>,
    /// The id and progress token of the call in that session; of a task, its progress token.
    pub number: u64,
    /// The raw id of the task that is waited for; empty where there is none.
    pub task: Box<str>,
    /// How the call goes on.
    pub resume_by: ResumeBy,
    /// Who looks after it.
    pub held_at: Option<Place>,
    /// What was asked, and is not answered yet.
    pub pending: Vec<PendingRequest>,
    /// How many questions there were so far.
    pub total: u32,
    /// The raw ids of questions that were answered: they may be asked once more when a stream is replayed.
    pub answered: Vec<Box<str>>,
}

/// How a call goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) enum ResumeBy {
    /// Its stream is resumed after this event, by whoever has the answers.
    Event(Box<[u8]>),
    /// Its task goes on by itself, and its result is asked for again.
    Task,
    /// Its stream is held open.
    Held,
    /// It is made again: it has not begun yet.
    NewCall,
}

/// A question that the client has been asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct PendingRequest {
    /// Its number among the questions of the call.
    pub number: u32,
    /// The question.
    pub request: ServerRequest,
}

impl PendingRequest {
    /// The key that the client answers under.
    pub(in crate::upstream) fn key(&self) -> String {
        format!("question-{}", self.number)
    }
}

/// What a parked call belongs to; it opens for nothing else.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct CallBinding<'a> {
    /// Whose call it is.
    pub owner: Owner<'a>,
    /// Its method.
    pub method: Method,
    /// What the client called.
    pub exposed: &'a str,
    /// The digest of its arguments.
    pub digest: &'a str,
}

impl CallBinding<'_> {
    fn seal(self, trust: &Trust, content: &[u8]) -> Result<String, SealError> {
        let about = [self.method.as_str(), self.exposed, self.digest];
        seal::seal(trust, self.binding(&about), content)
    }

    fn open(self, trust: &Trust, text: &str) -> Option<Vec<u8>> {
        let about = [self.method.as_str(), self.exposed, self.digest];
        seal::open(trust, self.binding(&about), text)
    }

    fn binding<'b>(&'b self, about: &'b [&'b str]) -> Binding<'b> {
        let Owner { server, token } = self.owner;
        Binding { purpose: Purpose::ParkedCall, server, token, about }
    }
}

/// What stands for the arguments of a call.
pub(super) fn digest(arguments: Option<&str>) -> String {
    use base64::Engine as _;
    let text = arguments.unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

impl ParkedCall {
    /// The `requestState` that the client is given.
    pub(super) fn seal(&self, trust: &Trust, binding: CallBinding<'_>) -> Result<String, SealError> {
        binding.seal(trust, &self.encode())
    }

    /// What a `requestState` of ours says, unless it is another's, about another call, or too old.
    pub(super) fn open(trust: &Trust, binding: CallBinding<'_>, text: &str) -> Option<Self> {
        let parked = Self::decode(&binding.open(trust, text)?)?;
        (now() < parked.expires).then_some(parked)
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = [self.expires, self.number, u64::from(self.total), self.pending.len() as u64];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let (resume_by, event): (&[u8], &[u8]) = match &self.resume_by {
            ResumeBy::Event(event) => (b"event", event),
            ResumeBy::Task => (b"task", b""),
            ResumeBy::Held => (b"held", b""),
            ResumeBy::NewCall => (b"again", b""),
        };
        let held_at = self.held_at.as_ref();
        let holder = held_at.map_or(0, |place| place.number).to_be_bytes();
        let edge = held_at.map_or(b"".as_slice(), |place| place.edge.as_bytes());
        let (upstream, task) = (self.upstream.as_bytes(), self.task.as_bytes());
        let mut parts: Vec<&[u8]> =
            vec![&numbers, upstream, &self.session, &self.version, task, resume_by, event, edge, &holder];
        let keys: Vec<[u8; 4]> = self.pending.iter().map(|pending| pending.number.to_be_bytes()).collect();
        for (key, PendingRequest { request, .. }) in keys.iter().zip(&self.pending) {
            parts.push(key);
            parts.push(request.id.as_bytes());
            parts.push(request.method.as_str().as_bytes());
            parts.push(request.params.as_bytes());
        }
        parts.extend(self.answered.iter().map(|id| id.as_bytes()));
        seal::join_all(&parts)
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
        let parts = seal::split_all(content)?;
        let (fixed, rest) = parts.split_first_chunk::<9>()?;
        let [numbers, upstream, session, version, task, resume_by, event, edge, holder] = *fixed;
        let (numbers, excess) = numbers.as_chunks::<8>();
        let [expires, number, total, pending] = *numbers else { return None };
        let pending = usize::try_from(u64::from_be_bytes(pending)).ok()?;
        let (pending, answered) = rest.split_at_checked(pending.checked_mul(4)?)?;
        let (pending, _) = pending.as_chunks::<4>();
        let edge = text(edge)?;
        let holder = u64::from_be_bytes(holder.try_into().ok()?);
        Some(Self {
            expires: u64::from_be_bytes(expires),
            upstream: text(upstream)?,
            session: session.into(),
            version: version.into(),
            number: u64::from_be_bytes(number),
            task: text(task)?,
            resume_by: match resume_by {
                b"event" => ResumeBy::Event(event.into()),
                b"task" => ResumeBy::Task,
                b"held" => ResumeBy::Held,
                b"again" => ResumeBy::NewCall,
                _ => return None,
            },
            held_at: (!edge.is_empty()).then_some(Place { edge, number: holder }),
            pending: pending.iter().map(|parts| PendingRequest::decode(*parts)).collect::<Option<_>>()?,
            total: u32::try_from(u64::from_be_bytes(total)).ok().filter(|_| excess.is_empty())?,
            answered: answered.iter().map(|id| text(id)).collect::<Option<_>>()?,
        })
    }
}

impl PendingRequest {
    fn decode([number, id, method, params]: [&[u8]; 4]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
        let method = Method::parse(&text(method)?)?;
        let request = ServerRequest { id: text(id)?, method, params: text(params)? };
        Some(Self { number: u32::from_be_bytes(number.try_into().ok()?), request })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::seal::tests::trust;

    fn request() -> impl Strategy<Value = ServerRequest> {
        let methods = [Method::ElicitationCreate, Method::SamplingCreateMessage, Method::RootsList];
        (any::<String>(), proptest::sample::select(methods.to_vec()), any::<String>())
            .prop_map(|(id, method, params)| ServerRequest { id: id.into(), method, params: params.into() })
    }

    fn bytes() -> impl Strategy<Value = Box<[u8]>> {
        any::<Vec<u8>>().prop_map(Vec::into_boxed_slice)
    }

    prop_compose! {
        fn parked()(
            (expires, number, total, upstream, task) in any::<(u64, u64, u32, String, String)>(),
            session in bytes(),
            version in bytes(),
            resume_by in prop_oneof![bytes().prop_map(ResumeBy::Event), Just(ResumeBy::Task), Just(ResumeBy::Held), Just(ResumeBy::NewCall)],
            held_at in proptest::option::of(("[a-z]{1,8}", any::<u64>())),
            pending in prop::collection::vec((any::<u32>(), request()), 0..4),
            answered in prop::collection::vec(any::<String>(), 0..4),
        ) -> ParkedCall {
            ParkedCall {
                expires: expires | 1 << 63,
                upstream: upstream.into(),
                session,
                version,
                number,
                task: task.into(),
                resume_by,
                held_at: held_at.map(|(edge, number)| Place { edge: edge.into(), number }),
                pending: pending.into_iter().map(|(number, request)| PendingRequest { number, request }).collect(),
                total,
                answered: answered.into_iter().map(Into::into).collect(),
            }
        }
    }

    const OWN: CallBinding<'static> = CallBinding {
        owner: Owner { server: "s", token: "t" },
        method: Method::ToolsCall,
        exposed: "u_echo",
        digest: "d",
    };

    proptest! {
        #[test]
        fn what_is_parked_is_found_again_by_its_own_call_alone(parked in parked()) {
            let trust = trust(&[1]);
            let text = parked.seal(&trust, OWN).unwrap();
            prop_assert_eq!(ParkedCall::open(&trust, OWN, &text), Some(parked.clone()));
            for other in [
                CallBinding { owner: Owner { server: "s", token: "u" }, ..OWN },
                CallBinding { method: Method::PromptsGet, ..OWN },
                CallBinding { exposed: "u_other", ..OWN },
                CallBinding { digest: "e", ..OWN },
            ] {
                prop_assert_eq!(ParkedCall::open(&trust, other, &text), None);
            }
            let late = ParkedCall { expires: 1, ..parked };
            prop_assert_eq!(ParkedCall::open(&trust, OWN, &late.seal(&trust, OWN).unwrap()), None);
        }

        #[test]
        fn junk_is_never_a_parked_call_that_panics(content: Vec<u8>, parked in parked(), cut: prop::sample::Index) {
            let _: Option<ParkedCall> = ParkedCall::decode(&content);
            let whole = parked.encode();
            let _: Option<ParkedCall> = ParkedCall::decode(&whole[..cut.index(whole.len())]);
        }
    }
}

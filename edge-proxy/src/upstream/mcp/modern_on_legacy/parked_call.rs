//! The state of a parked call, sealed into the `requestState` of a modern client, so that any edge can resume it.
//!
//! It must not know how a call is parked or resumed.

use mcp::method::Method;

use crate::os::clock::now;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::session::{HandleOwner, WaiterAddress};
use crate::snapshot::Trust;
use crate::upstream::mcp::input_requests::ServerRequest;

/// A call that waits for its client's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct ParkedCall {
    /// The time at which it is given up, in seconds since the Unix epoch.
    pub expires: u64,
    /// The id of the upstream.
    pub upstream: Box<str>,
    /// The address of the session there; empty where it has none.
    pub session: Box<[u8]>,
    /// The revision of that session.
    pub version: Box<[u8]>,
    /// The id and progress token of the call in that session; of a task, its progress token.
    pub number: u64,
    /// The raw id of the task that the edge waits for; empty where there is none.
    pub task: Box<str>,
    /// The way in which the call is resumed.
    pub resume_by: ResumeBy,
    /// The waiter that holds it.
    pub held_at: Option<WaiterAddress>,
    /// The server requests without a response.
    pub pending: Vec<PendingRequest>,
    /// The number of server requests so far.
    pub total: u32,
    /// The raw ids of requests with a response: they may be repeated when a stream is replayed.
    pub answered: Vec<Box<str>>,
}

/// The way in which a call is resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) enum ResumeBy {
    /// Its stream is resumed after this event, by any edge.
    Event(Box<[u8]>),
    /// Its task runs by itself, and its result is requested again.
    Task,
    /// Its stream is held open at one edge.
    Held,
    /// It is made anew: it has not begun.
    NewCall,
}

/// A server request that waits for the client's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct PendingRequest {
    /// Its number among those of the call.
    pub number: u32,
    pub request: ServerRequest,
}

impl PendingRequest {
    /// The key in `inputRequests` and `inputResponses`.
    pub(in crate::upstream) fn key(&self) -> String {
        format!("question-{}", self.number)
    }
}

/// The call that a `requestState` is bound to; it opens for no other.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct CallBinding<'a> {
    pub owner: HandleOwner<'a>,
    pub method: Method,
    /// The exposed name or URI that the client called.
    pub exposed: &'a str,
    /// The name or URI that the upstream knows it by.
    pub original: &'a str,
    /// The digest of its arguments.
    pub digest: &'a str,
}

impl CallBinding<'_> {
    fn seal(self, trust: &Trust, content: &[u8]) -> Result<String, SealError> {
        let about = [self.method.as_str(), self.exposed, self.original, self.digest];
        seal::seal(trust, self.binding(&about), content)
    }

    fn open(self, trust: &Trust, text: &str) -> Option<Vec<u8>> {
        let about = [self.method.as_str(), self.exposed, self.original, self.digest];
        seal::open(trust, self.binding(&about), text)
    }

    fn binding<'b>(&'b self, about: &'b [&'b str]) -> HandleBinding<'b> {
        let HandleOwner { server, principal } = self.owner;
        HandleBinding { purpose: Purpose::Parked, server, principal, about }
    }
}

impl ParkedCall {
    /// Seals it into the `requestState` that the client is given.
    pub(super) fn seal(&self, trust: &Trust, binding: CallBinding<'_>) -> Result<String, SealError> {
        binding.seal(trust, &self.encode())
    }

    /// Opens a `requestState`, unless it is another's, of another call, or too old.
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
            held_at: (!edge.is_empty()).then_some(WaiterAddress { edge, number: holder }),
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
                held_at: held_at.map(|(edge, number)| WaiterAddress { edge: edge.into(), number }),
                pending: pending.into_iter().map(|(number, request)| PendingRequest { number, request }).collect(),
                total,
                answered: answered.into_iter().map(Into::into).collect(),
            }
        }
    }

    const OWN: CallBinding<'static> = CallBinding {
        owner: HandleOwner { server: "s", principal: "t" },
        method: Method::ToolsCall,
        exposed: "u_echo",
        original: "echo",
        digest: "d",
    };

    proptest! {
        #[test]
        fn a_parked_call_opens_for_its_own_call_alone(parked in parked()) {
            let trust = trust(&[1]);
            let text = parked.seal(&trust, OWN).unwrap();
            prop_assert_eq!(ParkedCall::open(&trust, OWN, &text), Some(parked.clone()));
            for other in [
                CallBinding { owner: HandleOwner { server: "s", principal: "u" }, ..OWN },
                CallBinding { method: Method::PromptsGet, ..OWN },
                CallBinding { exposed: "u_other", ..OWN },
                CallBinding { original: "other", ..OWN },
                CallBinding { digest: "e", ..OWN },
            ] {
                prop_assert_eq!(ParkedCall::open(&trust, other, &text), None);
            }
            let late = ParkedCall { expires: 1, ..parked };
            prop_assert_eq!(ParkedCall::open(&trust, OWN, &late.seal(&trust, OWN).unwrap()), None);
        }

        #[test]
        fn junk_does_not_panic(content: Vec<u8>, parked in parked(), cut: prop::sample::Index) {
            let _: Option<ParkedCall> = ParkedCall::decode(&content);
            let whole = parked.encode();
            let _: Option<ParkedCall> = ParkedCall::decode(&whole[..cut.index(whole.len())]);
        }
    }
}

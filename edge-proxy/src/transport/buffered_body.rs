//! The chunks of one body, joined within a limit. It must not know where they come from.

use bytes::{Bytes, BytesMut};
use inbound::Reservation;

/// Bodies up to this size are not counted: there are at most as many as calls in flight.
const FREE_BYTES: usize = 16 << 10;

/// The reason that a chunk is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferError {
    /// The body is larger than the limit.
    TooLarge,
    /// There is no memory for it now.
    OverBudget,
}

/// A body that is being read. A single chunk is passed on as it is; only further ones are copied together.
#[derive(Debug)]
pub struct BufferedBody<R> {
    limit: usize,
    first: Bytes,
    joined: BytesMut,
    /// Begins the reservation, once the body is not small any more.
    reserve: Option<R>,
    reservation: Option<Reservation>,
}

impl<R: FnOnce() -> Reservation> BufferedBody<R> {
    /// Creates an empty buffer for at most `limit` bytes. `reserve` begins a reservation, of which a small body has no
    /// need.
    pub fn within(limit: usize, reserve: R) -> Self {
        Self {
            limit,
            first: Bytes::new(),
            joined: BytesMut::new(),
            reserve: Some(reserve),
            reservation: None,
        }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// If the body would pass the limit, or takes more memory than is left; nothing of the chunk is kept.
    pub fn push(&mut self, data: Bytes) -> Result<(), BufferError> {
        let before = self.first.len() + self.joined.len();
        if before + data.len() > self.limit {
            return Err(BufferError::TooLarge);
        }
        if before + data.len() > FREE_BYTES {
            self.reserve(before, data.len())?;
        }
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return Ok(());
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&data);
        Ok(())
    }

    fn reserve(&mut self, before: usize, more: usize) -> Result<(), BufferError> {
        let bytes = if self.reservation.is_some() { more } else { before + more };
        if let Some(reserve) = self.reserve.take() {
            self.reservation = Some(reserve());
        }
        let grown = self.reservation.as_ref().map_or(Ok(()), |reservation| reservation.grow(bytes));
        grown.map_err(|_| BufferError::OverBudget)
    }

    /// Returns the body. It counts until its last part is dropped.
    pub fn finish(self) -> Bytes {
        let body = if self.joined.is_empty() { self.first } else { self.joined.freeze() };
        match self.reservation {
            Some(reservation) => reservation.attach(body),
            None => body,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use inbound::BodyBudget;

    use super::*;

    fn gather(limit: usize, chunks: &[&'static str]) -> Result<Bytes, BufferError> {
        let mut buffered = BufferedBody::within(limit, || unreachable!("it is small"));
        chunks.iter().try_for_each(|chunk| buffered.push(Bytes::from_static(chunk.as_bytes())))?;
        Ok(buffered.finish())
    }

    #[test]
    fn chunks_are_put_together_up_to_the_bound() {
        assert_eq!(gather(3, &[]), Ok(Bytes::new()));
        assert_eq!(gather(3, &["abc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["", "a", "", "bc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["ab", "cd"]), Err(BufferError::TooLarge));
        assert_eq!(gather(0, &["a"]), Err(BufferError::TooLarge));
    }

    #[test]
    fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![1, 2, 3]);
        let mut buffered = BufferedBody::within(3, || unreachable!("it is small"));
        buffered.push(chunk.clone()).unwrap();
        assert_eq!(buffered.finish().as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn what_is_not_small_counts_until_it_is_gone() {
        let budget = Arc::new(BodyBudget::new(8 * FREE_BYTES));
        let chunk = Bytes::from(vec![b'x'; FREE_BYTES]);
        let mut buffered = BufferedBody::within(usize::MAX, || budget.reservation(0));
        buffered.push(chunk.clone()).unwrap();
        assert_eq!(budget.used(), 0);
        for count in 2..=4 {
            buffered.push(chunk.clone()).unwrap();
            assert_eq!(budget.used(), count * FREE_BYTES);
        }
        // The other half is for others.
        assert_eq!(buffered.push(chunk.clone()), Err(BufferError::OverBudget));
        let body = buffered.finish();
        let part = body.slice(..1);
        drop(body);
        assert_eq!(budget.used(), 4 * FREE_BYTES);
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}

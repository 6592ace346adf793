//! The chunks of one body, joined within a limit. It must not know where they come from.

use bytes::{Bytes, BytesMut};

/// The body is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// A body that is being read. A single chunk is passed on as it is; only further ones are copied together.
#[derive(Debug)]
pub struct BufferedBody {
    limit: usize,
    first: Bytes,
    joined: BytesMut,
}

impl BufferedBody {
    /// Creates an empty buffer for at most `limit` bytes.
    pub fn within(limit: usize) -> Self {
        Self { limit, first: Bytes::new(), joined: BytesMut::new() }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// If the body would pass the limit; nothing of the chunk is kept.
    pub fn push(&mut self, data: Bytes) -> Result<(), TooLarge> {
        if self.first.len() + self.joined.len() + data.len() > self.limit {
            return Err(TooLarge);
        }
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return Ok(());
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&data);
        Ok(())
    }

    /// Returns the body.
    pub fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(limit: usize, chunks: &[&'static str]) -> Result<Bytes, TooLarge> {
        let mut buffered = BufferedBody::within(limit);
        chunks.iter().try_for_each(|chunk| buffered.push(Bytes::from_static(chunk.as_bytes())))?;
        Ok(buffered.finish())
    }

    #[test]
    fn chunks_are_put_together_up_to_the_bound() {
        assert_eq!(gather(3, &[]), Ok(Bytes::new()));
        assert_eq!(gather(3, &["abc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["", "a", "", "bc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["ab", "cd"]), Err(TooLarge));
        assert_eq!(gather(0, &["a"]), Err(TooLarge));
    }

    #[test]
    fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![1, 2, 3]);
        let mut buffered = BufferedBody::within(3);
        buffered.push(chunk.clone()).unwrap();
        assert_eq!(buffered.finish().as_ptr(), chunk.as_ptr());
    }
}

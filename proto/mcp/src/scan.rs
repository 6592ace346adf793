//! One pass over JSON text that checks its grammar and tells where its parts lie; it builds nothing.
//!
//! It must not know what any member means.

use crate::json::JsonError;

/// Greatest depth of nested arrays and objects.
pub(crate) const MAX_DEPTH: usize = 1_024;
/// Levels that are kept in a word, a bit each.
const LEVELS: u32 = u128::BITS;
/// Words that are set aside at most: the one at hand makes the rest.
const MAX_OUTER: usize = MAX_DEPTH / LEVELS as usize - 1;

/// Depth up to which members are watched: that of a block of content in a message of a prompt, and one more.
const MAX_WATCHED: u32 = 5;

/// A position in JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    failure: Failure,
    /// The names of members that are worth a note where they are `null`.
    watched: &'static [&'static str],
    /// Whether one of them was.
    noted: bool,
}

/// The scanner stopped; why is noted in it. It is empty so that the thousands of results on the way are, too.
pub(crate) struct Stop;

/// The error at which a scanner stopped.
#[derive(Clone, Copy)]
enum Failure {
    Expected(&'static str),
    TooDeep,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self::watching(text, &[])
    }

    /// One that notes whether a member of one of these names is `null`, up to [`MAX_WATCHED`] deep in a value.
    pub(crate) fn watching(text: &'a str, watched: &'static [&'static str]) -> Self {
        let failure = Failure::Expected("a value");
        Self { text, bytes: text.as_bytes(), at: 0, failure, watched, noted: false }
    }

    /// Whether a member was `null` that is watched. Others may share its name.
    pub(crate) fn has_noted(&self) -> bool {
        self.noted
    }

    /// Where it stands, in bytes from the start of the text.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over `byte` when it is next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), Stop> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(name)) }
    }

    /// Steps over white space.
    #[inline]
    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but white space may follow.
    #[inline]
    pub(crate) fn end(&mut self) -> Result<(), Stop> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong("the end")) }
    }

    /// Stops because something else than `expected` is here.
    #[cold]
    fn wrong(&mut self, expected: &'static str) -> Stop {
        self.failure = Failure::Expected(expected);
        Stop
    }

    /// Why it stopped.
    #[cold]
    pub(crate) fn error(&self, _stopped: Stop) -> JsonError {
        match self.failure {
            Failure::Expected(expected) => JsonError::Syntax { at: self.at, expected },
            Failure::TooDeep => JsonError::Depth { at: self.at },
        }
    }

    /// One value of any type, as it is written.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<&'a str, Stop> {
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => self.nested()?,
            _ => self.leaf()?,
        }
        Ok(&self.text[start..self.at])
    }

    /// The members of an object, keys as they are written (quotes included).
    #[inline]
    pub(crate) fn object<E: From<JsonError>>(
        &mut self,
        mut visit: impl FnMut(&'a str, &'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut more = self.first(b'{', b'}', "an object");
        while more.map_err(|stop| self.error(stop))? {
            let key = self.key().map_err(|stop| self.error(stop))?;
            let value = self.value().map_err(|stop| self.error(stop))?;
            visit(key, value)?;
            more = self.further(b'}', "',' or '}'");
        }
        Ok(())
    }

    /// The elements of an array.
    #[inline]
    pub(crate) fn array<E: From<JsonError>>(
        &mut self,
        mut visit: impl FnMut(&'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut more = self.first(b'[', b']', "an array");
        while more.map_err(|stop| self.error(stop))? {
            let value = self.value().map_err(|stop| self.error(stop))?;
            visit(value)?;
            more = self.further(b']', "',' or ']'");
        }
        Ok(())
    }

    /// Steps into a container; whether there is anything in it.
    pub(crate) fn first(&mut self, open: u8, close: u8, name: &'static str) -> Result<bool, Stop> {
        self.expect(open, name)?;
        self.space();
        Ok(!self.take(close))
    }

    /// Steps over what follows a member or element; whether there is another.
    pub(crate) fn further(&mut self, close: u8, names: &'static str) -> Result<bool, Stop> {
        self.space();
        if self.take(close) {
            return Ok(false);
        }
        self.expect(b',', names)?;
        self.space();
        Ok(true)
    }

    /// A key with its colon and the space around it.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<&'a str, Stop> {
        let start = self.at;
        self.string()?;
        let key = &self.text[start..self.at];
        self.space();
        self.expect(b':', "':'")?;
        self.space();
        Ok(key)
    }

    /// An array or object, without recursion: what attackers nest costs no stack.
    fn nested(&mut self) -> Result<(), Stop> {
        let mut open = Nesting::default();
        loop {
            if self.opens(&mut open)? {
                continue;
            }
            if self.closes(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Steps over one value; true when it stepped into a container that has members to come.
    #[inline]
    fn opens(&mut self, open: &mut Nesting) -> Result<bool, Stop> {
        let (object, close) = match self.peek() {
            Some(b'{') => (true, b'}'),
            Some(b'[') => (false, b']'),
            Some(b'n') => return self.null(open).map(|()| false),
            _ => return self.leaf().map(|()| false),
        };
        if !open.push(object) {
            self.failure = Failure::TooDeep;
            return Err(Stop);
        }
        self.at += 1;
        self.space();
        if self.take(close) {
            open.pop();
            return Ok(false);
        }
        if object {
            self.key()?;
        }
        Ok(true)
    }

    /// After a value: closes what ends here; true when the outermost container did.
    #[inline]
    fn closes(&mut self, open: &mut Nesting) -> Result<bool, Stop> {
        while open.any() {
            self.space();
            let object = open.in_object();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    if object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if object => self.at += 1,
                Some(b']') if !object => self.at += 1,
                _ => return Err(self.wrong("',' or the end of an array or object")),
            }
            open.pop();
        }
        Ok(true)
    }

    /// A value that holds no other.
    #[inline]
    fn leaf(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.wrong("a value")),
        }
    }

    /// A `null` in a container.
    fn null(&mut self, open: &Nesting) -> Result<(), Stop> {
        if open.in_object() && open.is_shallow() && !self.watched.is_empty() && !self.noted {
            let key = key_before(&self.text[..self.at]);
            self.noted = key.is_some_and(|key| self.watched.contains(&key));
        }
        self.literal("null")
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Stop> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong("a digit")) } else { Ok(()) }
    }

    /// A string, quotes included.
    pub(crate) fn string(&mut self) -> Result<(), Stop> {
        self.expect(b'"', "a string")?;
        let bytes = self.bytes;
        loop {
            self.at = plain_until(bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong("no control character in a string")),
                None => return Err(self.wrong("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let rest = &self.bytes[self.at + 1..];
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|d| d.is_ascii_hexdigit()) => 6,
            _ => return Err(self.wrong("an escape")),
        };
        self.at += length;
        Ok(())
    }
}

/// The open containers: a bit each, the innermost lowest, set for objects.
#[derive(Default)]
struct Nesting {
    objects: u128,
    /// Levels in `objects`.
    depth: u32,
    /// The words of the levels around those. Hardly any message nests so deep that there are any.
    outer: Vec<u128>,
}

impl Nesting {
    /// Whether there was room.
    #[inline]
    fn push(&mut self, object: bool) -> bool {
        if self.depth == LEVELS && !self.spill() {
            return false;
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        true
    }

    /// Sets a full word aside; whether there was room.
    #[cold]
    fn spill(&mut self) -> bool {
        if self.outer.len() == MAX_OUTER {
            return false;
        }
        self.outer.push(self.objects);
        (self.objects, self.depth) = (0, 0);
        true
    }

    #[inline]
    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    /// Whether a container is open; if so, the innermost one is in the word at hand.
    #[inline]
    fn any(&mut self) -> bool {
        self.depth > 0 || !self.outer.is_empty() && self.restore()
    }

    #[cold]
    fn restore(&mut self) -> bool {
        let Some(objects) = self.outer.pop() else { return false };
        (self.objects, self.depth) = (objects, LEVELS);
        true
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn is_shallow(&self) -> bool {
        self.depth <= MAX_WATCHED && self.outer.is_empty()
    }
}

/// The key, without its quotes, whose value begins where `text` ends. One with escapes is no name that is watched.
fn key_before(text: &str) -> Option<&str> {
    let key = text.trim_ascii_end().strip_suffix(':')?.trim_ascii_end().strip_suffix('"')?;
    key.rfind('"').map(|quote| &key[quote + 1..])
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The first position from `at` that holds a quote, a backslash or a control character, or the end.
///
/// Short strings are over within a word or two; long ones go on in blocks that the compiler turns into vector code.
#[inline]
fn plain_until(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    let position = |rest: &[u8]| bytes.len() - rest.len();
    loop {
        for _ in 0..4 {
            let Some((word, further)) = rest.split_first_chunk() else {
                return position(rest) + rest.iter().position(|&b| is_special(b)).unwrap_or(rest.len());
            };
            let found = special(u64::from_le_bytes(*word));
            if found != 0 {
                return position(rest) + found.trailing_zeros() as usize / 8;
            }
            rest = further;
        }
        while let Some((block, further)) = rest.split_first_chunk::<64>() {
            if block.iter().fold(false, |found, &b| found | is_special(b)) {
                break;
            }
            rest = further;
        }
    }
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The high bit of each special byte of eight; what lies above the lowest one set may be wrong.
fn special(word: u64) -> u64 {
    let zero = |v: u64| v.wrapping_sub(LOW) & !v;
    let control = word.wrapping_sub(LOW * 0x20) & !word;
    (control | zero(word ^ (LOW * u64::from(b'"'))) | zero(word ^ (LOW * u64::from(b'\\')))) & HIGH
}

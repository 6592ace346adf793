//! URIs that clients make from URI templates: only in canonical form, so that what is compared is what a server reads.
//!
//! Servers resolve dot segments, decode percent-encoding, once or more often, and take backslashes for slashes, each in
//! its own way. A URI on which they may differ is refused. It must not know who may read what, nor what is listed: a URI
//! that a server lists is used as it is listed, canonical or not.

mod ancestry;
pub mod naming;
mod template;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

pub use ancestry::ancestors;
pub use template::UriTemplate;

/// A URI that a template could have produced, in canonical form. Only [`UriTemplate::uri`] makes one.
///
/// It has the characters of RFC 3986 alone, percent-encoding in its normal form (RFC 3986 §6.2.2), applied once and to
/// UTF-8, and neither dot segments nor encoded separators: it stays below each of its prefixes that ends in `/`, also when
/// it is resolved (RFC 3986 §5.2.4), decoded, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalUri(Box<str>);

/// The reason for which a URI is not canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// A control character, encoded or not.
    #[error("has a control character")]
    Control,
    /// A backslash, encoded or not, which some servers take for a slash.
    #[error("has a backslash")]
    Backslash,
    /// A character that URIs do not have (RFC 3986 §2).
    #[error("has {0:?}, which must be percent-encoded")]
    Character(char),
    /// A percent sign without two hexadecimal digits (RFC 3986 §2.1).
    #[error("has a percent sign without two hexadecimal digits")]
    PercentSign,
    /// A hexadecimal digit in lower case (RFC 3986 §6.2.2.1).
    #[error("has percent-encoding in lower case")]
    LowerCase,
    /// An encoded character that needs no encoding (RFC 3986 §6.2.2.2).
    #[error("percent-encodes {0:?}, which needs no encoding")]
    Unreserved(char),
    /// Percent-encoding in what was decoded.
    #[error("is percent-encoded twice")]
    Twice,
    /// An encoded slash.
    #[error("percent-encodes a slash")]
    Slash,
    /// Encoded octets that are not UTF-8, overlong ones among them (RFC 3986 §2.5).
    #[error("percent-encodes octets that are not UTF-8")]
    NotUtf8,
    /// A segment `.` or `..` (RFC 3986 §3.3), or one that some servers take for it.
    #[error("has a dot segment")]
    DotSegment,
    /// A character that becomes a dot or a delimiter where names are normalized (Unicode NFKC, UAX #15).
    #[error("has {0:?}, which some servers take for a dot or a delimiter")]
    Normalized(char),
    /// A query or fragment that the template has no place for, and without which it would be another template's.
    #[error("has a query or fragment that its template does not provide for")]
    Query,
    /// A user before a host, which is easily taken for the host (RFC 9110 §4.2.4).
    #[error("has a user before its host")]
    User,
}

impl CanonicalUri {
    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a segment may begin and end for one server or another: besides the separators of paths, those of parameters.
const DELIMITERS: [char; 8] = ['/', '\\', '?', '#', '&', '=', ';', ':'];
/// Where a segment `.` begins and ends. Elsewhere, as in `?dir=.`, it is a value.
const PATH_DELIMITERS: [char; 6] = ['/', '\\', '?', '#', ';', ':'];
/// What no other character may become where names are normalized.
const ASCII_ONLY: [char; 7] = ['.', '/', '\\', ';', '?', '#', '%'];
/// The schemes whose authority is a host that is connected to.
const SCHEMES_WITH_HOSTS: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "file"];

/// Returns why `uri` would be refused if a template produced all of it.
pub fn check(uri: &str) -> Result<(), NotCanonical> {
    check_after(uri, 0)
}

/// Checks a URI whose first `fixed` bytes are the template's own: they may be spelled as they are, but for dot segments.
fn check_after(uri: &str, fixed: usize) -> Result<(), NotCanonical> {
    let (own, produced) = uri.split_at(fixed);
    // What is produced may continue the percent-encoding of the template, or a segment of it.
    if own.rfind('%').is_some_and(|at| own.len() - at < 3) {
        return Err(NotCanonical::PercentSign);
    }
    let mut decoded = decode_leniently(own);
    let produced = decode(produced)?;
    let normalized = normalized(&produced);
    decoded.extend(produced.into_bytes());
    if (0..decoded.len()).any(|at| hex_octet(&decoded[at..]).is_some()) {
        return Err(NotCanonical::Twice);
    }
    if has_dot_segment(&String::from_utf8_lossy(&decoded), true) {
        return Err(NotCanonical::DotSegment);
    }
    normalized.map_or(Ok(()), |character| Err(NotCanonical::Normalized(character)))?;
    if user_end(uri).is_some_and(|at| at >= fixed) { Err(NotCanonical::User) } else { Ok(()) }
}

/// Checks a value for a variable of a template, which is not encoded yet, or a part of such a value.
pub fn check_value(value: &str) -> Result<(), NotCanonical> {
    let decoded = decode_leniently(value);
    let text = String::from_utf8_lossy(&decoded);
    if text.chars().any(char::is_control) {
        return Err(NotCanonical::Control);
    }
    if text.contains('\\') {
        return Err(NotCanonical::Backslash);
    }
    if has_dot_segment(&text, false) {
        return Err(NotCanonical::DotSegment);
    }
    normalized(&text).map_or(Ok(()), |character| Err(NotCanonical::Normalized(character)))
}

/// Returns whether `text`, decoded as often as it can be, has a dot segment.
pub fn resolves_elsewhere(text: &str) -> bool {
    has_dot_segment(&String::from_utf8_lossy(&decode_leniently(text)), true)
}

/// Decodes what must be percent-encoded in its normal form, once.
fn decode(encoded: &str) -> Result<String, NotCanonical> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.chars();
    while let Some(character) = rest.next() {
        match character {
            '%' => {
                let digits = rest.as_str().get(..2).ok_or(NotCanonical::PercentSign)?;
                decoded.push(octet(digits.as_bytes())?);
                rest = rest.as_str()[2..].chars();
            }
            '\\' => return Err(NotCanonical::Backslash),
            _ if character.is_control() => return Err(NotCanonical::Control),
            _ if !is_uri_character(character) => return Err(NotCanonical::Character(character)),
            _ => decoded.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| NotCanonical::NotUtf8)?;
    if decoded.chars().any(char::is_control) { Err(NotCanonical::Control) } else { Ok(decoded) }
}

/// Reads the digits of a percent-encoded octet that is in its normal form, and no separator.
fn octet(digits: &[u8]) -> Result<u8, NotCanonical> {
    let octet = hex(digits).ok_or(NotCanonical::PercentSign)?;
    match octet {
        b'/' => Err(NotCanonical::Slash),
        b'\\' => Err(NotCanonical::Backslash),
        _ if is_unreserved(octet) => Err(NotCanonical::Unreserved(octet.into())),
        _ if digits.iter().any(u8::is_ascii_lowercase) => Err(NotCanonical::LowerCase),
        _ => Ok(octet),
    }
}

/// Decodes percent-encoding as often as there is any; what is none stays.
fn decode_leniently(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        decoded.push(byte);
        // A decoded octet may complete another: two never overlap, so the order does not matter.
        while let Some(octet) = decoded.len().checked_sub(3).and_then(|at| hex_octet(&decoded[at..])) {
            decoded.truncate(decoded.len() - 3);
            decoded.push(octet);
        }
    }
    decoded
}

/// Reads the percent-encoded octet that `bytes` begins with.
fn hex_octet(bytes: &[u8]) -> Option<u8> {
    hex(bytes.strip_prefix(b"%")?)
}

/// Reads the two hexadecimal digits that `bytes` begins with.
fn hex(bytes: &[u8]) -> Option<u8> {
    let [high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

fn is_uri_character(character: char) -> bool {
    u8::try_from(character).is_ok_and(|octet| is_unreserved(octet) || b":/?#[]@!$&'()*+,;=".contains(&octet))
}

/// Returns whether decoded text has a segment `..`, or one that servers take for it; where `single` is set, also `.`.
fn has_dot_segment(decoded: &str, single: bool) -> bool {
    let normalized: Cow<'_, str> =
        if decoded.is_ascii() { decoded.into() } else { decoded.nfkc().collect::<String>().into() };
    let (mut before, mut rest) = ('/', &*normalized);
    loop {
        let end = rest.find(|character| DELIMITERS.contains(&folded(character)));
        let segment = &rest[..end.unwrap_or(rest.len())];
        let mut after = end.map_or("", |at| &rest[at..]).chars();
        let delimiter = after.next().map(folded);
        let is_path = PATH_DELIMITERS.contains(&before)
            && delimiter.is_none_or(|delimiter| PATH_DELIMITERS.contains(&delimiter));
        match dots(segment) {
            Some(2) => return true,
            Some(1) if single && is_path => return true,
            _ => {}
        }
        let Some(delimiter) = delimiter else { return false };
        (before, rest) = (delimiter, after.as_str());
    }
}

/// Counts the dots of a segment that has nothing else but spaces, which some file systems take away.
fn dots(segment: &str) -> Option<usize> {
    let count = |character: char| match folded(character) {
        '.' => Some(1),
        space if space.is_whitespace() => Some(0),
        _ => None,
    };
    segment.chars().map(count).sum()
}

/// Returns the separator or dot that a normalized character becomes in servers that fit it to a code page.
fn folded(character: char) -> char {
    match character {
        '\u{3002}' => '.',
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{29f5}' | '\u{2216}' => '\\',
        _ => character,
    }
}

/// Finds a character that normalization makes a dot or a delimiter, such as `U+FE30`, which becomes `..`.
fn normalized(text: &str) -> Option<char> {
    let becomes = |character: char| character.nfkc().any(|made| ASCII_ONLY.contains(&made));
    text.chars().find(|character| !character.is_ascii() && becomes(*character))
}

/// Returns where the user before a host ends, if there is one.
fn user_end(uri: &str) -> Option<usize> {
    let (scheme, rest) = uri.split_once("://")?;
    // In `git+https` the last part is what is spoken to the host.
    let scheme = scheme.rsplit('+').next().unwrap_or(scheme);
    if !SCHEMES_WITH_HOSTS.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(uri.len() - rest.len() + authority.rfind('@')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `file:///{+path}` makes of a path.
    fn file(path: &str) -> Result<(), NotCanonical> {
        let uri = format!("file:///{path}");
        let made = UriTemplate::new("file:///{+path}").uri(&uri).expect("the template matches");
        made.map(|made| assert_eq!(made.as_str(), uri))
    }

    #[test]
    fn what_servers_agree_on_is_canonical() {
        for path in [
            "",
            "public/a.txt",
            "public/a%20b.txt",
            "caf%C3%A9/%E2%82%AC",
            // 日本語：ﬁle, Å, ½ and ㎏.
            "%E6%97%A5%E6%9C%AC%E8%AA%9E%EF%BC%9A%EF%AC%81le",
            "%E2%84%AB%C2%BD%E3%8E%8F",
            ".hidden/..b/c../...",
            "public//x",
            "a;v=1/b,c?q=1&dir=.#part",
            "100%25",
            "a%3Fb%23c",
            "https://host:8080/x",
            "user@place",
            "(a)!$'*+[0]~_-",
        ] {
            assert_eq!(file(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_servers_may_differ_on_is_refused_for_its_reason() {
        use NotCanonical::*;
        for (path, reason) in [
            ("public/../secret", DotSegment),
            ("public/./x", DotSegment),
            ("..", DotSegment),
            ("public/..", DotSegment),
            ("public/%20../x", DotSegment),
            ("public/..%20/x", DotSegment),
            ("public/..;a/x", DotSegment),
            ("public/..%3Ba/x", DotSegment),
            ("public/x?../../secret", DotSegment),
            ("public/x?path=../secret", DotSegment),
            ("public/x#/../../secret", DotSegment),
            ("public//../secret", DotSegment),
            ("public/%EF%BC%8E%EF%BC%8E/x", DotSegment),
            ("public/..%EF%BC%8Fx", DotSegment),
            ("public/%E2%80%A5/x", DotSegment),
            ("public/%EF%B8%B0/x", DotSegment),
            ("public/%EF%B8%B0%EF%BC%9Ax", DotSegment),
            ("public/x%EF%BC%9A..%EF%BC%9Ay", DotSegment),
            ("public/a%EF%BC%8Fb", Normalized('\u{ff0f}')),
            ("public/a%E2%84%80b", Normalized('\u{2100}')),
            ("public/secret%CD%BE.md", Normalized('\u{37e}')),
            ("public/secret%EF%BC%9F.md", Normalized('\u{ff1f}')),
            ("public/secret%EF%BC%83.md", Normalized('\u{ff03}')),
            ("public/%EF%BC%852E%EF%BC%852E/x", Normalized('\u{ff05}')),
            ("public/..%EF%BC%BCx", DotSegment),
            ("public/%2e%2e/x", Unreserved('.')),
            ("public/%2E./x", Unreserved('.')),
            ("%70ublic/x", Unreserved('p')),
            ("public/..%2fx", Slash),
            ("public/..%2Fx", Slash),
            ("public/a%2Fb", Slash),
            ("public/..\\x", Backslash),
            ("public/..%5Cx", Backslash),
            ("public/%252e%252e/x", Twice),
            ("public/%25252e/x", Twice),
            ("public/%25%32%65/x", Unreserved('2')),
            ("public/\u{0}../x", Control),
            ("public/x%00.txt", Control),
            ("public/.%09./x", Control),
            ("public/%C2%85", Control),
            ("public/a b", Character(' ')),
            ("public/\u{ff0e}\u{ff0e}/x", Character('\u{ff0e}')),
            ("public/{x}", Character('{')),
            ("public/%", PercentSign),
            ("public/%2", PercentSign),
            ("public/%u002e", PercentSign),
            ("public/%é", PercentSign),
            ("caf%c3%a9", LowerCase),
            ("public/%C0%AE%C0%AE/x", NotUtf8),
            ("public/%E0%80%AF", NotUtf8),
            ("public/%FF", NotUtf8),
        ] {
            assert_eq!(file(path), Err(reason), "{path}");
        }
    }

    /// Every character of the planes that have any that normalization changes, within a name and as a name of its own.
    #[test]
    fn what_normalization_makes_a_delimiter_is_refused_and_letters_are_not() {
        let characters = ('\u{80}'..='\u{1ffff}').chain('\u{2f800}'..='\u{2fa1f}');
        for character in characters.filter(|character| !character.is_control()) {
            let encoded: String =
                character.to_string().bytes().map(|octet| format!("%{octet:02X}")).collect();
            let made: String = character.nfkc().collect();
            let dangerous = made.contains(['.', '/', '\\', ';', '?', '#', '%']);
            let within = check(&format!("x:/a{encoded}b/x"));
            assert_eq!(within.is_err(), dangerous, "{character:?} {made:?}");
            let alone = check(&format!("x:/{encoded}/x"));
            assert!(alone.is_err() || !dangerous, "{character:?} {made:?}");
            if character.is_alphanumeric() && !dangerous {
                assert_eq!(alone, Ok(()), "{character:?} {made:?}");
            }
        }
    }

    #[test]
    fn a_user_before_a_host_is_refused_unless_the_template_says_it() {
        for (template, uri, expected) in [
            ("https://{+rest}", "https://good.example@evil.example/", Err(NotCanonical::User)),
            ("https://good.example{+rest}", "https://good.example@evil.example/", Err(NotCanonical::User)),
            ("up+https://{+rest}", "up+https://good.example:1@evil.example", Err(NotCanonical::User)),
            ("{+any}", "HTTPS://good.example@evil.example", Err(NotCanonical::User)),
            ("https://user@host/{path}", "https://user@host/a", Ok(())),
            ("https://{+rest}", "https://host/@user?a@b", Ok(())),
            ("npm://{+package}", "npm://@scope/package@1", Ok(())),
        ] {
            let made = UriTemplate::new(template).uri(uri).unwrap().map(|_| ());
            assert_eq!(made, expected, "{template} {uri}");
        }
    }

    #[test]
    fn queries_and_fragments_stand_where_the_template_provides_for_them() {
        for (template, uri, expected) in [
            ("x:/{+name}.md", "x:/a/b.md", Ok(())),
            ("x:/{+name}.md", "x:/secret.txt?.md", Err(NotCanonical::Query)),
            ("x:/{+name}.md", "x:/secret.txt#.md", Err(NotCanonical::Query)),
            ("fetch:{+url}", "fetch:https://host/?q=1#top", Ok(())),
            ("x:a{?q}", "x:a?q=1", Ok(())),
            ("x:a{#part}", "x:a#1", Ok(())),
            ("x:a?q={v}", "x:a?q=1", Ok(())),
            ("x:a?q={+v}", "x:a?q=1#2", Ok(())),
            ("x:a?q={+v}.md", "x:a?q=1#.md", Err(NotCanonical::Query)),
        ] {
            let made = UriTemplate::new(template).uri(uri).unwrap().map(|_| ());
            assert_eq!(made, expected, "{template} {uri}");
        }
    }

    #[test]
    fn what_a_template_says_first_is_trusted_and_what_continues_it_is_not() {
        for (template, uri, expected) in [
            (r"file:///C:\a b\{name}", r"file:///C:\a b\x", Ok(())),
            ("x:a/b b-{v}", "x:a/b b-1", Ok(())),
            ("x:/public/../{v}", "x:/public/../1", Err(NotCanonical::DotSegment)),
            ("x:/public%2F%2e%2e%2F{v}", "x:/public%2F%2e%2e%2F1", Err(NotCanonical::DotSegment)),
            ("x:a b", "x:a b", Ok(())),
            ("x:/.{v}/b", "x:/../b", Err(NotCanonical::DotSegment)),
            ("x:/%{v}", "x:/%2E", Err(NotCanonical::PercentSign)),
            ("x:/%2{v}", "x:/%2E", Err(NotCanonical::PercentSign)),
            ("x:/%25{v}", "x:/%252E", Err(NotCanonical::Twice)),
            ("x:/%2E{v}/b", "x:/%2E./b", Err(NotCanonical::DotSegment)),
            ("x:{v}/a b", "x:1/a b", Err(NotCanonical::Character(' '))),
        ] {
            let made = UriTemplate::new(template).uri(uri).unwrap().map(|_| ());
            assert_eq!(made, expected, "{template} {uri}");
        }
        assert_eq!(UriTemplate::new("x:{v}/a b").check(), Err(NotCanonical::Character(' ')));
        assert_eq!(UriTemplate::new("x:/a b/{v}/c").check(), Ok(()));
        assert_eq!(UriTemplate::new("x:../{v}").check(), Err(NotCanonical::DotSegment));
    }

    #[test]
    fn values_of_variables_are_checked_as_they_are_decoded() {
        for (value, expected) in [
            ("", Ok(())),
            ("a b/é.txt", Ok(())),
            (".", Ok(())),
            ("100%", Ok(())),
            ("../secret", Err(NotCanonical::DotSegment)),
            ("a/%2e%2E/", Err(NotCanonical::DotSegment)),
            ("%25252e%25252e", Err(NotCanonical::DotSegment)),
            ("..\\", Err(NotCanonical::Backslash)),
            ("a%5cb", Err(NotCanonical::Backslash)),
            ("a\0b", Err(NotCanonical::Control)),
            ("a%2500", Err(NotCanonical::Control)),
            ("\u{fe30}/secret", Err(NotCanonical::DotSegment)),
            ("a\u{fe30}", Err(NotCanonical::Normalized('\u{fe30}'))),
            ("%25EF%25BC%258F", Err(NotCanonical::Normalized('\u{ff0f}'))),
        ] {
            assert_eq!(check_value(value), expected, "{value}");
        }
    }
}

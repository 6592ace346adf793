//! Signatures of webhooks, as standardwebhooks.com has them: HMAC-SHA256 over id, time and body.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use zeroize::Zeroizing;

/// The headers.
pub const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];
/// So far from now a time may be, in seconds.
pub const TOLERANCE: i64 = 300;
/// The longest id, in bytes.
const MAX_ID: usize = 256;
/// The shortest secret, in bytes.
const MIN_SECRET: usize = 16;
const MAX_FILE: u64 = 16 << 10;
const MAX_SIGNATURES: usize = 16;

/// Why a webhook is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing, or cannot be read.
    #[error("the headers webhook-id, webhook-timestamp and webhook-signature are required, each once")]
    Headers,
    /// It was signed too long ago, or will be.
    #[error("webhook-timestamp is more than 5 minutes from now")]
    Time,
    /// Nobody who has a secret has signed it.
    #[error("webhook-signature is not of this body, id and timestamp")]
    Wrong,
}

/// A file that holds the secret of webhooks, or several while one replaces another: a line each.
#[derive(Debug, Clone)]
pub struct SecretFile(PathBuf);

/// The secrets.
pub struct Secrets(Vec<Key>);

impl SecretFile {
    /// The file at this path, which must hold a secret.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = Self(path.to_owned());
        file.read().map(|_| file)
    }

    /// Reads it, as it is now.
    pub fn read(&self) -> Result<Secrets, String> {
        use std::io::Read as _;
        let mut text = Zeroizing::new(String::new());
        let read =
            std::fs::File::open(&self.0).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        read.map_err(|error| format!("cannot read {}: {}", self.0.display(), error.kind()))?;
        Secrets::parse(&text).map_err(|error| format!("{} {error}", self.0.display()))
    }
}

impl Secrets {
    /// Reads secrets, the one that signs first. `whsec_` is followed by base64; anything else is a secret as it is.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let read = |line: &str| {
            let secret = match line.strip_prefix("whsec_") {
                Some(encoded) => STANDARD.decode(encoded).map_err(|_| "has no base64 after whsec_")?,
                None => line.as_bytes().to_vec(),
            };
            let secret = Zeroizing::new(secret);
            match secret.len() < MIN_SECRET {
                true => Err("has a secret of less than 16 bytes; make one with `openssl rand -base64 32`"),
                false => Ok(Key::new(HMAC_SHA256, &secret)),
            }
        };
        let keys = lines.map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            Err("has no secret; make one with `openssl rand -base64 32`")
        } else {
            Ok(Self(keys))
        }
    }

    /// The signatures of a webhook, one with each secret, as its header has them.
    pub fn sign(&self, id: &str, time_s: i64, body: &[u8]) -> String {
        let content = content(id, &time_s.to_string(), body);
        let sign = |key: &Key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &content)));
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }

    /// Verifies a webhook that came at a time. Returns its id.
    pub fn verify<'a>(
        &self,
        headers: &'a HeaderMap,
        body: &[u8],
        now_s: i64,
    ) -> Result<&'a str, SignatureError> {
        let [id, time, signatures] = HEADERS.map(|name| one(headers, name));
        let (id, time, signatures) = (id?, time?, signatures?);
        let is_id = !id.is_empty() && id.len() <= MAX_ID;
        let at: i64 = time.parse().map_err(|_| SignatureError::Headers)?;
        if !is_id {
            return Err(SignatureError::Headers);
        }
        if now_s.saturating_sub(at).saturating_abs() > TOLERANCE {
            return Err(SignatureError::Time);
        }
        let content = content(id, time, body);
        let sent = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(MAX_SIGNATURES);
        let sent: Vec<Vec<u8>> = sent.filter_map(|text| STANDARD.decode(text).ok()).collect();
        // In constant time.
        let is_of = |key: &Key| sent.iter().any(|tag| hmac::verify(key, &content, tag).is_ok());
        if self.0.iter().any(is_of) { Ok(id) } else { Err(SignatureError::Wrong) }
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let first = first.filter(|_| second.is_none()).and_then(|value| value.to_str().ok());
    first.ok_or(SignatureError::Headers)
}

fn content(id: &str, time: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", time.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;

    fn headers(id: &str, time: &str, signature: &str) -> HeaderMap {
        let values = [id, time, signature].map(|value| value.parse().unwrap());
        HEADERS.map(|name| name.parse().unwrap()).into_iter().zip(values).collect()
    }

    /// The example of the specification.
    #[test]
    fn signs_as_others_do() {
        let secrets = Secrets::parse(SECRET).unwrap();
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(secrets.sign(ID, TIME, BODY), signature);
        assert_eq!(secrets.verify(&headers(ID, &TIME.to_string(), signature), BODY, TIME), Ok(ID));
    }

    #[test]
    fn what_differs_in_anything_is_refused() {
        let secrets = Secrets::parse(SECRET).unwrap();
        let (time, signature) = (TIME.to_string(), secrets.sign(ID, TIME, BODY));
        let verify = |id: &str, time: &str, signature: &str, body: &[u8], now: i64| {
            secrets.verify(&headers(id, time, signature), body, now).map(str::to_owned)
        };
        let other = Secrets::parse("a secret of somebody else").unwrap().sign(ID, TIME, BODY);
        for (id, at, signature, body) in [
            ("msg_other", time.as_str(), signature.as_str(), BODY),
            (ID, "1614265331", signature.as_str(), BODY),
            (ID, time.as_str(), other.as_str(), BODY),
            (ID, time.as_str(), signature.as_str(), b"{}".as_slice()),
            (ID, time.as_str(), &signature[..20], BODY),
            (ID, time.as_str(), &signature.replace("v1,", "v2,"), BODY),
            (ID, time.as_str(), "v1,", BODY),
        ] {
            assert_eq!(
                verify(id, at, signature, body, TIME),
                Err(SignatureError::Wrong),
                "{id} {at} {signature}"
            );
        }
        for now in [TIME - TOLERANCE, TIME + TOLERANCE] {
            assert!(verify(ID, &time, &signature, BODY, now).is_ok());
        }
        for now in [TIME - TOLERANCE - 1, TIME + TOLERANCE + 1, i64::MIN, i64::MAX] {
            assert_eq!(verify(ID, &time, &signature, BODY, now), Err(SignatureError::Time));
        }
        assert_eq!(verify(ID, "soon", &signature, BODY, TIME), Err(SignatureError::Headers));
        assert_eq!(secrets.verify(&HeaderMap::new(), BODY, TIME), Err(SignatureError::Headers));
        let mut twice = headers(ID, &time, &signature);
        twice.append(HEADERS[0], "msg_other".parse().unwrap());
        assert_eq!(secrets.verify(&twice, BODY, TIME), Err(SignatureError::Headers));
    }

    #[test]
    fn while_one_secret_replaces_another_both_are_good() {
        let both = Secrets::parse(&format!("{SECRET}\n\nsixteen bytes or more\n")).unwrap();
        let (new, old) = (Secrets::parse(SECRET).unwrap(), Secrets::parse("sixteen bytes or more").unwrap());
        let time = TIME.to_string();
        assert!(both.verify(&headers(ID, &time, &old.sign(ID, TIME, BODY)), BODY, TIME).is_ok());
        for one in [new, old] {
            assert!(one.verify(&headers(ID, &time, &both.sign(ID, TIME, BODY)), BODY, TIME).is_ok());
        }
    }

    #[test]
    fn what_anybody_could_guess_is_no_secret() {
        for bad in ["", "\n \n", "short", "whsec_", "whsec_???", "whsec_c2hvcnQ="] {
            assert!(Secrets::parse(bad).is_err(), "{bad:?}");
        }
    }
}

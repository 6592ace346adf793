use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn of_headers(headers: &[(&str, &str)]) -> Secrets {
    let url = Url::parse("https://host.example/mcp").unwrap();
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Secrets::of_request(&url, &headers.collect())
}

fn of_secret(secret: &str) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add(secret.as_bytes());
    secrets
}

/// White space is folded, so that what stands far down in a text may be shown.
#[test]
fn no_half_of_a_secret_is_shown_where_a_text_is_cut() {
    let (secret, limit) = ("k9Zr3vQ8mW2xT7pLbN4c", 64 << 10);
    let secrets = of_secret(secret);
    for cut in 0..=secret.len() {
        let text = format!("{}{secret} end", " ".repeat(limit - cut));
        let shown = secrets.excerpt(&text);
        assert!(!shown.contains("k9") && !shown.contains("4c"), "{cut}: {shown}");
    }
    let long = format!("said {secret}, {}", "x".repeat(2 * limit));
    assert!(secrets.excerpt(&long).starts_with("said [redacted], xxx"));
}

#[test]
fn a_password_of_basic_is_found_alone_and_in_its_pair() {
    let pair = STANDARD.encode("anna:k9/Zr+ü \"x\"");
    let secrets = of_headers(&[("authorization", &format!("Basic {pair}"))]);
    for (said, shown) in [
        ("wrong password k9/Zr+ü \"x\"", "wrong password [redacted]"),
        ("no user anna:k9/Zr+ü \"x\" here", "no user [redacted] here"),
        (&format!("got Basic {pair}."), "got [redacted]."),
        (&format!("got basic: {pair}"), "got basic: [redacted]"),
        (r#"{"password":"k9\/Zr+\u00fc \"x\"","user":"anna"}"#, r#"{"password":"[redacted]","user":"anna"}"#),
        ("?user=anna&password=k9%2fZr%2B%c3%bC+%22x%22&a=b", "?user=anna&password=[redacted]&a=b"),
        ("<b>k9/Zr+&#xfc; &quot;x&quot;</b>", "<b>[redacted]</b>"),
        ("user anna is unknown", "user anna is unknown"),
    ] {
        assert_eq!(secrets.redact(said), shown, "{said}");
    }
}

#[test]
fn the_schemes_and_names_of_headers_are_told() {
    let secrets = of_headers(&[
        ("authorization", "Bearer mF_9.B5f-4.1JqM"),
        ("cookie", "session=31d4d96e407aad42; theme=\"darkest\""),
        ("x-api-key", "AKIAIOSFODNN7"),
    ]);
    for (said, shown) in [
        ("Bearer realm=\"x\", got=\"mF_9.B5f-4.1JqM\"", "Bearer realm=\"x\", got=\"[redacted]\""),
        ("Bearer mF_9.B5f-4.1JqM", "[redacted]"),
        ("no session 31d4d96e407aad42", "no session [redacted]"),
        ("the theme darkest", "the theme [redacted]"),
        ("akiaiosfodnn7 is not AKIAIOSFODNN8", "[redacted] is not [redacted]8"),
    ] {
        assert_eq!(secrets.redact(said), shown, "{said}");
    }
}

#[test]
fn keys_in_a_url_are_found_and_its_words_are_told() {
    let url = "https://anna:hunter22@host.example/services/0123456789abcdef/mcp?version=2&key=a%2Fb%20cdefg";
    let secrets = Secrets::of_request(&Url::parse(url).unwrap(), &HeaderMap::new());
    assert_eq!(
        secrets.redact(&format!("GET {url}")),
        "GET https://anna:[redacted]@host.example/services/[redacted]/mcp?version=2&key=[redacted]"
    );
}

#[test]
fn a_short_secret_blackens_no_text() {
    for (secret, said, shown) in [
        ("abc", "abc and abc", "abc and abc"),
        ("", "nothing", "nothing"),
        ("read", "read, already, read", "[redacted], already, [redacted]"),
        ("tools", "tools/call toolset", "[redacted]/call toolset"),
        ("secret", "secrets", "[redacted]s"),
    ] {
        assert_eq!(of_secret(secret).redact(said), shown, "{secret}");
    }
}

#[test]
fn a_large_text_is_looked_through() {
    let secrets = of_secret("correct-horse-battery");
    let said = format!("{} correct-horse-battery é", "word ".repeat(100_000));
    let shown = format!("{} [redacted] é", "word ".repeat(100_000));
    assert_eq!(secrets.redact(&said), shown);
}

#[test]
fn escapes_that_are_none_are_text() {
    let secrets = of_secret("s3cr3t-value");
    let said = r"100% %4 %zz %+4 \u12 \ud800 \ud800\u0041 \u{110000} \x1 &amp &#x110000; &none; \";
    assert_eq!(secrets.redact(said), said);
    assert_eq!(secrets.redact(&format!("{said}s3cr3t-value")), format!("{said}[redacted]"));
}

/// The ways in which a text is written in another.
const ENCODINGS: [fn(&str) -> String; 9] = [
    |text| text.to_owned(),
    |text| text.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    |text| text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
    |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
    |text| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    },
    |text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
    |text| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&#39;"),
    |text| STANDARD.encode(text),
    |text| text.bytes().map(|byte| format!("{byte:02X}")).collect(),
];
/// Those that can be applied to what was encoded.
const OUTER: std::ops::Range<usize> = 0..7;

fn secret() -> impl Strategy<Value = String> {
    // What the base64 of a shorter text has in common with that of a longer one is too short to be found.
    vec(prop_oneof![3 => proptest::char::range('!', '~'), 1 => any::<char>()], 8..64)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn a_secret_is_found_however_it_is_written(
        secret in secret(), inner in 0..ENCODINGS.len(), outer in OUTER, before in "[А-Я ]{0,9}", after in "[А-Я ]{0,9}",
    ) {
        let written = ENCODINGS[outer](&ENCODINGS[inner](&secret));
        // Spaces at its ends are not taken for those of the text around it.
        let said = format!("{before}:{written}:{after}");
        let shown = of_secret(&secret).redact(&said).into_owned();
        let rest = shown.strip_prefix(&format!("{before}:")).and_then(|rest| rest.strip_suffix(&format!(":{after}")));
        let rest = rest.map(|rest| rest.replace(REDACTED, "").replace(['=', ':'], "").replace("%3D", "").replace("%3d", "").replace("\\u003d", ""));
        prop_assert_eq!(rest.as_deref(), Some(""), "{}", said);
    }

    #[test]
    fn a_secret_is_found_within_base64(secret in secret(), before in "[a-z]{0,9}:", after in "[a-z]{0,9}") {
        let said = STANDARD.encode(format!("{before}{secret}{after}"));
        let shown = of_secret(&secret).redact(&said).into_owned();
        let rest = shown.replace(REDACTED, "\u{0}");
        // Digits at its ends are of the text around it as well.
        let around = STANDARD.encode(&before).len() + STANDARD.encode(&after).len() + 4;
        prop_assert!(rest.len() <= around, "{} {}", said, shown);
    }

    #[test]
    fn a_piece_of_a_secret_is_found(secret in "[!-~]{6,64}", from in any::<prop::sample::Index>(), suffix: bool) {
        let size = secret.len().div_ceil(2).clamp(MIN_PIECE, MAX_PIECE);
        let length = size + from.index(secret.len() - size + 1);
        let piece = if suffix { &secret[secret.len() - length..] } else { &secret[..length] };
        let said = format!("é{piece}é");
        prop_assert_eq!(of_secret(&secret).redact(&said), "é[redacted]é");
    }

    #[test]
    fn text_without_a_secret_stays(secret in "[a-z]{4,40}", said in "[А-Я0-9%&;{}\\\\ \n]{0,200}") {
        prop_assert_eq!(of_secret(&secret).redact(&said), said.as_str());
    }

    #[test]
    fn any_text_is_taken(secrets in vec(any::<String>(), 0..4), said in any::<String>()) {
        let mut all = Secrets::default();
        secrets.iter().for_each(|secret| all.add(secret.as_bytes()));
        let shown = all.redact(&said).into_owned();
        for secret in secrets.iter().filter(|secret| secret.len() >= MIN_PIECE) {
            prop_assert!(!shown.contains(secret.as_str()) || REDACTED.contains(secret.as_str()));
        }
    }
}

//! Conditions of tokens: what may be written in them, read by the code by which edges read them.

use access::address::AddressRange;
use access::limit::Limit;
use access::method::Methods;
use access::window::Window;
use prost_types::Timestamp;
use trunkline::identity::v1::Conditions;

use super::Violations;

/// A field, its values, how many it may have, how long each may be, and how one is read.
type List<'a> = (&'static str, &'a [String], usize, usize, fn(&str) -> Result<(), String>);

/// Checks conditions, and that they leave time before the token ends.
pub fn validate(conditions: &Conditions, end: Option<&Timestamp>, violations: &mut Violations) {
    let lists: [List<'_>; 5] = [
        ("methods", &conditions.methods, 32, 128, |text| told(Methods::new(&[text.to_owned()]))),
        ("from", &conditions.from, 64, 64, |text| told(text.parse::<AddressRange>())),
        ("windows", &conditions.windows, 32, 128, |text| told(text.parse::<Window>())),
        ("rates", &conditions.rates, 16, 64, |text| told(Limit::rate(text))),
        ("quotas", &conditions.quotas, 16, 64, |text| told(Limit::quota(text))),
    ];
    for list in lists {
        validate_list(list, violations);
    }
    let Some(begin) = &conditions.not_before else { return };
    validate_time("conditions.not_before", begin, violations);
    let is_before = end.is_none_or(|end| (begin.seconds, begin.nanos) < (end.seconds, end.nanos));
    let text = "must be before `expire_time`; the token is never valid otherwise";
    violations.require(is_before, "conditions.not_before", text);
}

/// Checks a point in time.
pub fn validate_time(field: &str, time: &Timestamp, violations: &mut Violations) {
    let valid = (0..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    violations.require(valid, field, "must be a time between the years 1970 and 9999");
}

fn validate_list((name, list, most, longest, read): List<'_>, violations: &mut Violations) {
    let (field, count) = (format!("conditions.{name}"), list.len());
    violations.require(count <= most, &field, format!("has {count} entries; the maximum is {most}"));
    for (index, text) in list.iter().enumerate() {
        let field = format!("{field}[{index}]");
        violations.at_most_bytes(&field, text, longest);
        if text.len() <= longest
            && let Err(error) = read(text)
        {
            violations.add(field, error);
        }
    }
}

fn told<T>(read: Result<T, impl std::error::Error>) -> Result<(), String> {
    read.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(conditions: &Conditions, end: Option<i64>) -> Vec<String> {
        let end = end.map(|seconds| Timestamp { seconds, nanos: 0 });
        let mut violations = Violations::default();
        validate(conditions, end.as_ref(), &mut violations);
        violations
            .into_vec()
            .into_iter()
            .map(|found| format!("{} {}", found.field, found.description))
            .collect()
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn what_edges_can_read_is_taken() {
        let conditions = Conditions {
            methods: list(&["tools/call", "resources/*"]),
            from: list(&["10.0.0.0/8", "2001:db8::1"]),
            not_before: Some(Timestamp { seconds: 10, nanos: 0 }),
            windows: list(&["Mon-Fri 08:00-18:00 Europe/Berlin"]),
            rates: list(&["5/s per tool"]),
            quotas: list(&["10000/month"]),
        };
        assert_eq!(violations(&conditions, Some(11)), [""; 0]);
        assert_eq!(violations(&conditions, None), [""; 0]);
    }

    #[test]
    fn what_they_cannot_read_is_named_by_field_and_place() {
        let conditions = Conditions {
            methods: list(&["tools/call", "tools/cal"]),
            from: list(&["10.1.2.3/8"]),
            windows: list(&["always"]),
            rates: list(&["0/s"]),
            quotas: list(&["5/month", "many"]),
            ..Conditions::default()
        };
        let found = violations(&conditions, None);
        let fields: Vec<_> = found.iter().filter_map(|text| text.split(' ').next()).collect();
        let expected = ["methods[1]", "from[0]", "windows[0]", "rates[0]", "quotas[1]"];
        assert_eq!(fields, expected.map(|field| format!("conditions.{field}")));
        assert!(found[1].contains("write 10.0.0.0/8 for the network"), "{}", found[1]);
    }

    #[test]
    fn a_token_that_would_never_begin_is_refused() {
        let begin = |seconds| Conditions {
            not_before: Some(Timestamp { seconds, nanos: 0 }),
            ..Conditions::default()
        };
        let never = "conditions.not_before must be before `expire_time`; the token is never valid otherwise";
        assert_eq!(violations(&begin(11), Some(11)), [never]);
        assert_eq!(
            violations(&begin(-1), None),
            ["conditions.not_before must be a time between the years 1970 and 9999"]
        );
    }
}

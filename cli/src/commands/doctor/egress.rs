//! Whether edges may connect to the upstreams that the control plane may connect to: it lists what those have, and edges call them.

use egress::Rule;
use prost_reflect::DynamicMessage;

use super::check::Check;
use crate::kinds::short_name;
use crate::reflection;

const EGRESS: &str = "egress";

/// The edges that refuse what the control plane may connect to. Programs of earlier versions do not say their rules.
pub(super) fn checks(system: &DynamicMessage, edges: &[DynamicMessage]) -> Vec<Check> {
    let control = reflection::text(system, "egress");
    let connected = edges.iter().filter(|edge| reflection::to_json(edge)["connected"] == true);
    let check = |edge| check(&reflection::text(edge, "name"), &reflection::text(edge, "egress"), &control);
    connected.filter_map(check).collect()
}

fn check(edge: &str, allowed: &str, at_control: &str) -> Option<Check> {
    let (rule, control): (Rule, Rule) = (allowed.parse().ok()?, at_control.parse().ok()?);
    let (edge, options) = (short_name(edge), rule.options_to_allow(&control)?);
    Some(Check::warn(
        EGRESS,
        format!(
            "edge {edge} connects to fewer addresses than the control plane, so calls may fail at upstreams that are ready: its \
             egress rule is {allowed}, that of the control plane is {at_control}"
        ),
        format!("start edge {edge} {options}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_may_connect_to_less_is_told_what_to_add() {
        let (strict, loopback) = ("public addresses", "public addresses, loopback");
        let found = check("edges/e1", strict, loopback).unwrap();
        assert_eq!(
            (found.text.as_str(), found.advice.as_deref()),
            (
                "edge e1 connects to fewer addresses than the control plane, so calls may fail at upstreams that are ready: its \
                 egress rule is public addresses, that of the control plane is public addresses, loopback",
                Some("start edge e1 with --egress-allow loopback")
            )
        );
        for (edge, control) in
            [(loopback, strict), (strict, strict), ("", loopback), (strict, ""), ("of later", loopback)]
        {
            assert_eq!(check("edges/e1", edge, control), None, "{edge} | {control}");
        }
    }
}

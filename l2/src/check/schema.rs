//! A document held against the schema of its CustomResourceDefinition: what the API server would drop or refuse. The
//! rules in CEL are not evaluated; what they guard, ranges of addresses, is judged by the pools' own code. Pure.

use causeway_daemon::config::nearest;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// Everything that is wrong with the document, each with the path of the field.
pub(super) fn faults(document: &Value, schema: &JSONSchemaProps) -> Vec<String> {
    let mut faults = Vec::new();
    // Names, kinds and metadata are the API server's own and judged elsewhere.
    let own = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
    object(document, schema, "", &own, &mut faults);
    faults
}

fn visit(value: &Value, schema: &JSONSchemaProps, path: &str, faults: &mut Vec<String>) {
    let is = schema.type_.as_deref().unwrap_or_default();
    let fits = match is {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        faults.push(format!(
            "`{path}` is {}, and must be {}{}",
            kind_of(value),
            article(is),
            mend(value, is)
        ));
        return;
    }
    if let Some(allowed) = schema.enum_.as_ref().filter(|allowed| !allowed.iter().any(|one| one.0 == *value))
    {
        let allowed: Vec<String> =
            allowed.iter().filter_map(|one| one.0.as_str().map(str::to_owned)).collect();
        let help = value.as_str().and_then(|text| nearest(text, &allowed));
        let help = help.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        faults.push(format!("`{path}` is {value}, and must be one of {}{help}", allowed.join(", ")));
    }
    sizes(value, schema, path, faults);
    match value {
        Value::Object(_) => object(value, schema, path, &|_| false, faults),
        Value::Array(items) => {
            let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
            for (i, item) in items.iter().enumerate() {
                visit(item, schema, &format!("{path}[{i}]"), faults);
            }
        }
        _ => {}
    }
}

fn object(
    value: &Value,
    schema: &JSONSchemaProps,
    path: &str,
    skipped: &dyn Fn(&str) -> bool,
    faults: &mut Vec<String>,
) {
    let Some(fields) = value.as_object() else { return };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    // A null is dropped before anything is judged: the field is not there.
    let is_there = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    for name in schema.required.iter().flatten().filter(|name| !is_there(name) && !skipped(name)) {
        faults.push(format!("`{}` is missing", below(name)));
    }
    let any = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(&**schema),
        _ => None,
    };
    let known = schema.properties.as_ref();
    if any.is_none()
        && (known.is_none() && !path.is_empty() || schema.x_kubernetes_preserve_unknown_fields == Some(true))
    {
        return;
    }
    for (name, value) in fields.iter().filter(|(name, _)| !skipped(name)) {
        let path = below(name);
        match known.and_then(|known| known.get(name)).or(any) {
            Some(_) if value.is_null() => {}
            Some(schema) => visit(value, schema, &path, faults),
            None => {
                let names: Vec<&String> = known.iter().flat_map(|known| known.keys()).collect();
                let help = nearest(name, &names)
                    .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                faults.push(format!("unknown field `{path}`{help}"));
            }
        }
    }
}

fn sizes(value: &Value, schema: &JSONSchemaProps, path: &str, faults: &mut Vec<String>) {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (size, unit, least, most) = match value {
        Value::String(text) => {
            (count(text.chars().count()), "characters", schema.min_length, schema.max_length)
        }
        Value::Array(items) => (count(items.len()), "entries", schema.min_items, schema.max_items),
        _ => (0, "", None, None),
    };
    if let Some(least) = least.filter(|least| size < *least) {
        faults.push(format!("`{path}` has {size} {unit}, and needs {least} at least"));
    }
    if let Some(most) = most.filter(|most| size > *most) {
        faults.push(format!("`{path}` has {size} {unit}, and may have {most} at most"));
    }
    let Some(number) = value.as_f64() else { return };
    if let Some(least) = schema.minimum.filter(|least| number < *least) {
        faults.push(format!("`{path}` is {value}, and must be {least} at least"));
    }
    if let Some(most) = schema.maximum.filter(|most| number > *most) {
        faults.push(format!("`{path}` is {value}, and may be {most} at most"));
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map of fields",
    }
}

fn article(is: &str) -> &'static str {
    match is {
        "object" => "a map of fields",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

/// What is written instead, where that is plain.
fn mend(value: &Value, is: &str) -> String {
    match (value, is) {
        (Value::String(text), "array") => format!(": write [{text}]"),
        (Value::String(text), "boolean") if text == "true" || text == "false" => {
            ": write it without quotes".to_owned()
        }
        (Value::String(text), "integer" | "number") if text.parse::<f64>().is_ok() => {
            ": write it without quotes".to_owned()
        }
        (Value::Number(number), "string") => format!(": write \"{number}\""),
        (Value::Bool(on), "string") => format!(": write \"{on}\""),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    fn told(kind: &str, spec: &str) -> Vec<String> {
        let crd = crate::crds::all().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let documents = parse("f.yaml", &format!("kind: {kind}\nmetadata: {{name: a}}\n{spec}")).unwrap();
        faults(&documents[0].value, &schema)
    }

    #[test]
    fn what_the_api_server_takes_has_no_fault() {
        for spec in [
            "spec: {addresses: [10.0.0.0/24], autoAssign: false, avoidBuggyIPs: true}",
            "spec: {addresses: [10.0.0.0/24], serviceAllocation: {priority: 3, namespaces: [a], \
             serviceSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}], matchLabels: {x: z}}]}}",
            "spec: {addresses: [10.0.0.0/24], autoAssign: null}",
            "spec: {addresses: [10.0.0.0/24]}\nstatus: {assignedIPv4: 0, assignedIPv6: 0, availableIPv4: 1, availableIPv6: 0}",
        ] {
            assert_eq!(told("IPAddressPool", spec), Vec::<String>::new(), "{spec}");
        }
        for spec in ["", "spec: {}", "spec: {nodeSelectors: [{matchLabels: {a: b}}], interfaces: [eth0]}"] {
            assert_eq!(told("L2Advertisement", spec), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn each_fault_names_the_field_and_the_mend() {
        for (kind, spec, part) in [
            ("IPAddressPool", "", "`spec` is missing"),
            ("IPAddressPool", "spec: {}", "`spec.addresses` is missing"),
            (
                "IPAddressPool",
                "spec: {addresses: 10.0.0.0/24}",
                "`spec.addresses` is a string, and must be a list: write [10.0.0.0/24]",
            ),
            (
                "IPAddressPool",
                "spec: {addresses: [1]}",
                "`spec.addresses[0]` is a number, and must be a string",
            ),
            (
                "IPAddressPool",
                "spec: {addresses: [a], autoAssign: \"false\"}",
                "must be true or false: write it without quotes",
            ),
            (
                "IPAddressPool",
                "spec: {adresses: [a]}",
                "unknown field `spec.adresses`; did you mean `addresses`?",
            ),
            ("IPAddressPool", "sepc: {}", "unknown field `sepc`; did you mean `spec`?"),
            (
                "IPAddressPool",
                "spec: {addresses: [a], serviceAllocation: {priority: high}}",
                "`spec.serviceAllocation.priority` is a string, and must be a whole number",
            ),
            (
                "L2Advertisement",
                "spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: in}]}]}",
                "must be one of In, NotIn, Exists, DoesNotExist; did you mean `In`?",
            ),
            ("L2Advertisement", "spec: {preferredNodeSelectors: [{weight: 200}]}", "may be 100 at most"),
            (
                "L2Advertisement",
                "spec: {preferredNodeSelectors: [{weight: 2}]}",
                "`spec.preferredNodeSelectors[0].preference` is missing",
            ),
            (
                "L2Advertisement",
                "spec: {nodeSelectors: [{matchLabels: {a: 1}}]}",
                "`spec.nodeSelectors[0].matchLabels.a` is a number, and must be a string: write \"1\"",
            ),
            ("L2Advertisement", "spec: [a]", "`spec` is a list, and must be a map of fields"),
        ] {
            let faults = told(kind, spec).join("\n");
            assert!(faults.contains(part), "{part:?} is missing in {faults:?} for {spec}");
        }
    }
}

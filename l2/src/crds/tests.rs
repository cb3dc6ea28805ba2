use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrBool;

use super::*;

/// The fields of MetalLB 0.16's definitions: `!` required, `[]` items, `{}` values of a map, `@` a label selector.
const METALLB: [(&str, &str); 4] = [
    (
        "IPAddressPool",
        "spec!:object spec!.addresses!:array spec!.addresses![]:string spec!.autoAssign:boolean=true
        spec!.avoidBuggyIPs:boolean=false spec!.serviceAllocation:object spec!.serviceAllocation.priority:integer
        spec!.serviceAllocation.namespaces:array spec!.serviceAllocation.namespaces[]:string
        spec!.serviceAllocation.namespaceSelectors:array @spec!.serviceAllocation.namespaceSelectors[]
        spec!.serviceAllocation.serviceSelectors:array @spec!.serviceAllocation.serviceSelectors[]
        status:object status.assignedIPv4!:integer status.assignedIPv6!:integer status.availableIPv4!:integer
        status.availableIPv6!:integer",
    ),
    (
        "L2Advertisement",
        "spec:object spec.interfaces:array spec.interfaces[]:string spec.ipAddressPools:array
        spec.ipAddressPools[]:string spec.ipAddressPoolSelectors:array @spec.ipAddressPoolSelectors[]
        spec.nodeSelectors:array @spec.nodeSelectors[] spec.serviceSelectors:array @spec.serviceSelectors[]
        spec.preferredNodeSelectors:array spec.preferredNodeSelectors[]:object
        spec.preferredNodeSelectors[].weight!:integer @spec.preferredNodeSelectors[].preference! status:object",
    ),
    (
        "ServiceL2Status",
        "spec:object status:object status.interfaces:array status.interfaces[]:object status.interfaces[].name:string
        status.node:string status.serviceName:string status.serviceNamespace:string",
    ),
    (
        "ConfigurationState",
        "status:object status.conditions:array status.conditions[]:object
        status.conditions[].lastTransitionTime!:string status.conditions[].message!:string
        status.conditions[].observedGeneration:integer status.conditions[].reason!:string
        status.conditions[].status!:string status.conditions[].type!:string status.errorSummary:string
        status.result:string",
    ),
];

const SELECTOR: &str = ":object .matchLabels:object .matchLabels{}:string .matchExpressions:array
    .matchExpressions[]:object .matchExpressions[].key!:string .matchExpressions[].operator!:string
    .matchExpressions[].values:array .matchExpressions[].values[]:string";

/// What ours has besides, all of it optional.
const OURS: [(&str, &str); 4] = [
    (
        "IPAddressPool",
        "status.conditions:array status.conditions[]:object status.conditions[].lastTransitionTime!:string
        status.conditions[].message!:string status.conditions[].observedGeneration:integer
        status.conditions[].reason!:string status.conditions[].status!:string status.conditions[].type!:string",
    ),
    ("L2Advertisement", ""),
    ("ServiceL2Status", "status.addresses:array status.addresses[]:string status.since:string status.reason:string"),
    ("ConfigurationState", ""),
];

fn fields(kind: &str, lists: &[&[(&str, &str)]]) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for (_, list) in lists.iter().flat_map(|lists| lists.iter()).filter(|(of, _)| *of == kind) {
        for field in list.split_whitespace() {
            match field.strip_prefix('@') {
                Some(path) => fields.extend(SELECTOR.split_whitespace().map(|rest| format!("{path}{rest}"))),
                None => {
                    fields.insert(field.to_owned());
                }
            }
        }
    }
    fields
}

fn walk(schema: &JSONSchemaProps, path: &str, found: &mut BTreeSet<String>) {
    if !path.is_empty() {
        let default = schema.default.as_ref().map_or_else(String::new, |default| format!("={}", default.0));
        found.insert(format!("{path}:{}{default}", schema.type_.as_deref().unwrap_or("?")));
    }
    let required = schema.required.clone().unwrap_or_default();
    for (name, property) in schema.properties.iter().flatten() {
        let mark = if required.contains(name) { "!" } else { "" };
        let dot = if path.is_empty() { "" } else { "." };
        walk(property, &format!("{path}{dot}{name}{mark}"), found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(items, &format!("{path}[]"), found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(values, &format!("{path}{{}}"), found);
    }
}

fn schema(crd: &CustomResourceDefinition) -> &JSONSchemaProps {
    crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

#[test]
fn the_schema_is_metallbs_field_by_field_and_what_is_added_is_optional() {
    for crd in all() {
        let kind = crd.spec.names.kind.as_str();
        let mut found = BTreeSet::new();
        walk(schema(&crd), "", &mut found);
        let expected = fields(kind, &[&METALLB, &OURS]);
        let missing: Vec<_> = expected.difference(&found).collect();
        let extra: Vec<_> = found.difference(&expected).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{kind}: missing {missing:?}, extra {extra:?}");
    }
}

#[test]
fn names_scope_and_columns_are_metallbs() {
    let names: Vec<String> = all().into_iter().map(|crd| crd.metadata.name.unwrap()).collect();
    assert_eq!(
        names,
        [
            "ipaddresspools.metallb.io",
            "l2advertisements.metallb.io",
            "servicel2statuses.metallb.io",
            "configurationstates.metallb.io"
        ]
    );
    for crd in all() {
        assert_eq!(crd.spec.scope, "Namespaced");
        assert!(crd.spec.names.short_names.as_ref().is_none_or(Vec::is_empty));
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some(), "{}", crd.spec.names.kind);
        assert_eq!(version.name, "v1beta1");
    }
}

#[test]
fn objects_without_a_spec_are_read_where_metallb_takes_them() {
    let text =
        r#"{"apiVersion":"metallb.io/v1beta1","kind":"L2Advertisement","metadata":{"name":"example"}}"#;
    let advertisement: L2Advertisement = serde_json::from_str(text).unwrap();
    assert_eq!(advertisement.spec, crate::api::L2AdvertisementSpec::default());
    let with = r#"{"metadata":{"name":"x"},"spec":{"ipAddressPools":["a"]},"status":{}}"#;
    let advertisement: L2Advertisement = serde_json::from_str(with).unwrap();
    assert_eq!(advertisement.spec.ip_address_pools, ["a"]);
    let written = serde_json::to_value(&advertisement).unwrap();
    assert_eq!(written["spec"]["ipAddressPools"][0], "a");
    let status = r#"{"metadata":{"name":"l2-x"},"status":{"node":"n1"}}"#;
    assert_eq!(
        serde_json::from_str::<ServiceL2Status>(status).unwrap().status.unwrap().node.as_deref(),
        Some("n1")
    );
    let pool = r#"{"metadata":{"name":"x"}}"#;
    assert!(serde_json::from_str::<IPAddressPool>(pool).is_err(), "a pool without a spec is none");
}

#[test]
fn the_yaml_is_complete_and_reads_back() {
    let text = yaml().unwrap();
    let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(read.len(), 4);
    assert!(text.contains("isCIDR"), "the rules are in it");
    assert!(!text.contains("nullable"), "{text}");
}

#[test]
fn what_is_shipped_is_what_is_printed() {
    let shipped = include_str!("../../../deploy/kubernetes/chart/files/crds.yaml");
    assert_eq!(
        shipped,
        yaml().unwrap(),
        "write it again: causeway-allocator crds > deploy/kubernetes/chart/files/crds.yaml"
    );
    // `deploy/kubernetes/generate` takes them into the plain manifests: same definitions.
    let plain = include_str!("../../../deploy/kubernetes/causeway.yaml");
    let documents = crate::manifest::parse("causeway.yaml", plain).unwrap();
    let crds: Vec<_> = documents.iter().filter(|one| one.kind() == "CustomResourceDefinition").collect();
    assert_eq!(crds.len(), 4);
    for crd in all() {
        let name = crd.metadata.name.clone().unwrap();
        let plain = crds.iter().find(|one| one.name() == name).unwrap();
        // As definitions, not as text: YAML writes a bound as `1`, the type holds 1.0.
        assert_eq!(plain.read::<CustomResourceDefinition>().unwrap(), crd, "{name} in causeway.yaml is old");
    }
}

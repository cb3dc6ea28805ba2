//! The CustomResourceDefinitions, as `causeway-allocator crds` prints them and `deploy/kubernetes` ships them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::api::{ConfigurationState, IPAddressPool, L2Advertisement, ServiceL2Status};

/// All definitions, in the order in which they are printed.
pub(crate) fn all() -> Vec<CustomResourceDefinition> {
    let mut crds =
        vec![IPAddressPool::crd(), L2Advertisement::crd(), ServiceL2Status::crd(), ConfigurationState::crd()];
    for crd in &mut crds {
        let optional_spec = crd.spec.names.kind != "IPAddressPool";
        crd.metadata.labels = Some([("app.kubernetes.io/part-of".to_owned(), "causeway".to_owned())].into());
        for version in &mut crd.spec.versions {
            let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
            let Some(schema) = schema else { continue };
            if let Some(required) = schema.required.as_mut().filter(|_| optional_spec) {
                required.retain(|field| field != "spec");
            }
            tidy(schema);
        }
    }
    crds
}

/// As YAML, one document per definition.
///
/// # Errors
/// When a definition cannot be written, which would be a fault of ours.
pub(crate) fn yaml() -> Result<String, serde_saphyr::SerializeError> {
    let mut text = String::new();
    for crd in all() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(text)
}

/// Takes out what the generator adds and MetalLB's schema has not: formats of plain integers, nullable options (the
/// API server drops a null where the field is optional), empty lists of requirements.
fn tidy(schema: &mut JSONSchemaProps) {
    if matches!(schema.format.as_deref(), Some("uint" | "uint32" | "uint8" | "double")) {
        schema.format = None;
    }
    if schema.required.as_ref().is_some_and(Vec::is_empty) {
        schema.required = None;
    }
    if schema.properties.as_ref().is_some_and(std::collections::BTreeMap::is_empty) {
        schema.properties = None;
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        property.nullable = None;
        tidy(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

#[cfg(test)]
mod tests;

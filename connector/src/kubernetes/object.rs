//! A Service as the API server tells it, and of it what rules are made of. What is kept on the disk has the same form.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Of our annotations.
pub(crate) const PREFIX: &str = "causeway.dev/";
/// Where external-dns is told names, in its two spellings.
pub(super) const EXTERNAL_DNS: [&str; 2] =
    ["external-dns.kubernetes.io/hostname", "external-dns.alpha.kubernetes.io/hostname"];

/// Unknown fields are read over: they are most of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Service {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) namespace: String,
    pub(super) name: String,
    /// RFC 3339 in UTC and whole seconds, so that the texts sort as the times do. The API server sets it.
    pub(super) creation_timestamp: Option<String>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// Of no use once the Service has been taken note of.
    #[serde(skip_serializing)]
    pub(super) resource_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    /// TCP when it is not said.
    pub(super) protocol: Option<String>,
    pub(super) app_protocol: Option<String>,
    pub(super) port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LoadBalancer {
    pub(super) ingress: Option<Vec<Ingress>>,
}

/// The VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ingress {
    pub(super) ip: Option<String>,
    pub(super) hostname: Option<String>,
}

/// Names a Service: namespace, name.
pub(super) type Key = (String, String);

impl Service {
    pub(super) fn key(&self) -> Key {
        (self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    /// As people write it.
    pub(super) fn shown(&self) -> Arc<str> {
        format!("{}/{}", self.metadata.namespace, self.metadata.name).into()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.metadata.annotations.iter().flatten();
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Without what rules are not made of; none when nothing is left to make one of. A cluster may have thousands of
    /// Services, and most have nothing to do with us.
    pub(super) fn reduced(mut self) -> Option<Self> {
        let annotations = self.metadata.annotations.as_mut()?;
        annotations.retain(|name, _| name.starts_with(PREFIX) || EXTERNAL_DNS.contains(&name.as_str()));
        self.metadata.resource_version = None;
        self.metadata.annotations.as_ref().is_some_and(|left| !left.is_empty()).then_some(self)
    }
}

#[cfg(test)]
impl Service {
    /// One with a VIP and the port 80, and with these of our annotations.
    pub(super) fn sample(name: &str, since: &str, ip: &str, ours: &[(&str, &str)]) -> Self {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        let annotations = ours.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()));
        let port = Port { port: 80, ..Port::default() };
        Self {
            metadata: Metadata {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                creation_timestamp: Some(format!("2026-01-01T00:00:{since:0>2}Z")),
                annotations: Some(annotations.collect()),
                resource_version: None,
            },
            spec: Spec { kind: Some("LoadBalancer".to_owned()), ports: Some(vec![port]) },
            status: Status {
                load_balancer: LoadBalancer {
                    ingress: Some(vec![Ingress { ip: Some(ip.to_owned()), hostname: None }]),
                },
            },
        }
    }

    pub(super) fn with_ports(mut self, ports: &[(&str, u16)]) -> Self {
        let port = |(name, port): &(&str, u16)| Port {
            name: Some((*name).to_owned()),
            port: *port,
            ..Port::default()
        };
        self.spec.ports = Some(ports.iter().map(port).collect());
        self
    }
}

//! `--kubernetes` of `run` and `doctor`: what the command line says of the cluster whose Services become rules.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::kubernetes::{Cluster, Options};

#[derive(Debug, Args)]
pub(super) struct KubernetesArgs {
    /// Make rules of the Services of type LoadBalancer that have the annotation causeway.dev/hostname
    #[arg(long, env = "CAUSEWAY_KUBERNETES")]
    kubernetes: bool,
    /// How to reach the cluster [default: in a pod, by its ServiceAccount]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Only Services of this namespace [default: of all]
    #[arg(long, env = "CAUSEWAY_KUBERNETES_NAMESPACE", value_name = "NAME")]
    kubernetes_namespace: Option<String>,
    /// Take external-dns's hostname annotations too, where ours is missing
    #[arg(long, env = "CAUSEWAY_KUBERNETES_EXTERNAL_DNS")]
    kubernetes_external_dns: bool,
}

impl KubernetesArgs {
    pub(super) fn is_wanted(&self) -> bool {
        self.kubernetes
    }

    /// Looks at the cluster, if that is wanted.
    ///
    /// # Errors
    /// When it is asked for and cannot be done; that the API server is away is no error.
    pub(super) async fn open(&self, data: Option<&Path>) -> Result<Option<Cluster>> {
        let Some(options) = self.options()? else { return Ok(None) };
        Ok(Some(Cluster::begin(options, data).await?))
    }

    /// None: no cluster is asked for.
    ///
    /// # Errors
    /// When what is said cannot be meant.
    pub(super) fn options(&self) -> Result<Option<Options>> {
        if !self.kubernetes {
            // KUBECONFIG alone is everybody's, and says nothing.
            if self.kubernetes_namespace.is_some() || self.kubernetes_external_dns {
                bail!(
                    "--kubernetes-namespace and --kubernetes-external-dns say nothing without --kubernetes: add it"
                );
            }
            return Ok(None);
        }
        let namespace = self.kubernetes_namespace.clone().filter(|namespace| !namespace.is_empty());
        if let Some(namespace) = &namespace
            && !namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            bail!("--kubernetes-namespace: `{namespace}` is no name of a namespace");
        }
        Ok(Some(Options {
            kubeconfig: self.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
            namespace,
            external_dns: self.kubernetes_external_dns,
        }))
    }
}

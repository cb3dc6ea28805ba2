//! Where it is written how the API server is reached: in a kubeconfig, or in a pod's ServiceAccount. Read anew for each connection, so
//! that a token that is rotated, and a file that was renewed, are taken up without a restart.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use super::access::{Access, AccessError, Identity, Server};
use super::kubeconfig;

/// Where it is written how the API server is reached.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Kubeconfig(PathBuf),
    Pod { host: String, port: String, folder: PathBuf },
}

/// Where a pod finds its ServiceAccount.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Source {
    /// # Errors
    /// When there is neither.
    pub(super) fn find(kubeconfig: Option<&Path>) -> Result<Self, AccessError> {
        if let Some(path) = kubeconfig {
            return Ok(Self::Kubeconfig(path.to_owned()));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) {
            (Some(host), Some(port)) => Ok(Self::Pod { host, port, folder: ACCOUNT.into() }),
            _ => Err(AccessError(
                "this is no pod of a cluster, and no kubeconfig is named: name one with --kubeconfig or KUBECONFIG".to_owned(),
            )),
        }
    }

    /// # Errors
    /// When a file cannot be used; names it and the mend.
    pub(super) fn read(&self) -> Result<Access, AccessError> {
        let unreadable = |path: &Path, error: std::io::Error, mend: &str| {
            AccessError(format!("cannot read {}: {error}; {mend}", path.display()))
        };
        let (server, identity) = match self {
            Self::Kubeconfig(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| unreadable(path, error, "--kubeconfig or KUBECONFIG names one file"))?;
                kubeconfig::parse(path, &text)?
            }
            Self::Pod { host, port, folder } => {
                let path = folder.join("ca.crt");
                let authority = std::fs::read(&path).map_err(|error| {
                    unreadable(
                        &path,
                        error,
                        "the pod wants a serviceAccountName, and automountServiceAccountToken on",
                    )
                })?;
                let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.clone() };
                let server = Server::parse(&format!("https://{host}:{port}"), Some(authority), None)
                    .map_err(|text| AccessError(format!("KUBERNETES_SERVICE_HOST: {text}")))?;
                (server, Identity::TokenFile(folder.join("token")))
            }
        };
        Access::new(server, &identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_account_and_a_rotated_token_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["kubernetes".to_owned()]).unwrap();
        let source = Source::Pod {
            host: "fd00::1".to_owned(),
            port: "443".to_owned(),
            folder: folder.path().to_owned(),
        };
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("ca.crt") && error.contains("serviceAccountName"), "{error}");
        std::fs::write(folder.path().join("ca.crt"), made.cert.pem()).unwrap();
        for token in ["one", "two"] {
            std::fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
            let access = source.read().unwrap();
            assert_eq!(access.server.shown(), "https://[fd00::1]:443");
            let authorization = access.authorization.unwrap();
            assert_eq!(authorization, format!("Bearer {token}"));
            assert!(!format!("{authorization:?}").contains(token), "it is never shown");
        }
    }
}

//! The last known Services, kept in the `data` folder: a connector that starts while its cluster is away serves what it served.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::object::Service;
use crate::disk::{make_folder, write_whole};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    path: PathBuf,
    /// Of which cluster, and of what part of it: another one's Services are not ours to serve.
    of: String,
}

#[derive(Serialize, Deserialize)]
struct State {
    of: String,
    services: Vec<Service>,
}

const NAME: &str = "kubernetes.json";

impl Kept {
    /// Makes the folder if there is none.
    ///
    /// # Errors
    /// When the folder cannot be used; the text says the mend.
    pub(super) fn open(data: &Path, of: String) -> Result<Self, String> {
        make_folder(data).map_err(|error| {
            format!(
                "cannot make the folder {}: {error}; `data` must be a folder that the connector may write to",
                data.display()
            )
        })?;
        Ok(Self { path: data.join(NAME), of })
    }

    /// What was kept. A file that cannot be read is as good as none: the cluster will say it all again.
    pub(super) fn load(&self) -> Option<Vec<Service>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("cannot read the Services that were kept in {}: {error}", self.path.display());
                return None;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(State { of, services }) if of == self.of => Some(services),
            Ok(State { of, .. }) => {
                tracing::info!(of, now = self.of, "the Services that were kept are of another cluster");
                None
            }
            Err(error) => {
                tracing::warn!("{} is damaged, and will be written anew: {error}", self.path.display());
                None
            }
        }
    }

    /// # Errors
    /// When it cannot be written; the text says the mend.
    pub(super) fn store(&self, services: &[Service]) -> Result<(), String> {
        let state = State { of: self.of.clone(), services: services.to_vec() };
        let text = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
        write_whole(&self.path, &text).map_err(|error| {
            format!(
                "cannot keep the cluster's Services in {}: {error}; `data` must be a folder that the connector may write to",
                self.path.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Service {
        let text = format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "{name}", "uid": "1", "resourceVersion": "7",
                "annotations": {{"causeway.dev/hostname": "a.dev", "kubectl.kubernetes.io/last-applied-configuration": "…"}}}},
                "spec": {{"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{{"port": 80, "nodePort": 30080}}]}},
                "status": {{"loadBalancer": {{"ingress": [{{"ip": "10.0.0.104", "ipMode": "VIP"}}]}}}}}}"#
        );
        serde_json::from_str::<Service>(&text).unwrap().reduced().unwrap()
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_for_the_same_cluster_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep/data");
        let open = |of: &str| Kept::open(&data, of.to_owned()).unwrap();
        assert_eq!(open("https://a:6443").load(), None);
        open("https://a:6443").store(&[service("web")]).unwrap();
        assert_eq!(open("https://a:6443").load(), Some(vec![service("web")]));
        assert_eq!(open("https://b:6443").load(), None);
        let text = std::fs::read_to_string(data.join(NAME)).unwrap();
        assert!(!text.contains("last-applied") && !text.contains("clusterIP"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "{ half").unwrap();
        let kept = Kept::open(folder.path(), "a".to_owned()).unwrap();
        assert_eq!(kept.load(), None);
        kept.store(&[service("web")]).unwrap();
        assert_eq!(kept.load().map(|all| all.len()), Some(1));
        let error = Kept::open(Path::new("/proc/none/data"), "a".to_owned()).unwrap_err();
        assert!(error.contains("`data` must be a folder"), "{error}");
    }
}

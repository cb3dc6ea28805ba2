//! A stand-in for an ingress controller: a real nginx in its pod, told once what the Ingress objects say.

use anyhow::{Context, Result};
use causeway_tests::cluster::{Cluster, Kubelet, Process};
use causeway_tests::needs;
use serde_json::Value;

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";

#[derive(Default)]
pub(super) struct Ingress(Option<Process>);

impl Ingress {
    /// Starts it as soon as there are its pod and something to serve.
    pub(super) fn look(&mut self, c: &Cluster, kubelet: &Kubelet) -> Result<()> {
        let pod = kubelet.inside("ingress-nginx", "ingress-nginx-controller");
        let (Some(pod), None) = (pod, &self.0) else { return Ok(()) };
        let ingresses = c.api.list(INGRESSES)?;
        if ingresses.is_empty() {
            return Ok(());
        }
        let rules = ingresses.iter().flat_map(|i| i["spec"]["rules"].as_array().into_iter().flatten());
        let servers = rules.map(|rule| server(c, rule)).collect::<Result<String>>()?;
        let folder = c.folder().display();
        let file = c.folder().join("ingress.conf");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/ingress-{name};\n"));
        let text = format!(
            "daemon off;\nmaster_process off;\npid {folder}/ingress.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{}{servers}}}\n",
            temporary.concat()
        );
        std::fs::write(&file, text)?;
        let nginx = needs("nginx").context("nginx is not installed")?;
        let args = ["-c".to_owned(), file.to_str().context("path")?.to_owned()];
        self.0 = Some(Process::start(&pod, c.folder(), "ingress", &nginx, &args, &[])?);
        Ok(())
    }
}

/// One host, handed to the Service behind its first path.
fn server(c: &Cluster, rule: &Value) -> Result<String> {
    let backend = &rule["http"]["paths"][0]["backend"]["service"];
    let (host, name) = rule["host"].as_str().zip(backend["name"].as_str()).context("a rule has both")?;
    let service = c.api.get(&format!("/api/v1/namespaces/default/services/{name}"))?;
    let ip = service["spec"]["clusterIP"].as_str().context("it has an address in the cluster")?;
    let port = &backend["port"]["number"];
    Ok(format!(
        "server {{ listen 80; server_name {host}; location / {{ proxy_pass http://{ip}:{port}; }} }}\n"
    ))
}

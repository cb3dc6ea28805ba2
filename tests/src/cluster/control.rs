//! The control plane: etcd, kube-apiserver and kube-controller-manager in the control namespace.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustix::process::Signal;

use super::api::{Api, eventually};
use super::audit::{self, Asked};
use super::lan::Host;
use super::process::Process;

/// From nothing to ready takes 3 to 5 s on an idle machine; the build beside it may have both cores.
const START_LIMIT: Duration = Duration::from_secs(90);
const SERVICE_NETS: &str = "10.96.0.0/16,fd96::/108";
const POD_NETS: &str = "10.244.0.0/16,fd44::/48";
/// What Services need; whoever counts calls to the API server wants no other.
const CONTROLLERS: &str = "endpointslice-controller,garbage-collector-controller";

/// Where `tests/kubernetes/prepare` put the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// # Errors
    /// When they are not there; the text says what to run.
    pub fn find() -> Result<Self> {
        let module = include_str!("../../kubernetes/go.mod");
        let version = module
            .lines()
            .find_map(|l| l.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes "))
            .and_then(|rest| rest.split_whitespace().next())
            .context("tests/kubernetes/go.mod names no k8s.io/kubernetes")?;
        let folder = cache()?.join("kubernetes").join(version);
        let programs = Self { folder };
        for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl"] {
            let path = programs.path(name);
            ensure!(path.exists(), "{} is missing: run tests/kubernetes/prepare", path.display());
        }
        Ok(programs)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The folder of everything that is built once: CAUSEWAY_CACHE, else ~/.cache/causeway.
pub(crate) fn cache() -> Result<PathBuf> {
    match std::env::var_os("CAUSEWAY_CACHE") {
        Some(folder) => Ok(folder.into()),
        None => {
            Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/causeway"))
        }
    }
}

/// Users of the API server: name, groups. The token is the name's last part.
const USERS: &[(&str, &str)] = &[
    ("admin", "system:masters"),
    ("system:kube-controller-manager", "system:masters"),
    ("system:kube-proxy", "system:masters"),
    ("system:serviceaccount:metallb-system:causeway-allocator", "system:serviceaccounts"),
    ("system:serviceaccount:metallb-system:causeway-speaker", "system:serviceaccounts"),
    ("system:serviceaccount:metallb-system:causeway-connector", "system:serviceaccounts"),
];

#[derive(Debug)]
pub struct Control {
    pub api: Api,
    pub programs: Programs,
    host: Host,
    folder: PathBuf,
    // Ended in this order.
    manager: Option<Process>,
    server: Option<Process>,
    _etcd: Process,
}

impl Control {
    pub fn start(host: &Host, folder: &Path, programs: Programs) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        std::fs::write(folder.join("sa.key"), key.serialize_pem())?;
        std::fs::write(folder.join("sa.pub"), key.public_key_pem())?;
        let tokens: String = USERS
            .iter()
            .map(|(name, group)| format!("{},{name},{name},\"{group}\"\n", token(name)))
            .collect();
        std::fs::write(folder.join("tokens.csv"), tokens)?;
        audit::configure(folder)?;
        let etcd = Process::start(
            &host.namespace,
            folder,
            "etcd",
            &programs.path("etcd"),
            &[
                format!("--data-dir={}", folder.join("etcd").display()),
                "--unsafe-no-fsync".into(),
                "--listen-client-urls=http://127.0.0.1:2379".into(),
                "--advertise-client-urls=http://127.0.0.1:2379".into(),
                "--listen-peer-urls=http://127.0.0.1:2380".into(),
                "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
                "--initial-cluster=default=http://127.0.0.1:2380".into(),
            ],
            &[],
        )?;
        let api = Api::new(&host.namespace, &format!("https://{}:6443", host.v4), &token("admin"))?;
        let mut control = Self {
            api,
            programs,
            host: host.clone(),
            folder: folder.to_owned(),
            manager: None,
            server: None,
            _etcd: etcd,
        };
        control.start_server()?;
        control.start_manager(CONTROLLERS)?;
        Ok(control)
    }

    /// Starts kube-controller-manager with these controllers, in place of the one that runs.
    pub fn start_manager(&mut self, controllers: &str) -> Result<()> {
        self.manager = None;
        let flags = format!(
            "--kubeconfig={} --leader-elect=false --controllers={controllers} --concurrent-gc-syncs=2 \
             --bind-address=127.0.0.1",
            self.kubeconfig("system:kube-controller-manager")?.display()
        );
        self.manager = Some(self.run("kube-controller-manager", &flags)?);
        Ok(())
    }

    /// Starts kube-apiserver and waits until it is ready.
    pub fn start_server(&mut self) -> Result<()> {
        let (ip, folder) = (self.host.v4, self.folder.display());
        let flags = format!(
            "--etcd-servers=http://127.0.0.1:2379 --cert-dir={folder}/pki --bind-address={ip} --advertise-address={ip} \
             --secure-port=6443 --service-cluster-ip-range={SERVICE_NETS} --allow-privileged=true --authorization-mode=RBAC \
             --disable-admission-plugins=ServiceAccount --service-account-issuer=https://kubernetes.default.svc \
             --service-account-key-file={folder}/sa.pub --service-account-signing-key-file={folder}/sa.key \
             --token-auth-file={folder}/tokens.csv --enable-priority-and-fairness=false {}",
            audit::flags(&self.folder)
        );
        let mut server = self.run("kube-apiserver", &flags)?;
        eventually(START_LIMIT, "kube-apiserver is ready", || {
            server.check()?;
            let answer = self.api.text("/readyz")?;
            ensure!(answer == "ok", "{answer}");
            Ok(())
        })
        .map_err(|error| error.context(server.tail(20)))?;
        self.server = Some(server);
        Ok(())
    }

    /// Takes the API server away, as a crash does.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    pub fn signal_server(&self, signal: Signal) -> Result<()> {
        self.server.as_ref().context("the API server is running")?.signal(signal)
    }

    /// What one of the shipped accounts has asked for so far.
    pub fn audited(&self, account: &str) -> Result<Vec<Asked>> {
        audit::read(&self.folder, account)
    }

    fn run(&self, name: &str, flags: &str) -> Result<Process> {
        let args: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        Process::start(&self.host.namespace, &self.folder, name, &self.programs.path(name), &args, &[])
    }

    /// A kubeconfig for one of the users, inside of the control namespace.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.kubeconfig", token(user)));
        write_whole(&path, self.kubeconfig_at(user, &SocketAddr::from((self.host.v4, 6443))))?;
        Ok(path)
    }

    /// The text of a kubeconfig for whoever reaches the API server at `address`.
    pub fn kubeconfig_at(&self, user: &str, address: &SocketAddr) -> String {
        // Its certificate does not have the address of whoever forwards to it.
        let name = if address.ip().is_loopback() { ", tls-server-name: kubernetes.default.svc" } else { "" };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"https://{address}\", certificate-authority: {}{name} }}}}]\n\
             users: [{{name: test, user: {{token: {}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.folder.join("pki/apiserver.crt").display(),
            token(user)
        )
    }

    /// Runs kubectl as admin with `input` on its standard input, and returns what it printed.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let file = self.folder.join("input.yaml");
        std::fs::write(&file, input)?;
        let config = self.kubeconfig("admin")?;
        let mut command =
            self.host.namespace.command(self.programs.path("kubectl").to_str().context("path")?);
        command.arg("--kubeconfig").arg(config).args(args);
        if !input.is_empty() {
            command.arg("-f").arg(file);
        }
        command.env("HOME", &self.folder);
        crate::netns::run(&mut command)
    }
}

/// Writes a file that a program may be reading at this moment: it finds the old or the new one, and never a part.
pub(super) fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content.as_ref())?;
    file.persist(path)?;
    Ok(())
}

fn token(user: &str) -> String {
    user.rsplit(':').next().unwrap_or(user).to_owned()
}

/// kube-proxy on one node, in nftables mode.
pub(crate) fn start_proxy(control: &Control, node: &Host, folder: &Path) -> Result<Process> {
    let flags = format!(
        "--kubeconfig={} --hostname-override={} --proxy-mode=nftables --cluster-cidr={POD_NETS} --conntrack-max-per-core=0 \
         --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --healthz-bind-address=0.0.0.0:10256 \
         --metrics-bind-address=127.0.0.1:10249 --iptables-min-sync-period=100ms",
        control.kubeconfig("system:kube-proxy")?.display(),
        node.name
    );
    let args: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let name = format!("kube-proxy-{}", node.name);
    Process::start(&node.namespace, folder, &name, &control.programs.path("kube-proxy"), &args, &[])
}

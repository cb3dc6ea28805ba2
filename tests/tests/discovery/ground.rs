//! What the tests stand on: an API server with the shipped role and Services in it, an edge, and connectors at home.

use std::net::SocketAddr;
use std::time::Duration;

use causeway_sample::origin::Origin;
use causeway_tests::child::{Output, Program, output};
use causeway_tests::client::{Answer, Protocol, visit};
use causeway_tests::cluster::{Control, Lan, Programs, SYSTEM, TEST, forward, path};
use causeway_tests::connector::ask;
use causeway_tests::edge::{Created, Edge};
use causeway_tests::files::Folder;
use causeway_tests::netns;
use causeway_tests::programs::{here, program};
use causeway_tests::wait;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

/// What is promised: from a change at the API server to a visitor who sees it.
pub(crate) const PROMISE: Duration = Duration::from_secs(2);
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// To be made and dropped outside of a runtime: it has one of its own.
pub(crate) struct Ground {
    pub(crate) control: Control,
    pub(crate) server: SocketAddr,
    door: std::net::TcpListener,
    lan: Lan,
    _folder: tempfile::TempDir,
}

impl Ground {
    /// None when this machine cannot: that is said.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || Programs::find().is_err() {
            eprintln!("SKIPPED discovery: needs root and tests/kubernetes/prepare");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            return None;
        }
        netns::sweep();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix(&format!("causeway-{test}-")).tempdir().unwrap();
        let lan = Lan::new(test, 0).unwrap();
        let control =
            Control::start(&lan.control, &folder.path().join("control"), Programs::find().unwrap()).unwrap();
        for name in [SYSTEM, TEST] {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            control.api.create(&path("Namespace", "", ""), &namespace).unwrap();
        }
        let role =
            std::fs::read_to_string(here().join("../deploy/kubernetes/discovery/discovery.yaml")).unwrap();
        control.kubectl(&["apply", "--server-side"], &role).unwrap();
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        door.set_nonblocking(true).unwrap();
        let server = door.local_addr().unwrap();
        Some(Self { control, server, door, lan, _folder: folder })
    }

    /// Lets connectors in, until what it gives is dropped.
    pub(crate) fn open(&self) -> JoinSet<()> {
        let door = TcpListener::from_std(self.door.try_clone().unwrap()).unwrap();
        let mut tasks = JoinSet::new();
        let behind = SocketAddr::from((self.lan.control.v4, 6443));
        tasks.spawn(forward(door, self.lan.control.namespace.clone(), behind));
        tasks
    }

    /// A Service whose VIP is where the origin listens.
    pub(crate) fn service(&self, namespace: &str, name: &str, origin: &Origin) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": origin.addr().port() }] }
        });
        self.control.api.create(&path("Service", namespace, ""), &service).unwrap();
        let vip = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": origin.addr().ip() }] } } });
        let at = format!("{}/status", path("Service", namespace, name));
        self.control.api.merge(&at, &vip).unwrap();
    }

    pub(crate) fn annotate(&self, namespace: &str, name: &str, annotations: Value) {
        self.merge(namespace, name, &json!({ "metadata": { "annotations": annotations } }));
    }

    pub(crate) fn port(&self, namespace: &str, name: &str, at: SocketAddr) {
        self.merge(namespace, name, &json!({ "spec": { "ports": [{ "port": at.port() }] } }));
    }

    pub(crate) fn delete(&self, namespace: &str, name: &str) {
        self.control.api.delete(&path("Service", namespace, name)).unwrap();
    }

    fn merge(&self, namespace: &str, name: &str, patch: &Value) {
        self.control.api.merge(&path("Service", namespace, name), patch).unwrap();
    }

    /// A token of one of the manifests' accounts.
    pub(crate) fn token(&self, account: &str) -> String {
        self.control.kubectl(&["-n", SYSTEM, "create", "token", account, "--duration=8760h"], "").unwrap()
    }

    /// How much an account was refused so far.
    pub(crate) fn refused(&self, account: &str) -> usize {
        self.control.audited(account).unwrap().iter().filter(|one| one.is_refused()).count()
    }

    /// Lets an account of the manifests see the Services of one namespace, and no other.
    pub(crate) fn allow(&self, namespace: &str, account: &str) {
        let rbac = "rbac.authorization.k8s.io";
        let role = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": { "name": "discovery" },
            "rules": [{ "apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"] }]
        });
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": { "name": "discovery" },
            "roleRef": { "apiGroup": rbac, "kind": "Role", "name": "discovery" },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": SYSTEM }]
        });
        for (kind, object) in [("roles", role), ("rolebindings", binding)] {
            let at = format!("/apis/{rbac}/v1/namespaces/{namespace}/{kind}");
            self.control.api.create(&at, &object).unwrap();
        }
    }
}

/// An edge, and the folder of a connector that is at home nowhere else.
pub(crate) struct Home {
    pub(crate) edge: Edge,
    created: Created,
    folder: Folder,
    kubeconfig: String,
}

impl Home {
    pub(crate) async fn new(ground: &Ground, granted: &str) -> Self {
        let edge = Edge::start().await;
        let created = edge.create("home", &[granted]).await;
        let account = "causeway-connector";
        let kubeconfig = ground
            .control
            .kubeconfig_at(&format!("system:serviceaccount:{SYSTEM}:{account}"), &ground.server);
        // As a pod has it: the token in a file beside, which somebody renews.
        let kubeconfig = kubeconfig.replace(&format!("{{token: {account}}}"), "{tokenFile: api-token}");
        assert!(kubeconfig.contains("tokenFile"), "{kubeconfig}");
        let home = Self { edge, created, folder: Folder::default(), kubeconfig };
        home.write_token(account);
        home
    }

    pub(crate) fn write_token(&self, token: &str) {
        self.folder.write("api-token", token);
    }

    /// In one of the places where a rule file is looked for.
    pub(crate) fn write_rules(&self, rules: &str) {
        std::fs::create_dir_all(self.folder.join(".causeway")).unwrap();
        self.folder.write(".causeway/config.yml", rules);
    }

    /// What the connector keeps for its next start.
    pub(crate) fn kept(&self) -> String {
        std::fs::read_to_string(self.folder.join("data/kubernetes.json")).unwrap()
    }

    /// Starts a connector that has no rule file.
    pub(crate) fn connector(&self, args: &[&str]) -> Program {
        Program::start("connector", self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.at_home("run");
        command.args(["--metrics", "127.0.0.1:0", "--control"]).arg(self.folder.join("control.sock"));
        command.arg("--data").arg(self.folder.join("data")).args(args);
        command
    }

    /// A command that finds the token and the cluster by its variables.
    fn at_home(&self, name: &str) -> Command {
        let kubeconfig = self.folder.write("kubeconfig", &self.kubeconfig);
        let mut command = Command::new(program("causeway-connector"));
        command.arg(name).env("HOME", self.folder.path()).env("KUBECONFIG", kubeconfig);
        command.env("CAUSEWAY_TOKEN", &self.created.token).env_remove("CAUSEWAY_CONFIG");
        command
    }

    /// What `doctor` finds beside no connector: exit code and text.
    pub(crate) async fn doctor(&self, args: &[&str]) -> (i32, String) {
        let mut command = self.at_home("doctor");
        // Another connector may run at the usual place.
        command.args(["--metrics", "127.0.0.1:1", "--kubernetes"]).args(args);
        let output = output(command).await;
        (output.code, output.text())
    }

    /// What a connector says that does not start.
    pub(crate) async fn fails(&self, args: &[&str]) -> String {
        let output: Output = output(self.command(args)).await;
        assert_eq!(output.code, 1, "{}", output.text());
        output.stderr
    }

    /// What the running connector shows.
    pub(crate) async fn ask(&self, what: &str, args: &[&str]) -> String {
        let control = self.folder.join("control.sock").display().to_string();
        ask(&[&[what, "--control", &control], args].concat()).await.ok()
    }

    pub(crate) async fn visit(&self, url: &str) -> Answer {
        visit(&self.edge, Protocol::Http2, url).await
    }

    /// Waits until visitors of a URL get this status.
    pub(crate) async fn answered(&self, status: u16, url: &str, within: Duration) {
        let look = || async { (self.visit(url).await.status == status).then_some(()) };
        wait::until(&format!("{status} for {url}"), within, look).await;
    }

    /// Waits until visitors of a URL come to this origin.
    pub(crate) async fn served_by(&self, url: &str, origin: &Origin, within: Duration) {
        let look = || async {
            let before = origin.counters().requests();
            let status = self.visit(url).await.status;
            (status == 200 && origin.counters().requests() > before).then_some(())
        };
        wait::until(&format!("{url} at {}", origin.addr()), within, look).await;
    }
}

//! Two machines and the Internet between them: `vps`, where the edge is, and `home`, with a LAN on which nobody has the VIP.
//! Each has its own names, as `ip netns exec` gives them.

use std::net::SocketAddr;
use std::path::PathBuf;

use causeway_tests::child::{Output, output};
use causeway_tests::netns::Namespace;
use causeway_tests::programs::program;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Where the world finds the edge.
pub(crate) const EDGE: &str = "203.0.113.1";
/// Nobody's, on the LAN at home.
pub(crate) const VIP: &str = "10.77.0.104";

/// The two machines.
pub(crate) struct Ground {
    pub(crate) vps: Namespace,
    pub(crate) home: Namespace,
    _lan: Namespace,
    _names: Vec<Names>,
}

/// `/etc/netns/NAME`: what a namespace's programs find under `/etc`. Gone with its value.
struct Names(PathBuf);

impl Names {
    fn write(namespace: &Namespace, hosts: &str) -> Self {
        let folder = PathBuf::from("/etc/netns").join(namespace.name());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{hosts}")).unwrap();
        // Nobody listens there: a name that is not in `hosts` is not found, and at once.
        std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
            .unwrap();
        Self(folder)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Ground {
    /// `names` are known on both machines: lines of a hosts file.
    pub(crate) fn new(test: &str, names: &str) -> Self {
        let machine = |role| Namespace::new(test, role).unwrap();
        let (vps, home, lan) = (machine("vps"), machine("home"), machine("lan"));
        let [at_vps, at_lan] = [&vps, &lan].map(Namespace::name);
        home.ip(&format!(
            "link add wan type veth peer name eth0 netns {at_vps}\nlink add lan type veth peer name eth0 netns {at_lan}\n\
             addr add 203.0.113.2/24 dev wan\naddr add 10.77.0.1/24 dev lan\nlink set wan up\nlink set lan up"
        ))
        .unwrap();
        vps.ip(&format!("addr add {EDGE}/24 dev eth0\nlink set eth0 up\nroute add default via 203.0.113.2"))
            .unwrap();
        lan.ip("addr add 10.77.0.2/24 dev eth0\nlink set eth0 up").unwrap();
        let files = [&vps, &home].map(|namespace| Names::write(namespace, names));
        Self { vps, home, _lan: lan, _names: files.into() }
    }
}

/// What a doctor found, and its exit code.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) code: i32,
    pub(crate) findings: Vec<Value>,
}

/// Runs `PROGRAM doctor ARGS` in a namespace.
pub(crate) async fn doctor(namespace: &Namespace, name: &str, args: &[&str]) -> Found {
    doctor_with(namespace, name, args, &[]).await
}

/// The same with variables in its environment.
pub(crate) async fn doctor_with(
    namespace: &Namespace,
    name: &str,
    args: &[&str],
    vars: &[(&str, &str)],
) -> Found {
    let mut command = namespace.command(program(name).to_str().unwrap());
    command.args(["doctor", "--output", "json"]).args(args).envs(vars.iter().copied());
    let Output { code, stdout, stderr } = output(command.into()).await;
    let report: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{name} said {stdout}{stderr}"));
    Found { code, findings: report["findings"].as_array().unwrap().clone() }
}

impl Found {
    /// The finding of this check whose subject contains `subject`.
    fn of(&self, check: &str, subject: &str) -> &Value {
        let is_it = |finding: &&Value| {
            finding["check"] == check
                && finding["subject"].as_str().is_some_and(|text| text.contains(subject))
        };
        let found = self.findings.iter().find(is_it);
        found.unwrap_or_else(|| panic!("nothing of {check} {subject} in {:#?}", self.findings))
    }

    pub(crate) fn is(&self, severity: &str, check: &str, subject: &str) {
        let finding = self.of(check, subject);
        assert_eq!(finding["severity"], severity, "{finding:#?}");
    }

    /// It is found with this severity, and its mend names the words.
    pub(crate) fn names(&self, severity: &str, check: &str, subject: &str, mend: &[&str]) {
        self.is(severity, check, subject);
        let finding = self.of(check, subject);
        let text = finding["mend"].as_str().unwrap_or_default();
        assert!(mend.iter().all(|word| text.contains(word)), "{mend:?} in {finding:#?}");
    }

    /// Those that want somebody. The machine's own buffers may be small whatever a test does.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let wants = |finding: &&Value| {
            ["warning", "fault"].contains(&finding["severity"].as_str().unwrap())
                && finding["check"] != "buffers"
        };
        self.findings.iter().filter(wants).collect()
    }
}

/// Answers every request with these bytes, at an address that is this thread's namespace's.
pub(crate) async fn says(address: SocketAddr, answer: String) -> JoinSet<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    tasks
}

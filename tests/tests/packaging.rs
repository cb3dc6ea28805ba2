//! What is shipped installs, runs closed up, upgrades and goes away again: units, packages, deploy/install-edge, on a real systemd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_tests::child::{Output, output};
use causeway_tests::client::{Protocol, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::Edge;
use causeway_tests::machine::Machine;
use causeway_tests::programs::{here, program};
use causeway_tests::site::{APP, to};
use causeway_tests::{long, needs, run_within, wait};
use tokio::process::Command;

/// `systemd-analyze security` counts in tenths: 2.0.
const MOST_EXPOSURE: &str = "--threshold=20";
/// Tunnels and keys by their numbers, whatever state they are in.
const TUNNELS: &str = "causeway-edge tunnel list --output json | grep '\"id\"'";
/// A machine boots, and its files are looked through twice: a minute where much else is going on.
const MACHINE: Duration = Duration::from_secs(150);
const READY: Duration = Duration::from_secs(20);
/// What the connector for routers and old boards may have of their flash, and of their memory while nobody asks.
const MOST_ON_DISK_BYTES: u64 = 6 << 20;
const MOST_RESIDENT_BYTES: u64 = 8 << 20;

fn deploy(file: &str) -> PathBuf {
    here().join("../deploy").join(file)
}

fn programs() -> PathBuf {
    program("causeway-edge").parent().unwrap().to_owned()
}

async fn tool(path: impl AsRef<Path>, args: &[&str]) -> Output {
    let mut command = Command::new(path.as_ref());
    command.args(args).env("CAUSEWAY_BIN_DIR", programs());
    output(command).await
}

#[test]
fn the_units_expose_little() {
    run_within(MACHINE, async {
        let Some(analyze) = needs("systemd-analyze") else { return };
        let judged = async |unit: &Path| {
            tool(
                &analyze,
                &["security", "--offline=true", "--no-pager", MOST_EXPOSURE, unit.to_str().unwrap()],
            )
            .await
        };
        for unit in ["systemd/causeway-edge.service", "systemd/causeway-connector.service"] {
            let judgement = judged(&deploy(unit)).await;
            assert_eq!(judgement.code, 0, "{unit} exposes too much: {}", judgement.text());
        }
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open.service");
        std::fs::write(&open, "[Service]\nExecStart=/bin/true\n").unwrap();
        assert_ne!(judged(&open).await.code, 0, "a unit without any of it does not pass");
    });
}

/// The files of a machine that an installation may touch, and what stands in its configuration.
async fn inventory(machine: &Machine) -> String {
    machine
        .sh("find /etc /usr /opt /srv /home /root /var/lib /var/cache /run/systemd/system -xdev \
                -not -path '/var/lib/apt/*' -not -path '/var/cache/apt/*' -not -path '/root/*' -not -name '*-old' | sort
            find /etc -xdev -type f -not -name '*-' -exec md5sum {} + | sort
            systemctl list-unit-files --no-pager --no-legend 'causeway*' || true")
        .await
        .ok()
}

fn difference(before: &str, after: &str) -> Vec<String> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    lines(before).symmetric_difference(&lines(after)).cloned().collect()
}

#[test]
fn install_edge_is_safe_to_run_twice_and_uninstall_leaves_nothing() {
    run_within(MACHINE, async {
        let Some(machine) = Machine::boot() else { return };
        // As on a fresh VPS: the kernel's own limit. A kernel has one value for all namespaces, which stays out of this.
        let small = "for k in r w; do echo 212992 >/tmp/$k; mount --bind /tmp/$k /proc/sys/net/core/${k}mem_max; done";
        machine.sh(small).await.ok();
        let before = inventory(&machine).await;

        let text = machine.sh("deploy/install-edge Example.dev").await.ok();
        for line in
            ["*.example.dev.   300   IN   A      203.0.113.7", "AAAA   2001:db8::7", "docker run", "cwt1_"]
        {
            assert!(text.contains(line), "{line} is in what it prints: {text}");
        }
        assert_eq!(machine.sh("cat /tmp/r /tmp/w").await.ok(), "4194304\n4194304\n");
        let warnings = machine.sh("journalctl --no-pager -u causeway-edge -p warning -o cat").await;
        assert!(!warnings.stdout.contains("WARN"), "it starts without a complaint: {}", warnings.stdout);
        let verified = machine.sh("systemd-analyze verify --man=no causeway-edge.service 2>&1").await;
        assert_eq!((verified.code, verified.stdout.as_str()), (0, ""));

        // Not root, and of root's rights the one; all that it made is its own, though root made the tunnel.
        let status = machine.sh("cat /proc/$(pidof causeway-edge)/status").await.ok();
        let uid = machine.sh("id -u causeway-edge").await.ok();
        assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", uid.trim())), "{status}");
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                status.contains(&format!("{set}:\t0000000000000400\n")),
                "CAP_NET_BIND_SERVICE alone: {status}"
            );
        }
        let others =
            "find /var/lib/causeway-edge ! -user causeway-edge -o ! -group causeway-edge -o -perm /077";
        assert_eq!(machine.sh(others).await.ok(), "");

        // The admin's own words stay, and the process as well: nobody is interrupted by a second run.
        machine
            .sh("echo 'grace: 5s' >>/etc/causeway/edge.yaml && systemctl restart causeway-edge")
            .await
            .ok();
        let pid = machine.sh("pidof causeway-edge").await.ok();
        let tunnels = machine.sh(TUNNELS).await.ok();
        let again = machine.sh("deploy/install-edge example.dev").await.ok();
        assert!(!again.contains("cwt1_"), "no second token: {again}");
        assert_eq!(machine.sh("pidof causeway-edge").await.ok(), pid);
        assert_eq!(machine.sh("tail -n 1 /etc/causeway/edge.yaml").await.ok(), "grace: 5s\n");
        assert_eq!(machine.sh(TUNNELS).await.ok(), tunnels);

        // A reload is no restart.
        machine.sh("systemctl reload causeway-edge").await.ok();
        assert_eq!(machine.sh("pidof causeway-edge").await.ok(), pid);

        let refused = machine.sh("deploy/install-edge --uninstall </dev/null").await;
        assert!(refused.code != 0 && refused.stderr.contains("--yes"), "{}", refused.text());
        machine.sh("deploy/install-edge --uninstall --keep-data").await.ok();
        machine
            .sh("test ! -e /usr/bin/causeway-edge && test -e /var/lib/causeway-edge/causeway.db")
            .await
            .ok();
        machine.sh("deploy/install-edge example.dev").await.ok();
        let back = machine.sh(TUNNELS).await.ok();
        assert_eq!(back, tunnels, "the tunnels are there again");

        // A backup brought to a machine that has never seen the user, as docs/install.md says it.
        machine.sh("systemctl stop causeway-edge && tar -czf /tmp/edge.tgz -C / etc/causeway var/lib/causeway-edge").await.ok();
        machine.sh("deploy/install-edge --uninstall --yes && useradd --system somebody").await.ok();
        machine.sh("tar -xzf /tmp/edge.tgz -C / && deploy/install-edge example.dev").await.ok();
        let back = machine.sh(TUNNELS).await.ok();
        assert_eq!(back, tunnels, "the tunnels are there again");
        assert_eq!(machine.sh(others).await.ok(), "");
        machine.sh("userdel somebody").await.ok();

        machine.sh("deploy/install-edge --uninstall --yes").await.ok();
        assert_eq!(difference(&before, &inventory(&machine).await), Vec::<String>::new());
    });
}

#[test]
fn install_edge_says_who_holds_a_port_and_where_it_cannot_work() {
    run_within(MACHINE, async {
        let Some(machine) = Machine::boot() else { return };
        let line = "systemd-run --quiet --unit squatter python3 -m http.server 80
            until ss -Hltn 'sport = :80' | grep -q .; do sleep 0.05; done
            deploy/install-edge example.dev; code=$?; systemctl stop squatter; exit $code";
        let taken = machine.sh(line).await;
        assert_eq!(taken.code, 1);
        assert!(taken.stderr.contains("tcp port 80 is taken by python3"), "{}", taken.text());
        machine.sh("test ! -e /etc/causeway -a ! -e /usr/bin/causeway-edge").await.ok();

        let nameless = machine.sh("deploy/install-edge").await;
        assert!(nameless.code == 1 && nameless.stderr.contains("which domain?"), "{}", nameless.text());
        let hidden = machine
            .sh("unshare -m sh -c 'mount -t tmpfs tmpfs /run && deploy/install-edge example.dev'")
            .await;
        assert!(hidden.code == 1 && hidden.stderr.contains("systemd does not run here"), "{}", hidden.text());
    });
}

#[test]
fn the_packages_carry_requests_and_a_purge_leaves_nothing() {
    run_within(MACHINE, async {
        let Some(machine) = Machine::boot() else { return };
        let before = inventory(&machine).await;
        let pack = "for p in edge connector; do deploy/debian/pack --fast causeway-$p $CAUSEWAY_BIN_DIR/causeway-$p /tmp/d; done";
        machine.sh(pack).await.ok();
        machine.sh("echo '203.0.113.7 edge.example.dev' >>/etc/hosts && dpkg -i /tmp/d/*.deb").await.ok();
        // Without a token there is nothing to do: not started, and not failed.
        assert_eq!(machine.sh("systemctl is-active causeway-connector").await.stdout, "inactive\n");
        assert_eq!(machine.sh("systemctl --failed --no-legend").await.stdout, "");
        let verified = machine.sh("systemd-analyze verify --man=no causeway-connector.service 2>&1").await;
        assert_eq!((verified.code, verified.stdout.as_str()), (0, ""));

        let create = "until causeway-edge healthcheck; do sleep 0.05; done
            umask 077; causeway-edge tunnel create home --hostname '*.example.dev' --address edge.example.dev:443 --output json \
                | sed -n 's/.*\"token\": *\"\\([^\"]*\\)\".*/\\1/p' >/etc/causeway/token
            sed -i 's|- service: hello_world|- hostname: blog.example.dev\\n    http: serve\\n    service: hello_world\\n  - service: http_status:404|' \
                /etc/causeway/connector.yaml
            systemctl start causeway-connector";
        machine.sh(create).await.ok();
        let healthy = async || {
            let status = machine.sh("causeway-connector healthcheck").await;
            (status.code == 0).then_some(())
        };
        wait::until("a session of the connector's", READY, healthy).await;
        let page = "curl --silent --show-error --fail --resolve blog.example.dev:80:203.0.113.7 http://blog.example.dev/";
        let page = machine.sh(page).await.ok();
        assert!(page.contains("blog.example.dev"), "the connector's page by way of both units: {page}");
        let secret = machine
            .sh("cat /proc/$(pidof causeway-connector)/environ /proc/$(pidof causeway-connector)/cmdline")
            .await;
        assert!(!secret.stdout.contains("cwt1_"), "the token is in no place that others read");

        // An upgrade is another package with the same data. The edge hands over: it serves all the time, as another process.
        let upgrade = "before=$(systemctl show -P MainPID causeway-edge)
            while [ ! -e /tmp/upgraded ]; do
                curl --silent --show-error --fail --output /dev/null --resolve blog.example.dev:80:203.0.113.7 http://blog.example.dev/ || echo failed
                echo visited
            done >/tmp/visits 2>&1 &
            dpkg -i /tmp/d/causeway-edge_*.deb >&2
            touch /tmp/upgraded && wait
            [ $before != $(systemctl show -P MainPID causeway-edge) ] && systemctl is-active --quiet causeway-edge && cat /tmp/visits";
        let visits = machine.sh(upgrade).await.ok();
        assert!(visits.contains("visited") && !visits.contains("failed"), "{visits}");
        machine.sh("rm /tmp/upgraded /tmp/visits && dpkg -i /tmp/d/*.deb").await.ok();
        wait::until("a session after the upgrade", READY, healthy).await;
        // A second connector beside the first, as docs/install.md has it.
        let beside = "systemctl start causeway-connector@20249
            until causeway-connector healthcheck --metrics 127.0.0.1:20249; do sleep 0.1; done
            systemctl stop causeway-connector && causeway-edge status && systemctl start causeway-connector
            systemctl stop causeway-connector@20249 && systemctl is-failed causeway-connector@20249";
        let beside = machine.sh(beside).await;
        assert!(
            beside.stdout.contains("2 sessions") && beside.stdout.ends_with("inactive\n"),
            "{}",
            beside.text()
        );
        wait::until("a session of the first again", READY, healthy).await;
        let started = std::time::Instant::now();
        machine.sh("systemctl stop causeway-connector causeway-edge").await.ok();
        assert!(started.elapsed() < Duration::from_secs(5), "an idle stop took {:?}", started.elapsed());
        let results = machine.sh("systemctl show -P Result causeway-edge causeway-connector").await.ok();
        assert_eq!(results.split_whitespace().collect::<Vec<_>>(), ["success", "success"]);

        machine
            .sh("dpkg --purge causeway-connector causeway-edge && sed -i '/edge.example.dev/d' /etc/hosts")
            .await
            .ok();
        assert_eq!(difference(&before, &inventory(&machine).await), Vec::<String>::new());
    });
}

#[test]
fn a_vps_is_an_edge_after_its_first_boot_by_cloud_init() {
    run_within(MACHINE, async {
        let Some(machine) = Machine::boot() else { return };
        let text = std::fs::read_to_string(deploy("cloud-init.yaml")).unwrap();
        assert!(text.starts_with("#cloud-config\n"));
        let sample: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let command = sample["runcmd"][0].as_array().unwrap();
        assert_eq!((&command[0], &command[1]), (&"bash".into(), &"-euc".into()));
        let script = command[2].as_str().unwrap();
        let release = script.lines().find_map(|line| line.strip_prefix("release=")).unwrap();
        // The lines as they are, with the release in a folder.
        let script = script.replace(release, "file:///tmp/release");
        let make = "mkdir /tmp/release && deploy/debian/pack --fast causeway-edge $CAUSEWAY_BIN_DIR/causeway-edge /tmp/release \
            && cp deploy/install-edge /tmp/release && cd /tmp/release && sha256sum * >/tmp/SHA256SUMS && mv /tmp/SHA256SUMS .";
        machine.sh(make).await.ok();
        let said = machine.sh(&format!("bash -euc '{}'", script.replace('\'', "'\\''"))).await.ok();
        assert!(said.contains("causeway-edge tunnel create home"), "{said}");
        assert!(!said.contains("cwt1_"), "no token gets into the log: {said}");
        machine.sh("causeway-edge healthcheck").await.ok();
        let tampered = "echo >>/tmp/release/install-edge".to_owned();
        machine.sh(&tampered).await.ok();
        let refused = machine.sh(&format!("bash -euc '{}'", script.replace('\'', "'\\''"))).await;
        assert!(refused.code != 0 && refused.text().contains("FAILED"), "{}", refused.text());
    });
}

/// As it is shipped: `tests/run --long` builds it.
#[test]
fn the_small_connector_fits_into_a_router_and_serves_there() {
    run_within(MACHINE, async {
        if std::env::var_os("CAUSEWAY_SHIPPED").is_none() {
            return;
        }
        let built = PathBuf::from(std::env::var_os("CAUSEWAY_STATIC_DIR").unwrap());
        let built = built.join("causeway-connector-small");
        let on_disk = std::fs::metadata(&built).unwrap().len();
        assert!(on_disk <= MOST_ON_DISK_BYTES, "{on_disk} bytes");

        let edge = Edge::start().await;
        let tunnel = edge.create("router", &[APP]).await;
        let mut connector = Connector::start_of(&built, &tunnel.token, &to("hello_world"));
        connector.ready(READY).await;
        edge.wait_state("router", "HEALTHY", READY).await;
        let idle = connector.program.usage().resident_bytes;
        assert!(idle <= MOST_RESIDENT_BYTES, "{idle} bytes resident");
        visit(&edge, Protocol::Http2, &format!("https://{APP}/")).await.ok();
    });
}

/// Small programs in the place of ours: what is compared is the packing. The bits of the programs: the long form below.
#[test]
fn a_release_is_the_same_whenever_and_wherever_it_is_packed() {
    run_within(MACHINE, async {
        if needs("dpkg-deb").is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let make = async |place: &str, line: &str| {
            let place = folder.path().join(place);
            std::fs::create_dir_all(place.join("programs")).unwrap();
            for name in ["edge", "connector", "connector-small", "allocator", "speaker", "sample"] {
                std::fs::copy("/bin/true", place.join("programs").join(format!("causeway-{name}"))).unwrap();
            }
            let (release, place) = (deploy("release"), place.display());
            let line =
                format!("{line}; {} --no-images --programs {place}/programs {place}/made", release.display());
            tool("sh", &["-c", &line]).await.ok();
        };
        make("one", "umask 022").await;
        make("another/place", "umask 077; TZ=Asia/Tokyo; LC_ALL=C.UTF-8; export TZ LC_ALL").await;
        let (one, another) = (folder.path().join("one/made"), folder.path().join("another/place/made"));
        let compared = tool("diff", &["-r", one.to_str().unwrap(), another.to_str().unwrap()]).await;
        assert_eq!((compared.code, compared.text().as_str()), (0, ""), "two packings differ");

        let line = format!("cd {} && sha256sum --check --strict SHA256SUMS && cat *.cdx.json", one.display());
        let checked = tool("sh", &["-c", &line]).await.ok();
        assert_eq!(
            checked.matches(": OK\n").count(),
            5,
            "two packages, an archive, a bill, the installer: {checked}"
        );
        for needed in ["\"specVersion\": \"1.5\"", "pkg:cargo/rustls@", "pkg:cargo/causeway-edge@"] {
            assert!(checked.contains(needed), "{needed} in the bill");
        }
        assert!(!checked.contains("pkg:cargo/proptest@"), "what only tests need is not shipped");
        let line = format!("for p in {}/*.deb; do dpkg-deb --contents $p; done", one.display());
        let listed = tool("sh", &["-c", &line]).await.ok();
        assert!(listed.lines().all(|line| line.contains(" root/root ")), "all is root's: {listed}");
        assert!(!listed.contains("rwxrwx") && listed.contains("-rwxr-xr-x root/root"), "{listed}");
    });
}

#[test]
fn the_quickstart_runs_the_programs_that_it_is_given() {
    run_within(MACHINE, async {
        let said = tool(deploy("quickstart"), &["--check"]).await.ok();
        assert!(said.contains("All checks passed") && !said.contains("Building"), "{said}");

        let empty = tempfile::tempdir().unwrap();
        let mut command = Command::new(deploy("quickstart"));
        command.arg("--check").env("CAUSEWAY_BIN_DIR", empty.path());
        let refused = output(command).await;
        assert!(
            refused.code != 0 && refused.stderr.contains("there is no program causeway-edge"),
            "{}",
            refused.text()
        );
    });
}

/// Everything, twice, from two copies of the tree: the better part of an hour on two cores.
#[test]
fn two_releases_are_the_same_bit_for_bit() {
    if !long() {
        return;
    }
    run_within(Duration::from_secs(3 * 3600), async {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(deploy("release"));
        command.args(["--verify", "--no-images"]).arg(folder.path().join("out")).kill_on_drop(true);
        command.env_remove("CAUSEWAY_BIN_DIR");
        let made = command.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    });
}

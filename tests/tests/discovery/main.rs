//! `run --kubernetes`: Services of a real API server become rules, under exactly the shipped role; visitors come through a real
//! edge, and what stands in for a VIP is a sample origin on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::time::Duration;

use causeway_tests::cluster::{TEST, path};
use causeway_tests::origin::{closed_port, sample};
use causeway_tests::{run_within, wait};
use serde_json::json;

use ground::{Ground, Home, PROMISE, SOON};

/// etcd and the API server start in it.
const DEADLINE: Duration = Duration::from_secs(170);

#[test]
fn annotated_services_are_served_within_two_seconds_whatever_becomes_of_the_api_server() {
    let Some(mut ground) = Ground::start("discover") else { return };
    run_within(DEADLINE, async {
        let _door = ground.open();
        let (web, api) = (sample().await, sample().await);
        ground.service(TEST, "web", &web);
        let home = Home::new(&ground, "*.example.test").await;
        // As `kubectl create token` prints it.
        home.write_token(&ground.token("causeway-connector"));
        let mut connector = home.connector(&["--kubernetes"]);
        connector.line("the connector is up", SOON).await;
        home.edge.wait_state("home", "HEALTHY", SOON).await;
        let app = "https://app.example.test/inspect";
        assert_eq!(home.visit(app).await.status, 404, "no Service asks for it");

        // An annotation appears.
        ground.annotate(TEST, "web", json!({ "causeway.dev/hostname": "app.example.test" }));
        home.served_by(app, &web, PROMISE).await;
        let rules = home.ask("rules", &[]).await;
        assert!(
            rules.contains(&format!("app.example.test -> http://{}  (Service test/web)", web.addr())),
            "{rules}"
        );
        assert!(home.ask("status", &[]).await.contains("1 of them from Services of https://127.0.0.1:"));

        // It changes, and so does the Service.
        ground.annotate(TEST, "web", json!({ "causeway.dev/host-header": "web.internal" }));
        let host = || async { home.visit(app).await.text().contains("web.internal").then_some(()) };
        wait::until("the Host header", PROMISE, host).await;
        ground.port(TEST, "web", api.addr());
        home.served_by(app, &api, PROMISE).await;
        ground.port(TEST, "web", web.addr());
        home.served_by(app, &web, PROMISE).await;

        // Another Service has a part of the name, and one without a VIP has nothing yet.
        ground.service(TEST, "api", &api);
        ground.annotate(
            TEST,
            "api",
            json!({ "causeway.dev/hostname": "app.example.test", "causeway.dev/path": "/echo" }),
        );
        home.served_by("https://app.example.test/echo", &api, PROMISE).await;
        home.served_by(app, &web, PROMISE).await;

        // A Service goes, and takes its rule along.
        ground.delete(TEST, "api");
        home.served_by("https://app.example.test/echo", &web, PROMISE).await;

        // The API server is gone: what is known stays in force, over a restart as well.
        assert_eq!(ground.refused("causeway-connector"), 0);
        ground.control.kill_server();
        connector.line("the cluster is not followed", SOON).await;
        home.served_by(app, &web, PROMISE).await;
        connector.terminate();
        connector.ended(SOON).await;
        let connector = home.connector(&["--kubernetes"]);
        connector.line("going on with the Services that were kept", SOON).await;
        home.served_by(app, &web, SOON).await;
        let status = home.ask("status", &[]).await;
        assert!(status.contains("the last known are in force"), "{status}");

        // It is back, and so is the promise.
        ground.control.start_server().unwrap();
        connector.line("the cluster is followed again", SOON).await;
        ground.annotate(TEST, "web", json!({ "causeway.dev/hostname": "other.example.test" }));
        home.served_by("https://other.example.test/inspect", &web, PROMISE).await;
        home.answered(404, app, PROMISE).await;

        // All that was asked for is what the role allows, and nothing else.
        let asked = ground.control.audited("causeway-connector").unwrap();
        let verbs: std::collections::BTreeSet<_> =
            asked.iter().map(|one| (one.verb.as_str(), one.resource.as_str())).collect();
        assert_eq!(verbs.into_iter().collect::<Vec<_>>(), [("list", "services"), ("watch", "services")]);
    });
}

#[test]
fn a_service_gets_no_more_than_is_its_own() {
    let Some(ground) = Ground::start("own") else { return };
    run_within(DEADLINE, async {
        let _door = ground.open();
        let (web, other) = (sample().await, sample().await);
        for name in ["web", "young", "evil"] {
            ground.service(TEST, name, if name == "web" { &web } else { &other });
        }
        let home = Home::new(&ground, "*.example.test").await;
        ground.annotate(TEST, "web", json!({ "causeway.dev/hostname": "app.example.test" }));
        let connector = home.connector(&["--kubernetes"]);
        home.edge.wait_state("home", "HEALTHY", SOON).await;
        let app = "https://app.example.test/inspect";
        home.served_by(app, &web, SOON).await;

        // Two of one name: the older has it, and that is said once.
        ground.annotate(
            TEST,
            "young",
            json!({ "causeway.dev/hostname": "app.example.test,young.example.test" }),
        );
        home.served_by("https://young.example.test/", &other, PROMISE).await;
        home.served_by(app, &web, PROMISE).await;
        connector
            .line(
                "Service test/young: `app.example.test` is served by Service test/web, which is older",
                SOON,
            )
            .await;

        // Annotations that would lead elsewhere, or smuggle something in: none of it, and the rest stays in force.
        for (name, value) in [
            ("host-header", "a\r\nX-Evil: yes"),
            ("path", "/a\nb"),
            ("port", "6443"),
            ("scheme", "unix:/run/docker.sock"),
            ("tls", "\u{1b}[31moff"),
        ] {
            let key = format!("causeway.dev/{name}");
            ground.annotate(
                TEST,
                "evil",
                json!({ "causeway.dev/hostname": "evil.example.test", key.clone(): value }),
            );
            connector.line(&format!("Service test/evil: `{key}`"), SOON).await;
            home.answered(404, "https://evil.example.test/", PROMISE).await;
            ground.annotate(TEST, "evil", json!({ key: null }));
            home.served_by("https://evil.example.test/", &other, PROMISE).await;
        }
        assert!(!connector.log().contains("\u{1b}[31moff"), "nothing colours the terminal");
        home.served_by(app, &web, PROMISE).await;
        let twice = connector.lines().iter().filter(|line| line.contains("Service test/young: ")).count();
        assert_eq!(twice, 1, "it is said once");

        // A name that the edge does not grant stays its own trouble.
        ground.annotate(TEST, "evil", json!({ "causeway.dev/hostname": "bank.test,evil.example.test" }));
        connector.line("bank.test", SOON).await;
        home.served_by("https://evil.example.test/", &other, PROMISE).await;

        // A file that comes to be wins, and where it says nothing more the Services do.
        let rule = format!("  - hostname: young.example.test\n    service: http://{}\n", web.addr());
        let last = "  - service: http_status:410\n";
        home.write_rules(&format!("ingress:\n{rule}{last}"));
        home.served_by("https://young.example.test/", &web, SOON).await;
        home.served_by(app, &web, PROMISE).await;
        assert_eq!(home.visit("https://nobody.example.test/").await.status, 410, "the file's last rule");
        connector.line("Service test/young: `young.example.test` is the file's", SOON).await;
        let rules = home.ask("rules", &["--output", "json"]).await;
        assert!(rules.contains("\"line\": 2") || rules.contains("\"line\":2"), "{rules}");
        home.write_rules(&format!("ingress:\n{last}"));
        home.served_by("https://young.example.test/", &other, SOON).await;
    });
}

#[test]
fn doctor_asks_the_services_that_become_rules() {
    let Some(mut ground) = Ground::start("doctor") else { return };
    run_within(DEADLINE, async {
        let _door = ground.open();
        let web = sample().await;
        ground.service(TEST, "web", &web);
        ground.annotate(TEST, "web", json!({ "causeway.dev/hostname": "app.example.test" }));
        let home = Home::new(&ground, "*.example.test").await;
        home.write_token(&ground.token("causeway-connector"));
        let finds = |text: &str, line: &[&str]| {
            let has = text.lines().any(|found| line.iter().all(|word| found.contains(word)));
            assert!(has, "{line:?} in {text}");
        };

        let (_, text) = home.doctor(&[]).await;
        finds(&text, &["ok", "cluster", "https://127.0.0.1:", "1 rules of the cluster's Services"]);
        finds(&text, &["ok", "origin", "app.example.test", "answer"]);

        // A VIP behind which nobody listens, and a Service that wants what it cannot have.
        ground.port(TEST, "web", closed_port());
        ground.service(TEST, "odd", &web);
        ground.annotate(
            TEST,
            "odd",
            json!({ "causeway.dev/hostname": "odd.example.test", "causeway.dev/scheme": "gopher" }),
        );
        let (code, text) = home.doctor(&[]).await;
        assert_eq!(code, 2, "{text}");
        finds(&text, &["FAULT", "origin", "app.example.test"]);
        finds(&text, &["WARNING", "cluster", "Service test/odd", "causeway.dev/scheme"]);

        home.write_token("of-another-cluster");
        let (code, text) = home.doctor(&[]).await;
        assert_eq!(code, 2, "{text}");
        finds(&text, &["FAULT", "cluster", "(401)"]);
        ground.control.kill_server();
        finds(&home.doctor(&[]).await.1, &["FAULT", "cluster", "https://127.0.0.1:"]);
        assert_eq!(home.doctor(&["--kubeconfig", "/none"]).await.0, 2);
    });
}

#[test]
fn a_token_that_is_rotated_and_a_role_that_is_given_are_taken_up_and_what_lacks_is_said() {
    let Some(ground) = Ground::start("access") else { return };
    run_within(DEADLINE, async {
        let _door = ground.open();
        let web = sample().await;
        ground.service(TEST, "web", &web);
        ground.annotate(
            TEST,
            "web",
            json!({ "external-dns.alpha.kubernetes.io/hostname": "app.example.test." }),
        );
        let home = Home::new(&ground, "*.example.test").await;
        home.write_token("of-another-cluster");
        let connector =
            home.connector(&["--kubernetes", "--kubernetes-namespace", TEST, "--kubernetes-external-dns"]);
        connector.line("does not know this account (401)", SOON).await;
        connector.line("the connector is up", SOON).await;
        home.edge.wait_state("home", "HEALTHY", SOON).await;
        let rules = home.ask("rules", &[]).await;
        assert!(
            rules.contains("nothing is known of the cluster"),
            "a connector that knows nothing serves nothing: {rules}"
        );

        home.write_token("causeway-speaker");
        let said = connector.line("(403)", SOON).await;
        assert!(said.contains("in namespace test") && said.contains("deploy/kubernetes/discovery"), "{said}");
        ground.allow(TEST, "causeway-speaker");
        home.served_by("https://app.example.test/inspect", &web, SOON).await;
        let asked = ground.control.audited("causeway-speaker").unwrap();
        assert!(asked.iter().all(|one| one.namespace == TEST), "{asked:?}");
        let service = ground.control.api.get(&path("Service", TEST, "web")).unwrap();
        assert!(service["metadata"]["managedFields"].is_array(), "the object has what is not kept");
        assert!(!home.kept().contains("managedFields"), "{}", home.kept());

        // What cannot be meant is refused at once.
        for (args, mend) in [
            (&["--kubernetes-external-dns"][..], "without --kubernetes"),
            (&["--kubernetes", "--kubernetes-namespace", "a/b"], "no name of a namespace"),
        ] {
            let said = home.fails(args).await;
            assert!(said.contains(mend), "{said}");
        }
    });
}

//! Origins with the TLS of another decade: what noTLSVerify takes, and what is said where nothing helps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use causeway_tests::child::{Program, output};
use causeway_tests::client::{Protocol, visit};
use causeway_tests::files::Folder;
use causeway_tests::site::Site;
use causeway_tests::{needs, run};
use tokio::process::Command;

async fn openssl(openssl: &Path, folder: &Folder, args: &str) {
    let mut command = Command::new(openssl);
    command.current_dir(folder.path()).args(args.split(' '));
    output(command).await.ok();
}

/// `openssl s_server` with these arguments; returns its service.
async fn server(openssl: &Path, folder: &Folder, args: &str) -> (Program, String) {
    let mut command = Command::new(openssl);
    command
        .current_dir(folder.path())
        .args("s_server -www -accept 127.0.0.1:0".split(' '))
        .args(args.split(' '));
    let program = Program::start("openssl", command);
    let line = program.line("ACCEPT", Duration::from_secs(10)).await;
    let service = format!("https://{}", line.trim_start_matches("ACCEPT").trim());
    (program, service)
}

/// The statuses of one visit to each service, with these settings. The connector must log `needle`.
async fn visits(services: &[&str], settings: &str, needle: &str) -> Vec<u16> {
    let rules: String = services
        .iter()
        .enumerate()
        .map(|(n, service)| format!("  - {{ hostname: s{n}.example.test, service: '{service}' }}\n"))
        .collect();
    let rules = format!("originRequest: {{ {settings} }}\ningress:\n{rules}  - service: http_status:404\n");
    let site = Site::start(&rules).await;
    let mut statuses = Vec::new();
    for n in 0..services.len() {
        let answer = visit(&site.edge, Protocol::Http1, &format!("https://s{n}.example.test/")).await;
        statuses.push(answer.status);
    }
    site.connector.program.line(needle, Duration::from_secs(10)).await;
    statuses
}

#[test]
fn no_tls_verify_takes_certificates_of_old_devices() {
    let Some(tool) = needs("openssl") else { return };
    run(async move {
        let folder = Folder::default();
        openssl(&tool, &folder, "genrsa -out v1.key 2048").await;
        openssl(&tool, &folder, "req -new -key v1.key -subj /CN=ilo.lan -out v1.csr").await;
        openssl(&tool, &folder, "x509 -req -in v1.csr -signkey v1.key -days 2 -out v1.crt").await;
        openssl(
            &tool,
            &folder,
            "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.crt -days 2 -subj /CN=printer.lan",
        )
        .await;
        let (_v1, v1) = server(&tool, &folder, "-cert v1.crt -key v1.key").await;
        let weak = "-cert weak.crt -key weak.key -cipher ALL:@SECLEVEL=0";
        let (_weak, weak_13) = server(&tool, &folder, weak).await;
        let (_weak, weak_12) = server(&tool, &folder, &format!("-tls1_2 {weak}")).await;
        let services = [&*v1, &*weak_13, &*weak_12];
        let insecure = "`noTLSVerify` takes any certificate";
        assert_eq!(visits(&services, "noTLSVerify: true", insecure).await, [200, 200, 200]);
        // Verified, they cannot be: the log says what helps, which caPool is not.
        let pool = folder.join("v1.crt");
        let settings = format!("originServerName: ilo.lan, caPool: '{}'", pool.display());
        let helps = "also with caPool: renew it, or take any certificate with noTLSVerify";
        assert_eq!(visits(&[&v1], &settings, helps).await, [502]);
    });
}

#[test]
fn an_origin_with_ciphers_of_another_decade_is_named_as_that() {
    let Some(tool) = needs("openssl") else { return };
    run(async move {
        let folder = Folder::default();
        openssl(&tool, &folder, "req -x509 -newkey rsa:2048 -nodes -keyout k -out c -days 2 -subj /CN=x")
            .await;
        for ciphers in ["AES128-SHA", "ECDHE-RSA-AES128-SHA"] {
            let (_server, service) =
                server(&tool, &folder, &format!("-cert c -key k -tls1_2 -cipher {ciphers}")).await;
            assert_eq!(visits(&[&service], "noTLSVerify: true", "RSA key exchange").await, [502]);
        }
    });
}

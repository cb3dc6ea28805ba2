//! A browser as people have it: a page of many parts, an upload and a WebSocket, over HTTP/2 and over HTTP/3.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use causeway_tests::child::Program;
use causeway_tests::edge::EdgeOptions;
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample, tcp_and_udp_port};
use causeway_tests::site::{APP, Site};
use causeway_tests::{needs, run_within, wait};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(90);

/// Loads its parts, sends a file, talks on a WebSocket, and asks for a path that says what came of it.
const PAGE: &str = r"<!doctype html><title>page</title><body><script>
const parts = async () => {
    const all = [...Array(60).keys()].map(async at => {
        const part = await fetch('/bytes/20000?part=' + at);
        return (await part.arrayBuffer()).byteLength;
    });
    return (await Promise.all(all)).every(length => length === 20000);
};
const upload = async () => {
    const file = new Blob([new Uint8Array(3_000_000)]);
    const answer = await fetch('/sink', { method: 'POST', body: file });
    return (await answer.text()).includes('3000000');
};
const websocket = () => new Promise((done, failed) => {
    const socket = new WebSocket('wss://' + location.host + '/ws');
    let left = 20;
    socket.onopen = () => socket.send('message ' + left);
    socket.onmessage = message => {
        if (message.data !== 'message ' + left) return failed('another message');
        left -= 1;
        if (left === 0) { socket.close(); done(true); } else socket.send('message ' + left);
    };
    socket.onerror = () => failed('the socket broke');
});
const word = async (name, work) => name + '=' + await work().catch(error => encodeURIComponent(error));
(async () => {
    const words = [await word('parts', parts), await word('upload', upload), await word('websocket', websocket)];
    const versions = performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol);
    words.push('versions=' + [...new Set(versions)].sort().join());
    await fetch('/page/told?' + words.join('&'));
})();
</script>";

#[test]
fn chromium_loads_a_page_uploads_and_holds_a_websocket_over_http_2_and_http_3() {
    let Some(chromium) = needs("chromium") else { return };
    run_within(Duration::from_secs(200), async move {
        let (page, origin) = (Scripted::always(answer()).await, sample().await);
        let (folder, own) = (Folder::default(), Certificate::for_names(&[APP]));
        let (cert, key) = (folder.write("c.pem", &own.cert_pem), folder.write("k.pem", &own.key_pem));
        // One port for TCP and UDP, as on a server.
        let port = tcp_and_udp_port();
        let options = EdgeOptions {
            config: format!("certificates: [{{ cert: {}, key: {} }}]", cert.display(), key.display()),
            https: Some(port),
            tunnel: Some(port),
            ..EdgeOptions::default()
        };
        let rules = format!(
            "ingress:\n  - {{ hostname: {APP}, path: ^/page, service: {} }}\n  - service: {}\n",
            page.service(),
            http(&origin)
        );
        let site = Site::with(options, Folder::default(), &rules).await;
        let there = site.edge.https;
        for (version, flag) in
            [("h2", "--disable-quic"), ("h3", &format!("--origin-to-force-quic-on={APP}:{}", there.port()))]
        {
            let profile = Folder::default();
            let mut command = Command::new(&chromium);
            command.args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ]);
            command.args(["--disable-background-networking", "--disable-component-update", flag]);
            command.arg(format!("--user-data-dir={}", profile.path().display()));
            command.arg(format!("--host-resolver-rules=MAP {APP} 127.0.0.1, MAP * ~NOTFOUND"));
            command.arg(format!("--ignore-certificate-errors-spki-list={}", own.pin()));
            command.arg(format!("https://{APP}:{}/page/of/{version}", there.port()));
            let browser = Program::start("chromium", command);
            let told = || async {
                let heads = page.heads();
                heads.iter().find_map(|head| {
                    let words = head.strip_prefix("GET /page/told?")?.split(' ').next()?;
                    words.ends_with(&format!("versions={version}")).then(|| words.to_owned())
                })
            };
            let (words, _) = wait::until(
                &format!("the page over {version}: {:?} {}", page.heads(), browser.log()),
                SOON,
                told,
            )
            .await;
            assert_eq!(words, format!("parts=true&upload=true&websocket=true&versions={version}"));
        }
    });
}

fn answer() -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{PAGE}", PAGE.len())
}

use std::path::Path;
use std::time::Duration;

use causeway_daemon::drain::Drain;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

use super::*;

fn dev(folder: &Path) -> DevAuthority {
    DevAuthority::open(folder, Arc::new(|name| name == "a.example" || name.ends_with(".apps.example")))
        .unwrap()
}

/// A certificate of its own root for these names, as files.
fn write(folder: &Path, stem: &str, names: &[&str]) -> PemFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let files =
        PemFiles { cert: folder.join(format!("{stem}.pem")), key: folder.join(format!("{stem}-key.pem")) };
    std::fs::write(&files.cert, signed.cert.pem()).unwrap();
    std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
    files
}

/// Shakes hands over memory; what the visitor sees and what we see.
async fn shake(
    tls: &Tls,
    root: &Path,
    name: &str,
    alpn: &[&[u8]],
) -> (io::Result<()>, Result<Accepted<tokio::io::DuplexStream>, HandshakeError>) {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(root).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, theirs).await?;
        // With TLS 1.3 the visitor is done before we are.
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.read_u8()).await;
        Ok(())
    };
    let accepting = async {
        let Ok(Spoken::Tls(hello)) = Spoken::read(&mut ours).await else { panic!("no hello came") };
        tls.accept(hello, ours).await
    };
    tokio::join!(connecting, accepting)
}

#[tokio::test]
async fn the_development_authority_signs_what_is_granted() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("dev-ca.pem");
    let tls = Tls::new(PemSources::default(), Some(dev(folder.path()))).unwrap();
    for name in ["a.example", "x.apps.example"] {
        let (visitor, accepted) = shake(&tls, &root, name, &[H2, HTTP_11]).await;
        visitor.unwrap();
        let accepted = accepted.unwrap();
        assert!(accepted.is_h2 && &*accepted.sni == name && accepted.names.covers(name));
    }
    // The same authority after a restart.
    let tls = Tls::new(PemSources::default(), Some(dev(folder.path()))).unwrap();
    let (visitor, accepted) = shake(&tls, &root, "a.example", &[]).await;
    visitor.unwrap();
    assert!(!accepted.unwrap().is_h2);
}

#[tokio::test]
async fn hazard_043_an_unknown_name_gets_an_alert_and_no_certificate() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("dev-ca.pem");
    let tls = Tls::new(PemSources::default(), Some(dev(folder.path()))).unwrap();
    for name in ["b.example", "apps.example", "127.0.0.1"] {
        let (visitor, accepted) = shake(&tls, &root, name, &[]).await;
        let error = visitor.unwrap_err().to_string();
        assert!(error.contains("UnrecognizedName") || error.contains("UnrecognisedName"), "{error}");
        assert!(matches!(accepted, Err(HandshakeError::NoName | HandshakeError::UnknownName)));
    }
}

#[tokio::test]
async fn hazard_102_an_unknown_protocol_is_refused() {
    let folder = TempDir::new().unwrap();
    let tls = Tls::new(PemSources::default(), Some(dev(folder.path()))).unwrap();
    let (visitor, accepted) =
        shake(&tls, &folder.path().join("dev-ca.pem"), "a.example", &[b"causeway/1"]).await;
    assert!(visitor.is_err() && matches!(accepted, Err(HandshakeError::Failed(_))));
}

#[tokio::test]
async fn files_are_chosen_by_name_exact_before_wildcard() {
    let folder = TempDir::new().unwrap();
    let wide = write(folder.path(), "wide", &["*.site.example", "other.test"]);
    let exact = write(folder.path(), "exact", &["a.site.example"]);
    let tls = Tls::new(vec![wide.clone(), exact.clone()], None).unwrap();
    for (name, files) in [("a.site.example", &exact), ("b.site.example", &wide), ("other.test", &wide)] {
        let (visitor, accepted) = shake(&tls, &files.cert, name, &[]).await;
        visitor.unwrap();
        accepted.unwrap();
    }
    let (visitor, _) = shake(&tls, &wide.cert, "a.b.site.example", &[]).await;
    visitor.unwrap_err();
}

/// Long enough for a watch to have seen what changed, and read it. Costs no time: the clock is paused.
const LOOKED: Duration = Duration::from_secs(60);

fn watch(tls: &Arc<Tls>, drain: &Drain) {
    let watched = Arc::clone(tls);
    drop(drain.spawn("watch", async move { watched.watch().await }));
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_read_again_and_bad_ones_change_nothing() {
    let folder = TempDir::new().unwrap();
    let files = write(folder.path(), "a", &["a.example"]);
    let tls = Arc::new(Tls::new(vec![files.clone()], None).unwrap());
    let drain = Drain::new();
    watch(&tls, &drain);
    let good = std::fs::read(&files.key).unwrap();
    std::fs::write(&files.key, "rubbish").unwrap();
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &files.cert, "a.example", &[]).await.0.unwrap();
    std::fs::write(&files.key, good).unwrap();
    write(folder.path(), "a", &["b.example"]);
    // No longer than the rubbish had.
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &files.cert, "b.example", &[]).await.0.unwrap();
    drain.force();
}

#[tokio::test(start_paused = true)]
async fn files_that_change_between_their_reading_and_the_watch_are_read_again() {
    let folder = TempDir::new().unwrap();
    let files = write(folder.path(), "a", &["a.example"]);
    let tls = Arc::new(Tls::new(vec![files.clone()], None).unwrap());
    write(folder.path(), "a", &["b.example"]);
    let drain = Drain::new();
    watch(&tls, &drain);
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &files.cert, "b.example", &[]).await.0.unwrap();
    drain.force();
}

#[tokio::test(start_paused = true)]
async fn other_files_are_watched_once_they_were_named() {
    let folder = TempDir::new().unwrap();
    let (first, second) =
        (write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["b.example"]));
    let tls = Arc::new(Tls::new(vec![first], None).unwrap());
    let drain = Drain::new();
    watch(&tls, &drain);
    tokio::time::sleep(LOOKED).await;
    tls.reload(vec![second.clone()]).unwrap();
    shake(&tls, &second.cert, "b.example", &[]).await.0.unwrap();
    write(folder.path(), "b", &["c.example"]);
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &second.cert, "c.example", &[]).await.0.unwrap();
    drain.force();
}

#[tokio::test(start_paused = true)]
async fn folders_are_watched_for_what_comes_new_and_what_was_bad_at_first() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().to_owned();
    let tls = Arc::new(Tls::new(PemSources { pairs: vec![], folders: vec![root.clone()] }, None).unwrap());
    let drain = Drain::new();
    watch(&tls, &drain);
    tokio::time::sleep(LOOKED).await;
    let first = write(&root, "a", &["a.example"]);
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &first.cert, "a.example", &[]).await.0.unwrap();
    std::fs::create_dir(root.join("b")).unwrap();
    let second = write(&root.join("b"), "b", &["b.example"]);
    let good = std::fs::read(&second.key).unwrap();
    std::fs::write(&second.key, "rubbish").unwrap();
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &first.cert, "a.example", &[]).await.0.unwrap();
    std::fs::write(&second.key, good).unwrap();
    tokio::time::sleep(LOOKED).await;
    for (files, name) in [(&first, "a.example"), (&second, "b.example")] {
        shake(&tls, &files.cert, name, &[]).await.0.unwrap();
    }
    let elsewhere = TempDir::new().unwrap();
    let kept = elsewhere.path().join("b.pem");
    std::fs::copy(&second.cert, &kept).unwrap();
    std::fs::remove_dir_all(root.join("b")).unwrap();
    tokio::time::sleep(LOOKED).await;
    shake(&tls, &kept, "b.example", &[]).await.0.unwrap_err();
    drain.force();
}

#[test]
fn bad_certificate_files_are_named_with_their_mend() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["b.example"]));
    let nameless = write(folder.path(), "c", &[]);
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = |cert: &Path, key: &Path| {
        Tls::new(vec![PemFiles { cert: cert.to_owned(), key: key.to_owned() }], None).unwrap_err().to_string()
    };
    for (text, words) in [
        (error(&a.cert, &b.key), "does not belong to"),
        (error(Path::new("/nowhere/x.pem"), &a.key), "cannot read /nowhere/x.pem"),
        (error(&empty, &a.key), "holds no certificate"),
        (error(&a.cert, &empty), "holds no private key"),
        (error(&nameless.cert, &nameless.key), "good for no host name"),
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn an_encrypted_key_a_turned_chain_and_der_are_named_as_what_they_are() {
    use rustls::pki_types::pem::PemObject;
    let folder = TempDir::new().unwrap();
    let (a, b) = (write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["b.example"]));
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    let turned = file("turned.pem", format!("{}{}", text(&b.cert), text(&a.cert)).as_bytes());
    let der = rustls::pki_types::CertificateDer::from_pem_file(&a.cert).unwrap();
    let der_key = rustls::pki_types::PrivateKeyDer::from_pem_file(&a.key).unwrap();
    let (der, der_key) = (file("a.der", &der), file("a-key.der", der_key.secret_der()));
    let pkcs8 = file("p8.pem", text(&a.key).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY").as_bytes());
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAA==\n-----END RSA PRIVATE KEY-----\n";
    let old = file("old.pem", old.as_bytes());
    let error = |cert: &Path, key: &Path| {
        Tls::new(vec![PemFiles { cert: cert.to_owned(), key: key.to_owned() }], None).unwrap_err().to_string()
    };
    for (text, words) in [
        (error(&turned, &a.key), "wrong order: certificate 2 of it"),
        (error(&der, &a.key), "a.der is not PEM but DER"),
        (error(&a.cert, &der_key), "a-key.der is not PEM but DER"),
        (error(&a.cert, &pkcs8), "p8.pem is encrypted with a password"),
        (error(&a.cert, &old), "old.pem is encrypted with a password"),
    ] {
        assert!(text.contains(words) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_name_is_covered_by_what_a_visitor_would_be_shown() {
    let folder = TempDir::new().unwrap();
    let wide = write(folder.path(), "wide", &["*.site.example", "other.test"]);
    let tls = Tls::new(vec![wide], None).unwrap();
    let covers = |text: &str| tls.covers(&Pattern::parse(text).unwrap());
    for name in ["a.site.example", "other.test", "*.site.example", "*.example", "*.test", "*"] {
        assert!(covers(name), "{name}");
    }
    for name in
        ["deep.a.site.example", "site.example", "*.a.site.example", "*.other.test", "*.ite.example", "x.test"]
    {
        assert!(!covers(name), "{name}");
    }
    let tls = Tls::new(PemSources::default(), Some(dev(folder.path()))).unwrap();
    let covers = |text: &str| tls.covers(&Pattern::parse(text).unwrap());
    assert!(covers("a.example") && covers("*.apps.example") && !covers("b.example"));
}

#[cfg(unix)]
#[test]
fn hazard_133_the_development_key_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    dev(folder.path());
    let mode = std::fs::metadata(folder.path().join("dev-ca-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

//! Folders of PEM files: which certificate goes with which key is found by what the files hold, not by their names.
//!
//! certbot's `live/`, the folders of lego and acme.sh, mkcert's pairs, a mounted Secret and HAProxy's single files each
//! name theirs in another way.

use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use super::pem::{CertificateError, PemFiles, read_chain, read_key};
use super::{Names, provider};

/// The PEM files right in one folder.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) folder: PathBuf,
    files: Vec<PathBuf>,
}

struct Chain {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

const EXTENSIONS: [&str; 5] = ["pem", "crt", "cer", "cert", "key"];

/// The PEM files of a folder, and those of the folders right in it. What begins with a dot is left out.
///
/// # Errors
/// When a folder cannot be listed.
pub(super) fn list(root: &Path) -> Result<Vec<Listed>, CertificateError> {
    let (files, folders) = entries(root)?;
    let mut listed = vec![Listed { folder: root.to_owned(), files }];
    for folder in folders {
        let (files, _) = entries(&folder)?;
        listed.push(Listed { folder, files });
    }
    Ok(listed)
}

fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CertificateError> {
    let unreadable =
        |error| CertificateError::Read { path: folder.to_owned(), source: pem::Error::Io(error) };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let has_extension = path
            .extension()
            .is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)));
        // Of what a symlink leads to: certbot and Secrets have nothing else.
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => folders.push(path),
            Ok(metadata) if metadata.is_file() && has_extension => files.push(path),
            _ => {}
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    Ok((files, folders))
}

impl Listed {
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.folder).chain(&self.files)
    }

    /// Each certificate with its key. Where several files hold the same certificate the longest chain counts: certbot
    /// writes it once alone and once in full. Chains of authorities alone need no key.
    ///
    /// # Errors
    /// When a file cannot be used, or no file beside a site's certificate holds its key.
    pub(super) fn pairs(&self) -> Result<Vec<PemFiles>, CertificateError> {
        let mut keys: Vec<(&PathBuf, PrivateKeyDer<'static>)> = Vec::new();
        let mut chains: Vec<Chain> = Vec::new();
        for path in &self.files {
            if holds_key(path)? {
                keys.push((path, read_key(path)?));
            }
            let certificates = read_chain(path)?;
            let same = chains.iter_mut().find(|known| known.certificates.first() == certificates.first());
            match same {
                _ if certificates.is_empty() => {}
                Some(known) if known.certificates.len() >= certificates.len() => {}
                Some(known) => *known = Chain { path: path.clone(), certificates },
                None => chains.push(Chain { path: path.clone(), certificates }),
            }
        }
        let mut pairs = Vec::new();
        for Chain { path, certificates } in chains {
            // Any of them, not the first alone: a turned chain is an error with a name of its own.
            let fits = |key: &PrivateKeyDer<'static>| {
                certificates.iter().any(|one| {
                    CertifiedKey::from_der(vec![one.clone()], key.clone_key(), &provider()).is_ok()
                })
            };
            match keys.iter().find(|(_, key)| fits(key)) {
                Some((key, _)) => pairs.push(PemFiles { cert: path, key: (*key).clone() }),
                None if certificates.first().is_some_and(|first| Names::is_authority(first)) => {}
                None => return Err(CertificateError::NoKeyBeside(path)),
            }
        }
        Ok(pairs)
    }
}

fn holds_key(path: &Path) -> Result<bool, CertificateError> {
    let unreadable = |error| CertificateError::Read { path: path.to_owned(), source: pem::Error::Io(error) };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(memchr::memmem::find(&bytes, b"PRIVATE KEY-----").is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn signed(name: &str) -> (String, String) {
        let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (signed.cert.pem(), signed.signing_key.serialize_pem())
    }

    fn pairs(root: &Path) -> Result<Vec<(String, String)>, CertificateError> {
        let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let mut found = Vec::new();
        for listed in list(root)? {
            found.extend(listed.pairs()?.iter().map(|pair| (name(&pair.cert), name(&pair.key))));
        }
        Ok(found)
    }

    #[test]
    fn pairs_are_found_as_certbot_mkcert_kubernetes_and_haproxy_write_them() {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        for folder in ["live", "secret", ".hidden", "secret/..data"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let (cert, key) = signed("certbot.example");
        for (name, text) in [
            ("live/cert.pem", &cert),
            ("live/chain.pem", &authority),
            ("live/fullchain.pem", &format!("{cert}{authority}")),
            ("live/privkey.pem", &key),
            ("live/README", &"no PEM".to_owned()),
        ] {
            fs::write(at(name), text).unwrap();
        }
        let (cert, key) = signed("kubernetes.example");
        fs::write(at("secret/..data/tls.crt"), cert).unwrap();
        fs::write(at("secret/..data/tls.key"), key).unwrap();
        std::os::unix::fs::symlink("..data/tls.crt", at("secret/tls.crt")).unwrap();
        std::os::unix::fs::symlink("..data/tls.key", at("secret/tls.key")).unwrap();
        let (cert, key) = signed("mkcert.example");
        fs::write(at("b.pem"), cert).unwrap();
        fs::write(at("b-key.pem"), key).unwrap();
        let (cert, key) = signed("haproxy.example");
        fs::write(at("a.pem"), cert + &key).unwrap();
        fs::write(at(".hidden/half.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
        let expected = [
            ("a.pem", "a.pem"),
            ("b.pem", "b-key.pem"),
            ("live/fullchain.pem", "live/privkey.pem"),
            ("secret/tls.crt", "secret/tls.key"),
        ];
        assert_eq!(
            pairs(root.path()).unwrap(),
            expected.map(|(cert, key)| (cert.to_owned(), key.to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let root = TempDir::new().unwrap();
        assert_eq!(pairs(root.path()).unwrap(), []);
        let (cert, _) = signed("alone.example");
        fs::write(root.path().join("alone.crt"), cert).unwrap();
        let error = pairs(root.path()).unwrap_err().to_string();
        assert!(error.contains("alone.crt") && error.contains("holds its key"), "{error}");
        let error = pairs(&root.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}

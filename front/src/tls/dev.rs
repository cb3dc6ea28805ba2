//! A certificate authority of the edge's own, for development: signs any granted name on demand. Whoever trusts its
//! root, a file in the data folder, can reach the edge by HTTPS without a public certificate.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use causeway_tunnel::Host;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::files::certificate;
use super::{Certificate, Names};

/// Says whether a name may have a certificate.
pub(super) type IsGranted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// See the module.
pub struct DevAuthority {
    issuer: Issuer<'static, KeyPair>,
    is_granted: IsGranted,
    /// What was signed, and when.
    signed: Mutex<HashMap<Host, (Instant, Arc<Certificate>)>>,
}

/// Why there is no development authority.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("cannot keep the development authority in {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not the key of a development authority: delete it and {ROOT_FILE}, and a new one is made", .0.display())]
    BadKey(PathBuf),
    #[error("cannot make a development authority")]
    Make(#[from] rcgen::Error),
}

/// The root certificate, for `curl --cacert`.
const ROOT_FILE: &str = "dev-ca.pem";
const KEY_FILE: &str = "dev-ca-key.pem";
const VALID: Duration = Duration::from_secs(90 * 24 * 3600);
const ROOT_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Signed anew long before it ends.
const RENEWED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Names that are kept; a wildcard grant has no end of them.
const MAX_SIGNED: usize = 1_000;

impl DevAuthority {
    /// Takes the authority in `folder`, or makes one. Its key is readable by its owner alone.
    ///
    /// # Errors
    /// When the folder cannot be written, or what is in it is something else.
    pub fn open(folder: &Path, is_granted: IsGranted) -> Result<Self, DevError> {
        let (root_path, key_path) = (folder.join(ROOT_FILE), folder.join(KEY_FILE));
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DevError::Io { path, source }
        };
        let key = match std::fs::read_to_string(&key_path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|_| DevError::BadKey(key_path.clone()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write_private(&key_path, key.serialize_pem().as_bytes()).map_err(io(&key_path))?;
                // A root left over from another key would not fit.
                let _ = std::fs::remove_file(&root_path);
                key
            }
            Err(error) => return Err(io(&key_path)(error)),
        };
        let params = root_params();
        if !root_path.exists() {
            let root = params.self_signed(&key)?;
            std::fs::write(&root_path, root.pem()).map_err(io(&root_path))?;
        }
        Ok(Self { issuer: Issuer::new(params, key), is_granted, signed: Mutex::default() })
    }

    /// Whether this name would get a certificate.
    pub(super) fn signs(&self, name: &str) -> bool {
        (self.is_granted)(name)
    }

    pub(super) fn certificate(&self, name: &Host) -> Option<Arc<Certificate>> {
        if !self.signs(name) {
            return None;
        }
        let mut signed = self.signed.lock();
        if let Some((when, certificate)) = signed.get(name)
            && when.elapsed() < RENEWED
        {
            return Some(Arc::clone(certificate));
        }
        let certificate = match self.sign(name) {
            Ok(certificate) => Arc::new(certificate),
            Err(error) => {
                tracing::error!(%error, host = %name, "cannot sign a development certificate");
                return None;
            }
        };
        if signed.len() >= MAX_SIGNED {
            signed.clear();
        }
        signed.insert(name.clone(), (Instant::now(), Arc::clone(&certificate)));
        Some(certificate)
    }

    fn sign(&self, name: &Host) -> Result<Certificate, Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_string()])?;
        params.distinguished_name.push(DnType::CommonName, "Causeway development");
        set_validity(&mut params, VALID);
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(certificate(vec![leaf.der().clone()], key, Names::one(name))?)
    }
}

impl fmt::Debug for DevAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevAuthority").field("signed", &self.signed.lock().len()).finish_non_exhaustive()
    }
}

/// The same each time but for the dates: together with the key they are all that signing needs.
fn root_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Causeway development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, ROOT_VALID);
    params
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    // A day of tolerance for clocks that are behind.
    params.not_before = (now - Duration::from_secs(24 * 3600)).into();
    params.not_after = (now + valid).into();
}

/// Writes a file that only its owner can read, whole or not at all (hazard 133).
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let result = written.and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

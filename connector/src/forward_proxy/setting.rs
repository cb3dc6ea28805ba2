//! What a person says of the proxy: in the rule file, or on the command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_daemon::config::{Secret, SecretError};

use super::address::{Address, AddressError, Credentials};
use super::{Environment, Outward, Proxy};

/// `proxy` and `proxyPasswordFile`, checked but for what is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Nothing is said: the environment's variables count.
    #[default]
    Unsaid,
    /// `none`: edges are dialled directly, whatever the environment says.
    Direct,
    Named {
        address: Address,
        user: Option<String>,
        password_file: Option<PathBuf>,
    },
}

/// Why what is said cannot be done. No secret is repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("no password is taken here, where others can read it")]
    Password,
    #[error("`proxyPasswordFile` has the password of nobody: there is no user in `proxy`")]
    Nobody,
    #[error("the password for the proxy is not to be had: {0}")]
    File(#[from] SecretError),
}

impl SettingError {
    /// What to write instead.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Address(error) => Some(error.help().to_owned()),
            Self::Password => Some("put it into a file and name that by `proxyPasswordFile`".to_owned()),
            Self::Nobody => Some("http://USER@HOST:PORT".to_owned()),
            Self::File(_) => None,
        }
    }
}

impl Setting {
    /// Reads `proxy`'s value; an empty one says nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, SettingError> {
        match text {
            "" => Ok(Self::Unsaid),
            "none" => Ok(Self::Direct),
            text => {
                let (address, credentials) = Address::parse(text)?;
                if credentials.as_ref().is_some_and(|one| !one.password.expose().is_empty()) {
                    return Err(SettingError::Password);
                }
                let user = credentials.map(|one| one.user);
                Ok(Self::Named { address, user, password_file: None })
            }
        }
    }

    /// The same with `proxyPasswordFile`.
    pub(crate) fn with_password_file(self, file: &Path) -> Result<Self, SettingError> {
        match self {
            Self::Named { address, user: Some(user), .. } => {
                Ok(Self::Named { address, user: Some(user), password_file: Some(file.to_owned()) })
            }
            _ => Err(SettingError::Nobody),
        }
    }

    /// Reads the password, or the environment.
    pub(crate) fn open(&self) -> Result<Outward, SettingError> {
        let (address, user, password_file) = match self {
            Self::Unsaid => return Ok(Outward::Environment(Arc::new(Environment::of_process()))),
            Self::Direct => return Ok(Outward::Direct),
            Self::Named { address, user, password_file } => (address, user, password_file),
        };
        let password = match password_file {
            Some(file) => Secret::from_file(file)?,
            None => Secret::new(""),
        };
        let credentials = user.clone().map(|user| Credentials { user, password }.checked(address.scheme));
        Ok(Outward::Through(Arc::new(Proxy::new(address.clone(), credentials.transpose()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> SettingError {
        Setting::parse(text).unwrap_err()
    }

    #[test]
    fn a_password_is_taken_from_a_file_alone() {
        let named = Setting::parse("http://me@h:1").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let Outward::Through(proxy) = named.clone().with_password_file(&file).unwrap().open().unwrap() else {
            panic!("it goes through a proxy");
        };
        assert_eq!(proxy.address.to_string(), "http://h:1");
        let Outward::Through(_) = named.open().unwrap() else { panic!("an empty password is one") };
        let gone = named.with_password_file(&folder.path().join("gone")).unwrap().open().unwrap_err();
        assert!(gone.to_string().contains("/gone: "), "{gone}");

        let error = refused("http://me:s3cret@h:1");
        assert!(matches!(error, SettingError::Password), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(error.help().unwrap().contains("proxyPasswordFile"));
    }

    #[test]
    fn what_is_said_is_checked() {
        assert_eq!(Setting::parse("").unwrap(), Setting::Unsaid);
        assert_eq!(Setting::parse("none").unwrap(), Setting::Direct);
        assert!(matches!(Setting::Direct.open().unwrap(), Outward::Direct));
        assert!(matches!(refused("https://h:1"), SettingError::Address(AddressError::Https)));
        for text in ["", "none", "http://h:1"] {
            let nobody = Setting::parse(text).unwrap().with_password_file(Path::new("/x")).unwrap_err();
            assert!(matches!(nobody, SettingError::Nobody), "{text}");
        }
    }
}

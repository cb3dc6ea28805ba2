//! A kubeconfig, as far as a connector needs one: a server, whom to know it by, and a token or a certificate to be known by.
//! What is not done here is refused by name: a rule that comes from nowhere is worse than a start that fails.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use causeway_daemon::config::Secret;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::access::{AccessError, Identity, Server};

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    // The one key in another style.
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<IgnoredAny>,
}

/// What the current context of a kubeconfig says.
///
/// # Errors
/// Names the file, the key and the mend.
pub(super) fn parse(path: &Path, text: &str) -> Result<(Server, Identity), AccessError> {
    let name = path.display().to_string();
    let bad = |text: String| AccessError(format!("{name}: {text}"));
    let file: File =
        causeway_daemon::config::parse(&name, text).map_err(|error| AccessError(error.to_string()))?;
    let context = file
        .contexts
        .into_iter()
        .find(|one| one.name == file.current_context)
        .map(|one| one.context)
        .ok_or_else(|| {
            bad(format!(
                "`current-context` is `{}`, and there is no such context: `kubectl config use-context NAME` sets it",
                file.current_context
            ))
        })?;
    let cluster = file.clusters.into_iter().find(|one| one.name == context.cluster).map(|one| one.cluster);
    let cluster = cluster
        .ok_or_else(|| bad(format!("the context's cluster `{}` is not in `clusters`", context.cluster)))?;
    let user = file.users.into_iter().find(|one| one.name == context.user).map(|one| one.user);
    let user = user.ok_or_else(|| bad(format!("the context's user `{}` is not in `users`", context.user)))?;

    let unsupported = [
        (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify", CA),
        (
            cluster.proxy_url.is_some(),
            "proxy-url",
            "take it out: the connector reaches the API server itself",
        ),
        (user.exec.is_some(), "exec", TOKEN),
        (user.auth_provider.is_some(), "auth-provider", TOKEN),
        (user.username.is_some(), "username", TOKEN),
        (user.impersonate.is_some(), "as", TOKEN),
    ];
    if let Some((_, key, mend)) = unsupported.iter().find(|(is_set, ..)| *is_set) {
        return Err(bad(format!("`{key}` is not supported here: {mend}")));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let read = |data: Option<String>, file: Option<PathBuf>, key: &str| match (data, file) {
        (Some(data), _) => STANDARD
            .decode(data.trim())
            .map(Some)
            .map_err(|error| bad(format!("`{key}-data` is not base64: {error}"))),
        (None, Some(file)) => {
            let file = folder.join(file);
            std::fs::read(&file)
                .map(Some)
                .map_err(|error| bad(format!("`{key}`: cannot read {}: {error}", file.display())))
        }
        (None, None) => Ok(None),
    };
    let authority =
        read(cluster.certificate_authority_data, cluster.certificate_authority, "certificate-authority")?;
    let chain = read(user.client_certificate_data, user.client_certificate, "client-certificate")?;
    let key = read(user.client_key_data, user.client_key, "client-key")?;
    let identity = match (user.token, user.token_file, chain, key) {
        (_, Some(file), ..) => Identity::TokenFile(folder.join(file)),
        (Some(token), ..) => Identity::Token(Secret::written(&token)),
        (_, _, Some(chain), Some(key)) => Identity::Certificate { chain, key },
        (_, _, None, None) => Identity::Nobody,
        _ => {
            return Err(bad(
                "`client-certificate` and `client-key` go together, and one of the two is missing".to_owned(),
            ));
        }
    };
    let server = Server::parse(&cluster.server, authority, cluster.tls_server_name.as_deref())
        .map_err(|text| bad(format!("`server`: {text}")))?;
    if server.is_plain() && !matches!(identity, Identity::Nobody) {
        return Err(bad("a token or certificate is not sent to a `server` without TLS".to_owned()));
    }
    Ok((server, identity))
}

const CA: &str = "name the server's authority with `certificate-authority`, or its content with `certificate-authority-data`";
const TOKEN: &str = "make a kubeconfig with a token of the ServiceAccount in deploy/kubernetes/discovery, as docs/kubernetes.md \
                     shows, or run `kubectl proxy` and name its address as `server`";

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cluster: &str, user: &str) -> Result<(Server, Identity), AccessError> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\npreferences: {{}}\n\
             contexts: [{{name: a, context: {{cluster: c, user: u, namespace: n}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        );
        parse(Path::new("/home/me/kubeconfig"), &text)
    }

    fn refused(cluster: &str, user: &str) -> String {
        with(cluster, user).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_token_in_the_file_or_beside_it_is_taken() {
        let (server, identity) = with("server: 'https://10.0.0.1:6443/k8s/c1/'", "token: t").unwrap();
        assert_eq!((server.shown(), server.prefix()), ("https://10.0.0.1:6443".to_owned(), "/k8s/c1"));
        assert!(matches!(identity, Identity::Token(token) if token.expose() == "t"));
        let (server, identity) = with("server: 'https://k.lan'", "tokenFile: token").unwrap();
        assert_eq!(server.shown(), "https://k.lan:443");
        assert!(matches!(identity, Identity::TokenFile(path) if path == Path::new("/home/me/token")));
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name_with_its_mend() {
        let server = "server: 'https://a'";
        assert!(refused(server, "exec: {command: aws}").contains("`exec` is not supported"));
        assert!(refused(server, "exec: {command: aws}").contains("deploy/kubernetes/discovery"));
        assert!(refused(server, "username: a, password: b").contains("`username`"));
        assert!(refused(server, "as: admin, token: t").contains("`as`"));
        assert!(
            refused(&format!("{server}, insecure-skip-tls-verify: true"), "")
                .contains("`certificate-authority`")
        );
        assert!(refused(&format!("{server}, proxy-url: 'http://p'"), "").contains("`proxy-url`"));
        assert!(refused(server, "client-key-data: 'YQ=='").contains("one of the two"));
        assert!(refused(&format!("{server}, certificate-authority-data: '?'"), "").contains("base64"));
        assert!(
            refused(&format!("{server}, certificate-authority: none.pem"), "").contains("/home/me/none.pem")
        );
    }

    #[test]
    fn a_server_without_tls_is_this_machine_and_gets_no_secret() {
        assert!(with("server: 'http://127.0.0.1:8001'", "").is_ok(), "kubectl proxy");
        assert!(refused("server: 'http://127.0.0.1:8001'", "token: t").contains("without TLS"));
        assert!(refused("server: 'http://10.0.0.1'", "").contains("https://"));
        for server in ["", "10.0.0.1:6443", "ftp://a", "https://", "https://a:b"] {
            assert!(refused(&format!("server: '{server}'"), "").contains("`server`"), "{server}");
        }
    }

    #[test]
    fn a_context_that_is_not_there_is_named() {
        let error = parse(Path::new("k"), "current-context: gone\n").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`gone`") && error.contains("use-context"), "{error}");
    }
}

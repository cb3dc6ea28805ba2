//! A PostgreSQL server of the test's own, reached by a unix socket in its folder. The edge's unit tests take this file too, so it
//! needs nothing of ours.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    folder: tempfile::TempDir,
    server: Option<Child>,
}

/// Where Debian has the server's programs, one folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// As whom it runs where the test is root: it refuses to be.
const NOBODY: u32 = 65_534;
const USER: &str = "causeway";
const START: Duration = Duration::from_secs(60);

impl Postgres {
    /// None, said aloud, where no server is installed. In CI nothing is skipped.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let Some(binaries) = installed() else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: postgresql is not installed");
            eprintln!("SKIPPED {test}: postgresql is not installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("causeway-pg-").tempdir().expect("a temporary folder");
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may give a folder away");
        }
        // Names are sorted as people do it, which a store must not rely upon.
        let made = as_nobody(&binaries.join("initdb"))
            .args(["--no-sync", "-E", "UTF8", "--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8"])
            .args(["-A", "trust", "-U", USER, "-D"])
            .arg(folder.path().join("data"))
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { binaries, folder, server: None };
        postgres.open();
        Some(postgres)
    }

    /// The database that each server has from its making.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@localhost/postgres?host={}", self.folder.path().display())
    }

    /// Starts it, where it was.
    ///
    /// # Panics
    /// When it runs already, or does not start.
    pub fn open(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let log = fs::File::create(self.folder.path().join("log")).expect("a file in an own folder");
        let server = as_nobody(&self.binaries.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-D"])
            .arg(self.folder.path().join("data"))
            .arg("-k")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres runs");
        self.server = Some(server);
        let since = Instant::now();
        while self.sql("SELECT 1").is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(since.elapsed() < START, "postgres does not start:\n{log}");
            #[expect(
                clippy::disallowed_methods,
                reason = "a server says to nobody that it is ready: it is asked again"
            )]
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, with whatever is under way.
    ///
    /// # Panics
    /// When it does not run.
    pub fn close(&mut self) {
        let mut server = self.server.take().expect("it runs");
        // Its own way of a sudden end: who is killed leaves its children behind.
        let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        let _ = server.wait();
    }

    /// What a statement answers, without a head, a line for each row.
    ///
    /// # Errors
    /// What the server says of it.
    pub fn sql(&self, statement: &str) -> Result<String, String> {
        let answer = Command::new(self.binaries.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", statement])
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.close();
        }
    }
}

/// The newest version's programs.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    versions.filter(|bin| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).exists())).max()
}

/// Ends with the thread that started it, too.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

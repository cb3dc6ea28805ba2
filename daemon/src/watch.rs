//! Notices that files changed: configuration, certificates, tokens.
//!
//! It looks twice a second instead of asking the kernel for events. A look sees every way in which files change
//! (edited in place, renamed over, a symlink of a mounted ConfigMap or Secret swapped, a bind mount, a network folder)
//! and costs microseconds; events need a watch on each folder of each symlink's chain and still miss the last two.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// A set of files and what was last seen of them.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    paths: Vec<PathBuf>,
    /// As of the last report, or of [`Watch::new`]; in the order of `paths`.
    seen: Vec<Option<Look>>,
}

/// What tells two contents of a file apart without reading them; symlinks are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Catches what keeps the time of modification, such as `cp -p` over a file.
    changed: (i64, i64),
}

impl Watch {
    /// Starts to watch. Call it before the files are read for the first time, so that no change falls between.
    pub async fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = look(&paths).await;
        Self { paths, seen }
    }

    /// As [`Watch::new`], where files are read without a runtime.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = paths.iter().map(|path| std::fs::metadata(path).ok().as_ref().map(Look::from)).collect();
        Self { paths, seen }
    }

    /// Waits until a file changed, appeared or vanished, and all of them were still for a moment after. Many changes
    /// in a row are one. Cancel safe: a change that was not reported is reported by the next call.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut now = look(&self.paths).await;
            if now == self.seen {
                continue;
            }
            // Half-written: wait for its end, but not for ever for the end of a file that is always written.
            for _ in 0..MAX_SETTLING {
                tokio::time::sleep(SETTLE).await;
                let later = look(&self.paths).await;
                if later == now {
                    break;
                }
                now = later;
            }
            self.seen = now;
            return;
        }
    }
}

impl From<&Metadata> for Look {
    fn from(it: &Metadata) -> Self {
        Self {
            device: it.dev(),
            inode: it.ino(),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        }
    }
}

async fn look(paths: &[PathBuf]) -> Vec<Option<Look>> {
    let mut looks = Vec::with_capacity(paths.len());
    for path in paths {
        looks.push(tokio::fs::metadata(path).await.ok().as_ref().map(Look::from));
    }
    looks
}

/// A person who saved a file looks up after about this time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Programs write a small file within milliseconds.
const SETTLE: Duration = Duration::from_millis(50);

/// One second of settling.
const MAX_SETTLING: usize = 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::Watch;

    async fn reports(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(2), watch.changed()).await.is_ok()
    }

    /// Puts a new target under a symlink's name in one step, as Kubernetes does it.
    fn swap(target: &Path, link: &Path) {
        let temporary = link.with_file_name("..data_tmp");
        symlink(target, &temporary).unwrap();
        fs::rename(&temporary, link).unwrap();
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_one_report() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("config.yml"), folder.path().join("cert.pem"));
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new([path.clone(), other.clone()]).await;

        fs::write(&path, "b").unwrap();
        assert!(reports(&mut watch).await, "edited in place, same size");
        assert!(!reports(&mut watch).await, "one change, one report");

        let next = folder.path().join("next");
        fs::write(&next, "c").unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(reports(&mut watch).await, "renamed over");

        fs::write(&other, "x").unwrap();
        assert!(reports(&mut watch).await, "appeared");
        fs::remove_file(&other).unwrap();
        assert!(reports(&mut watch).await, "vanished");
    }

    #[tokio::test]
    async fn a_swapped_folder_symlink_is_a_change_of_the_files_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for version in ["v1", "v2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("config.yml"), version).unwrap();
        }
        swap(&root.join("v1"), &root.join("..data"));
        symlink("..data/config.yml", root.join("config.yml")).unwrap();
        let mut watch = Watch::new([root.join("config.yml")]).await;
        swap(&root.join("v2"), &root.join("..data"));
        assert!(reports(&mut watch).await);
    }

    #[tokio::test]
    async fn a_change_is_not_lost_when_the_wait_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new([path.clone()]).await;
        fs::write(&path, "bb").unwrap();
        assert!(timeout(Duration::from_millis(520), watch.changed()).await.is_err());
        assert!(reports(&mut watch).await);
    }
}

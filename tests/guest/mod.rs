//! A small Linux guest with the real guest agent, for the tests of real VMs:
//! made by `build` next to this file, once per recipe. Boots under TCG in
//! about five seconds.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Memory that it needs.
pub const MEMORY_MIB: u64 = 128;

/// Kernel and initramfs.
pub struct Guest {
    dir: PathBuf,
}

impl Guest {
    /// Finds it in the cache or builds it, which takes half a minute.
    pub fn get() -> Self {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/build");
        let made = Command::new(build).stderr(std::process::Stdio::inherit()).output().unwrap();
        assert!(made.status.success(), "the test guest could not be built");
        let said = String::from_utf8(made.stdout).unwrap();
        Self { dir: PathBuf::from(said.trim_end()) }
    }

    /// QEMU's words that boot it; `words` go to its kernel's command line:
    /// those that `init` next to this file understands.
    pub fn boot(&self, words: &str) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        let append = format!(
            "console=ttyS0 quiet loglevel=4 mitigations=off audit=0 net.ifnames=0 \
             no_timer_check tsc=reliable panic=1 {words}"
        );
        ["-kernel", &file("vmlinux"), "-initrd", &file("initrd"), "-append", &append]
            .map(str::to_owned)
            .to_vec()
    }
}

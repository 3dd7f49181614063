//! The payload: a small read-only disk made per run, with the agent and
//! whatever a test wants at /payload. So the image does not depend on Rust code.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const MIB: u64 = 1024 * 1024;

pub fn make(target: &Path, scratch: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    let tree = scratch.join("payload");
    fs::create_dir(&tree).with_context(|| format!("creating {}", tree.display()))?;
    let mut size = 0;
    for (file, name) in files {
        let place = tree.join(name);
        let length = fs::metadata(file)
            .with_context(|| format!("the payload {name}: no file {}", file.display()))?
            .len();
        fs::copy(file, &place).with_context(|| format!("copying {} for the payload", file.display()))?;
        size += length + 4096;
    }
    // File system overhead: block maps, inodes.
    let size = size + size / 16 + 4 * MIB;
    fs::File::create(target)?.set_len(size)?;
    let output = tool("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "LABPAYLOAD", "-O", "^has_journal,^resize_inode"])
        .args(["-m", "0", "-b", "4096", "-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", "-d"])
        .arg(&tree)
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .context("starting mke2fs for the payload (package e2fsprogs)")?;
    ensure!(
        output.status.success(),
        "making the payload failed with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    fs::remove_dir_all(&tree)?;
    Ok(())
}

/// A program that a user's PATH may not lead to.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

//! The image: found in the cache or built by `image/build`; and the agent's
//! program, built by cargo.

use crate::argv::Image;
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// As in `image/build`.
pub fn cache_dir() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = match (var("HOSTD_LAB_CACHE"), var("XDG_CACHE_HOME"), var("HOME")) {
        (Some(dir), _, _) => dir,
        (None, Some(dir), _) => dir.join("hostd/lab"),
        (None, None, Some(home)) => home.join(".cache/hostd/lab"),
        (None, None, None) => bail!("none of HOSTD_LAB_CACHE, XDG_CACHE_HOME and HOME is set"),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("creating the lab's cache {}", dir.display()))?;
    Ok(dir)
}

/// The image of this source tree. The first time it takes ten minutes and
/// says so on stderr; afterwards it takes none.
pub fn ensure() -> Result<Image> {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    if let Some(image) = IMAGE.get() {
        return Ok(image.clone());
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/build");
    let output = Command::new(&build)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", build.display()))?;
    ensure!(output.status.success(), "{} failed with {}: see above", build.display(), output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let dir = said.lines().last().map(PathBuf::from).context("image/build printed no directory")?;
    Ok(IMAGE.get_or_init(|| Image { dir }).clone())
}

/// The agent's program. A test of another crate depends on this one as a
/// library, for which cargo builds no binaries: so it is asked to here, into a
/// target directory of its own, not to wait for locks of a build under way.
pub fn agent() -> Result<PathBuf> {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(agent) = AGENT.get() {
        return Ok(agent.clone());
    }
    if let Some(agent) = std::env::var_os("HOSTD_LAB_AGENT") {
        return Ok(PathBuf::from(agent));
    }
    let target = target_dir().join("lab-agent");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--bin", "lab-agent", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        // Instrumentation and flags of the outer build are not for the guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("LLVM_PROFILE_FILE")
        .stdin(Stdio::null())
        .output()
        .context("starting cargo to build the lab's agent")?;
    ensure!(
        output.status.success(),
        "building the lab's agent failed with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(AGENT.get_or_init(|| target.join("release/lab-agent")).clone())
}

/// The target directory that the running program was built in.
fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf)
}

//! Whether guests run under KVM or TCG. /dev/kvm may exist, open, answer its
//! version and still be unable to run a kernel, so it is tried: the real kernel
//! and initramfs for a few seconds, up to the first line of its first process.

use crate::{argv::Image, image::cache_dir};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

const MARKER: &str = "hostd-lab: kernel is up";
const LIMIT: Duration = Duration::from_secs(20);

/// `HOSTD_LAB_ACCEL` decides; else what an earlier trial since this machine
/// booted found out; else a trial.
pub fn choose(image: &Image) -> Result<Accel> {
    match std::env::var("HOSTD_LAB_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok("") | Err(_) => {}
        Ok(other) => bail!("HOSTD_LAB_ACCEL is {other:?}; it can be tcg or kvm"),
    }
    let writable = rustix::fs::access(
        "/dev/kvm",
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
    );
    if writable.is_err() {
        return Ok(Accel::Tcg);
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = cache_dir()?.join("accel");
    let remembered = fs::read_to_string(&known).unwrap_or_default();
    match remembered.trim().split_once(' ') {
        Some((id, "kvm")) if id == boot_id.trim() => return Ok(Accel::Kvm),
        Some((id, "tcg")) if id == boot_id.trim() => return Ok(Accel::Tcg),
        _ => {}
    }
    let accel = match try_kvm(image) {
        Ok(()) => Accel::Kvm,
        Err(error) => {
            eprintln!("lab: /dev/kvm exists and cannot run a kernel ({error:#}): using TCG, which is slow");
            Accel::Tcg
        }
    };
    // Only a memory: without it the trial is repeated. Parallel runs write the
    // same; a reader of a half-written line tries for itself.
    let _ = fs::write(&known, format!("{} {}\n", boot_id.trim(), accel.name()));
    Ok(accel)
}

fn try_kvm(image: &Image) -> Result<()> {
    let dir = tempfile::tempdir().context("a directory for the trial of KVM")?;
    let log = dir.path().join("console");
    let stderr = dir.path().join("stderr");
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "q35,kernel-irqchip=split", "-accel", "kvm", "-cpu", "host"])
        .args(["-smp", "2", "-m", "512"])
        .arg("-kernel")
        .arg(image.kernel())
        .arg("-initrd")
        .arg(image.initrd())
        .args(["-append", "console=ttyS0,115200 loglevel=4 panic=-1 lab.smoke"])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&stderr)?)
        .spawn()
        .context("starting qemu-system-x86_64")?;
    let start = Instant::now();
    let result = loop {
        if fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains(MARKER)) {
            break Ok(());
        }
        if let Some(status) = child.try_wait()? {
            break Err(format!("QEMU ended with {status}"));
        }
        let said = fs::read_to_string(&stderr).unwrap_or_default();
        if said.contains("internal error") || said.contains("emulation failure") {
            break Err("KVM reports an internal error".to_owned());
        }
        if start.elapsed() > LIMIT {
            break Err(format!("no sign of life within {} s", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let _ = child.kill();
    let _ = child.wait();
    result.map_err(|reason| {
        let said = fs::read_to_string(&stderr).unwrap_or_default();
        let first = said.lines().next().unwrap_or("and no message").to_owned();
        anyhow::anyhow!("{reason}: {first}")
    })
}

//! The disk of the own-boot tier: partitioned, with GRUB, a kernel and the
//! Debian initramfs of its own. Made once per image, on first demand, without
//! privileges here: the image's file system is copied behind a partition
//! table, and the fast tier, with that disk attached, installs what boots it.
//! A run works on an overlay.

use crate::{argv::Image, lab::Lab, payload::tool, spec::LabSpec};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Where the only partition starts: room for GRUB behind the boot record.
const START: u64 = 1024 * 1024;
const INSTALL: Duration = Duration::from_secs(900);

/// In the fast tier, with the disk as `extra`. Its file system is a copy of the
/// running root's, UUID and all; they never meet again.
const SCRIPT: &str = r#"
set -eu
say() { echo "boot disk: $(cut -d' ' -f1 /proc/uptime) s: $*" > /dev/ttyS0; }
disk=/dev/disk/by-id/virtio-extra
udevadm settle
disk=$(readlink -f $disk)
part=${disk}1
mkdir -p /mnt
mount $part /mnt
for dir in dev proc sys; do mount --rbind /$dir /mnt/$dir; done
mount -t tmpfs tmpfs /mnt/run
mkdir -p /mnt/run/udev && mount --bind /run/udev /mnt/run/udev
say "update-initramfs"
chroot /mnt update-initramfs -c -k all
say "grub-install"
chroot /mnt grub-install --target=i386-pc $disk
say "update-grub"
chroot /mnt update-grub
say "done"
umount /mnt/run/udev /mnt/run
umount -R /mnt/dev /mnt/proc /mnt/sys || true
umount /mnt || mount -o remount,ro /mnt
sync
"#;

/// A fresh overlay over the base disk, which is made when it is missing.
pub fn overlay(image: &Image, overlay: &Path) -> Result<()> {
    ensure_base(image)?;
    let backing = image.boot();
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&backing).arg(overlay);
    finish(command, "qemu-img create").map(drop)
}

pub fn ensure_base(image: &Image) -> Result<()> {
    if image.boot().exists() {
        return Ok(());
    }
    let lock = image.dir.join("boot.lock");
    let lock = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("lab: another process makes the boot disk; waiting for it");
        lock.lock()?;
    }
    if image.boot().exists() {
        return Ok(());
    }
    let started = Instant::now();
    eprintln!("lab: making the boot disk (once per image, some minutes)");
    let work = tempfile::Builder::new().prefix("boot-").tempdir_in(&image.dir)?;
    let raw = work.path().join("boot.raw");
    partition(&image.root(), &raw)?;
    install(&raw)?;
    let part = work.path().join("boot.qcow2");
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&part);
    finish(command, "qemu-img convert")?;
    fs::rename(&part, image.boot())?;
    eprintln!("lab: boot disk made in {} s", started.elapsed().as_secs());
    Ok(())
}

/// A partition table, and the root's file system behind it.
fn partition(root: &Path, raw: &Path) -> Result<()> {
    let mut source = File::open(root).with_context(|| format!("opening {}", root.display()))?;
    let mut disk = File::create(raw)?;
    let length = source.metadata()?.len();
    disk.set_len(START + length)?;
    // Zeros are left out: the disk stays as sparse as the image.
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < length {
        let want = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        source.read_exact(&mut buffer[..want])?;
        if buffer[..want].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(START + at))?;
            disk.write_all(&buffer[..want])?;
        }
        at += want as u64;
    }
    drop(disk);
    let mut command = tool("sfdisk");
    command.arg("--quiet").arg(raw).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting sfdisk (package fdisk)")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "label: dos\nstart={}, type=83, bootable", START / 512)?;
    }
    check(child.wait_with_output()?, "sfdisk")
}

fn install(raw: &Path) -> Result<()> {
    let mut spec = LabSpec::fast();
    spec.extra_disk = Some(raw.to_owned());
    let lab = Lab::boot(spec).context("booting the fast tier to make the boot disk")?;
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| lab.run_for(SCRIPT, INSTALL));
        let mut said = 0;
        while !running.is_finished() {
            std::thread::sleep(Duration::from_millis(500));
            let console = lab.console_tail(200);
            let steps: Vec<_> = console.lines().filter(|line| line.contains("boot disk: ")).collect();
            steps.iter().skip(said).for_each(|step| eprintln!("lab: {}", step.trim()));
            said = steps.len();
        }
        running.join()
    });
    match output {
        Ok(Ok(output)) if output.ok() => Ok(()),
        Ok(Ok(output)) => bail!(
            "making the boot disk failed in the lab with status {}\nstdout:\n{}\nstderr:\n{}",
            output.status,
            output.stdout,
            output.stderr
        ),
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("making the boot disk: the thread that ran it panicked"),
    }
}

fn finish(mut command: Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {what}"))?;
    check(output, what)
}

fn check(output: Output, what: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what} failed with {}: {}", output.status, said.trim());
    Ok(())
}

//! Snapshots on real ZFS: a case for a lab that has a pool `tank` and hostd
//! with the VM `gaming` in it, which is off. It leaves both as they were.

use anyhow::{Result, ensure};
use hostd_lab::Lab;

use super::{ETC, GAMING, hostctl, json, launch, vm};

const ZVOL: &str = "/dev/zvol/tank/snap";
const IMAGE: &str = "/srv/snap.qcow2";

/// Writes a word to the zvol and to the image.
fn write(lab: &Lab, byte: u8) -> Result<()> {
    lab.run_ok(&format!(
        "printf '\\{byte:03o}%.0s' $(seq 4096) | dd of={ZVOL} bs=4096 conv=fsync status=none && \
         qemu-io -f qcow2 -c 'write -P {byte} 0 4k' {IMAGE} >/dev/null"
    ))?;
    Ok(())
}

/// Whether both hold it.
fn holds(lab: &Lab, byte: u8) -> Result<bool> {
    let out = lab.run(&format!(
        "[ \"$(head -c 1 {ZVOL} | od -An -tu1 | tr -d ' ')\" = {byte} ] && \
         ! qemu-io -f qcow2 -c 'read -P {byte} 0 4k' {IMAGE} | grep -q failed"
    ))?;
    Ok(out.ok())
}

fn restart(lab: &Lab, gaming: &str) -> Result<()> {
    lab.push_bytes(gaming.as_bytes(), &format!("{ETC}/vms/gaming.yaml"), 0o644)?;
    lab.run_ok("kill $(cat /tmp/hostd.pid); while kill -0 $(cat /tmp/hostd.pid) 2>/dev/null; do sleep 0.1; done")?;
    launch(lab)
}

/// A mixed set, off and running; back, over newer ones, and never over others'.
pub fn on_a_pool(lab: &Lab) -> Result<()> {
    lab.run_ok(&format!(
        "zfs create -V 8M tank/snap && udevadm settle && [ -b {ZVOL} ] && mkdir -p /srv && \
         qemu-img create -q -f qcow2 {IMAGE} 1M"
    ))?;
    let disks = format!(
        "{GAMING}\ndisks:\n  - {{path: {ZVOL}, format: raw}}\n  - {{path: {IMAGE}, format: qcow2}}\n"
    );
    restart(lab, &disks)?;
    write(lab, 1)?;
    ensure!(json(lab, "vm snapshot create gaming one")?["changed"] == true);
    write(lab, 2)?;
    // While it runs: QEMU makes the image's, ZFS the zvol's.
    json(lab, "vm start gaming")?;
    let made = json(lab, "vm snapshot create gaming two")?;
    ensure!(made["message"].as_str().is_some_and(|text| text.contains("stood still")), "{made}");
    ensure!(vm(lab, "gaming")?["state"] == "running");
    let running = hostctl(lab, "vm snapshot revert gaming one --yes")?;
    ensure!(running.status == 5 && running.stderr.contains("needs it off"), "{running:?}");
    json(lab, "vm stop gaming")?;
    let view = json(lab, "vm snapshot list gaming")?;
    let states: Vec<_> = (0..2).map(|at| view["snapshots"][at]["state"].clone()).collect();
    ensure!(states == ["whole", "whole"], "{view}");
    write(lab, 3)?;
    json(lab, "vm snapshot revert gaming two")?;
    ensure!(holds(lab, 2)?, "the contents of then");
    // Somebody else's is newer: nothing is destroyed.
    lab.run_ok("zfs snapshot tank/snap@theirs")?;
    let theirs = hostctl(lab, "vm snapshot revert gaming one --yes")?;
    ensure!(theirs.status == 5 && theirs.stderr.contains("tank/snap@theirs"), "{theirs:?}");
    lab.run_ok("zfs destroy tank/snap@theirs")?;
    let ours = hostctl(lab, "vm snapshot revert gaming one")?;
    ensure!(ours.status == 5 && ours.stderr.contains("--yes"), "{ours:?}");
    ensure!(holds(lab, 2)?, "nothing was touched");
    json(lab, "vm snapshot revert gaming one --yes")?;
    ensure!(holds(lab, 1)?, "the contents of then");
    let left = lab.run_ok("zfs list -H -t snapshot -o name -d 1 tank/snap")?;
    ensure!(left.trim() == "tank/snap@hostd-one", "{left}");
    // One that ZFS holds is not removed, and said; then it is.
    lab.run_ok("zfs hold keep tank/snap@hostd-one")?;
    let held = hostctl(lab, "vm snapshot delete gaming one")?;
    ensure!(held.status == 5 && held.stderr.contains("not wholly removed"), "{held:?}");
    ensure!(json(lab, "vm snapshot list gaming")?["snapshots"][0]["state"] == "incomplete");
    lab.run_ok("zfs release keep tank/snap@hostd-one")?;
    json(lab, "vm snapshot delete gaming one")?;
    let left = lab.run_ok(
        "zfs list -H -t snapshot -o name -d 1 tank/snap; qemu-img snapshot -l /srv/snap.qcow2",
    )?;
    ensure!(!left.contains("hostd-"), "{left}");
    restart(lab, GAMING)?;
    lab.run_ok(&format!("zfs destroy tank/snap && rm {IMAGE}"))?;
    Ok(())
}

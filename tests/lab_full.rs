//! The package on a full Debian: systemd, the system bus with polkit, real
//! samba and netatalk.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec, Output};
use lab_common::*;

#[test]
fn the_package_on_a_full_host() {
    let deb = std::env::var_os("HOSTD_DEB").map(PathBuf::from);
    let deb = deb.expect("HOSTD_DEB names the package: ./test lab builds it and sets this");
    let spec = LabSpec::full().iommu(Iommu::Intel).card(CardKind::Ati0300).disks(6);
    let lab = Lab::boot(spec.payload(deb, "hostd.deb")).expect("the lab boots");
    run(
        &lab,
        &[
            ("the package installs and the unit is active", install),
            ("status over the system bus", over_the_bus),
            ("polkit: group hostd acts, others only look", polkit_decides),
            ("the private socket has its own rule", private_socket),
            ("samba and netatalk are told apart, layer by layer", services),
            ("samba and netatalk killed and stopped", killed_and_stopped),
            ("the share's dataset is unmounted", unmounted),
            ("a restart of the unit keeps the VM", restart_keeps_the_vm),
        ],
    );
}

fn install(lab: &Lab) -> Result<()> {
    lab.run_ok("/lab/make-pool 6 || { sleep 5; zpool list tank || /lab/make-pool 6; }")?;
    configure(lab, DEMO, GAMING)?;
    let install = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /payload/hostd.deb";
    lab.run_ok_for(install, Duration::from_secs(240))?;
    lab.wait_for("systemctl is-active hostd.service", Duration::from_secs(30))?;
    Ok(())
}

fn over_the_bus(lab: &Lab) -> Result<()> {
    lab.wait_for("busctl --system status org.hostd.Host1", Duration::from_secs(20))?;
    // Without the private socket, only the bus can have answered.
    let hidden = "mv /run/hostd/control.sock /run/hostd/away; hostctl status --json; c=$?; \
                  mv /run/hostd/away /run/hostd/control.sock; exit $c";
    let out = lab.run(hidden)?;
    ensure!(out.status <= 1 && out.stdout.contains("\"host\": \"lab\""), "{out:?}");
    let seen = lab.run_ok("busctl --system introspect org.hostd.Host1 /org/hostd/Host1")?;
    ensure!(seen.contains("org.hostd.Host1.Vm"), "{seen}");
    Ok(())
}

/// A command as somebody who may not read root's files.
fn as_user(lab: &Lab, user: &str, command: &str) -> Result<Output> {
    lab.run_for(&format!("runuser -u {user} -- {command}"), Duration::from_secs(60))
}

fn polkit_decides(lab: &Lab) -> Result<()> {
    lab.run_ok("useradd -m owner && usermod -aG hostd owner && useradd -m guest")?;
    let out = as_user(lab, "guest", "hostctl status")?;
    ensure!(out.status <= 1, "everybody may look: {out:?}");
    let out = as_user(lab, "guest", "hostctl vm start gaming")?;
    ensure!(out.status == 3, "{out:?}");
    ensure!(vm(lab, "gaming")?["state"] == "off");
    let out = as_user(lab, "owner", "hostctl vm start gaming")?;
    ensure!(out.status == 0, "{out:?}");
    ensure!(vm(lab, "gaming")?["state"] == "running");
    ensure!(driver(lab, "0000:01:00.0")? == "vfio-pci");
    let out = as_user(lab, "owner", "hostctl vm stop gaming")?;
    ensure!(out.status == 0, "{out:?}");
    Ok(())
}

fn private_socket(lab: &Lab) -> Result<()> {
    let socket = "hostctl --socket /run/hostd/control.sock";
    let out = as_user(lab, "guest", &format!("{socket} vm list --json"))?;
    ensure!(out.status == 0 && out.stdout.contains("gaming"), "{out:?}");
    let out = as_user(lab, "guest", &format!("{socket} vm start gaming --json"))?;
    ensure!(out.status == 3 && out.stdout.contains("\"denied\""), "{out:?}");
    let out = as_user(lab, "owner", &format!("{socket} vm stop gaming --json"))?;
    ensure!(out.status == 0 && out.stdout.contains("\"changed\": false"), "{out:?}");
    Ok(())
}

/// Waits until a service is judged like this, and returns what is said of it.
fn judged(lab: &Lab, name: &str, health: &str) -> Result<serde_json::Value> {
    let query = format!("service = \"service {name}\" and state = \"{health}\"");
    let limit = Duration::from_secs(45);
    lab.wait_for(&format!("hostctl event query '{query}' --json | grep -q description"), limit)
        .with_context(|| {
            format!("{name} should be {health}: {:?}", hostctl(lab, "service list"))
        })?;
    let list = json(lab, "service list")?;
    let all = list["services"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|s| s["name"] == name).context("the service is not listed")
}

fn services(lab: &Lab) -> Result<()> {
    judged(lab, "smb", "ok")?;
    judged(lab, "afp", "ok")?;
    let answer = riemann_query(lab, "service =~ \"service %\"")?;
    ensure!(answer.contains("service smb") && answer.contains("service afp"), "{answer}");

    lab.run_ok("systemctl stop smbd")?;
    let smb = judged(lab, "smb", "critical")?;
    ensure!(smb["layer"] == "unit", "{smb}");
    lab.run_ok("systemctl start smbd")?;
    judged(lab, "smb", "ok")?;

    // Stopped, not ended: the port still connects, the protocol is silent.
    lab.run_ok("kill -STOP $(pidof netatalk afpd)")?;
    let afp = judged(lab, "afp", "critical")?;
    ensure!(afp["layer"] == "protocol", "{afp}");
    lab.run_ok("kill -CONT $(pidof netatalk afpd)")?;
    judged(lab, "afp", "ok")?;

    // The share's folder is gone: the protocol alone would not see it.
    lab.run_ok("mv /srv/media /srv/away")?;
    let smb = judged(lab, "smb", "critical")?;
    ensure!(smb["layer"] == "path", "{smb}");
    lab.run_ok("mv /srv/away /srv/media")?;
    judged(lab, "smb", "ok")?;
    Ok(())
}

fn killed_and_stopped(lab: &Lab) -> Result<()> {
    // Whatever the units say about restarts: what is down stays down here.
    lab.run_ok(
        "for unit in smbd netatalk; do mkdir -p /run/systemd/system/$unit.service.d; \
         printf '[Service]\\nRestart=no\\n' >/run/systemd/system/$unit.service.d/90-lab.conf; done; \
         systemctl daemon-reload",
    )?;
    for (unit, name, processes) in [("smbd", "smb", "smbd"), ("netatalk", "afp", "netatalk afpd")] {
        lab.run_ok(&format!("systemctl kill --signal=KILL {unit}"))?;
        let service = judged(lab, name, "critical")?;
        ensure!(service["layer"] == "unit", "{unit} killed: {service}");
        lab.run_ok(&format!("systemctl reset-failed {unit}; systemctl start {unit}"))?;
        judged(lab, name, "ok")?;

        lab.run_ok(&format!("kill -STOP $(pidof {processes})"))?;
        let service = judged(lab, name, "critical")?;
        ensure!(service["layer"] == "protocol", "{unit} stopped: {service}");
        lab.run_ok(&format!("kill -CONT $(pidof {processes})"))?;
        judged(lab, name, "ok")?;
    }
    lab.run_ok("rm /run/systemd/system/smbd.service.d/90-lab.conf /run/systemd/system/netatalk.service.d/90-lab.conf; systemctl daemon-reload")
        .map(drop)
}

fn unmounted(lab: &Lab) -> Result<()> {
    // The empty folder below is still there, and samba serves it.
    lab.run_ok("zfs create -o mountpoint=/srv/media tank/media && mountpoint /srv/media")?;
    lab.run_ok("sleep 12")?;
    judged(lab, "smb", "ok")?;
    lab.run_ok("zfs unmount -f tank/media && [ -d /srv/media ]")?;
    let smb = judged(lab, "smb", "critical")?;
    ensure!(smb["layer"] == "path", "{smb}");
    lab.run_ok("zfs mount tank/media")?;
    judged(lab, "smb", "ok")?;
    lab.run_ok("zfs destroy -f tank/media").map(drop)
}

fn restart_keeps_the_vm(lab: &Lab) -> Result<()> {
    ensure!(hostctl(lab, "vm start gaming")?.ok());
    let before = vm(lab, "gaming")?["pid"].clone();
    lab.run_ok("systemctl restart hostd")?;
    let after = vm(lab, "gaming")?;
    ensure!(after["state"] == "running" && after["pid"] == before, "{after}");
    lab.run_ok("systemctl stop hostd")?;
    ensure!(lab.run(&format!("kill -0 {before}"))?.ok(), "the VM ended with the unit");
    lab.run_ok("systemctl start hostd")?;
    ensure!(hostctl(lab, "vm stop gaming")?.ok());
    ensure!(driver(lab, "0000:01:00.0")? == "none");
    Ok(())
}

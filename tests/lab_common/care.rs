//! Scrubs and snapshots on real ZFS: a case for a lab that has a pool `tank`
//! and hostd in it. It leaves both as they were.

use std::time::Duration;

use anyhow::{Result, ensure};
use hostd_lab::Lab;

use super::{ETC, HOST, hostctl, json, launch};

const CARE: &str =
    "care: {snapshots: [{dataset: tank/care, recursive: true, keep: {hourly: 1}}]}\n";
/// As hostd would call one, with its mark, and not made by it.
const FOREIGN: &str = "tank/care@hostd-auto-hourly-2020-01-01T0000Z";
const FREEZE: &str = "/sys/module/zfs/parameters/zfs_scan_suspend_progress";

fn restart(lab: &Lab, host: &str) -> Result<()> {
    lab.push_bytes(host.as_bytes(), &format!("{ETC}/host.yaml"), 0o644)?;
    lab.run_ok("kill $(cat /tmp/hostd.pid); while kill -0 $(cat /tmp/hostd.pid) 2>/dev/null; do sleep 0.1; done")?;
    launch(lab)
}

/// The names of all snapshots below `tank/care`.
fn snapshots(lab: &Lab) -> Result<Vec<String>> {
    let text = lab.run_ok("zfs list -H -t snapshot -o name -r tank/care")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn made(lab: &Lab, dataset: &str) -> Result<Vec<String>> {
    let begins = format!("{dataset}@hostd-auto-hourly-");
    let all = snapshots(lab)?.into_iter();
    Ok(all.filter(|name| name.starts_with(&begins) && name != FOREIGN).collect())
}

/// Scrubs by hand, then snapshots that are made and pruned.
pub fn on_a_pool(lab: &Lab) -> Result<()> {
    scrubs(lab)?;
    lab.run_ok(&format!(
        "zfs create tank/care && zfs create tank/care/below && zfs snapshot -r tank/care@mine && \
         zfs snapshot -o org.hostd:care=hourly {FOREIGN}"
    ))?;
    restart(lab, &format!("{HOST}{CARE}"))?;
    let list = "zfs list -H -t snapshot -o name -r tank/care | grep -c 'below@hostd-auto-hourly'";
    lab.wait_for(&format!("[ \"$({list})\" = 1 ]"), Duration::from_secs(60))?;
    let first = made(lab, "tank/care/below")?;
    let source = format!("zfs get -H -o value,source org.hostd:care {}", first[0]);
    ensure!(lab.run_ok(&source)?.trim() == "hourly\tlocal");
    // An hour later there is another, and the first is destroyed, unless it is held.
    lab.run_ok(&format!("zfs hold keep {} && date -s '+1 hour'", first[0]))?;
    lab.wait_for(
        &format!("[ \"$({list})\" = 2 ] && hostctl care list | grep -q 'is held'"),
        Duration::from_secs(90),
    )?;
    let above = made(lab, "tank/care")?;
    ensure!(above.len() == 1, "the first one above is not held: {above:?}");
    lab.run_ok(&format!("zfs release keep {} && date -s '+1 hour'", first[0]))?;
    lab.wait_for(&format!("[ \"$({list})\" = 1 ]"), Duration::from_secs(90))?;
    let left = snapshots(lab)?;
    for foreign in ["tank/care@mine", "tank/care/below@mine", FOREIGN] {
        ensure!(left.iter().any(|name| name == foreign), "{foreign} is gone: {left:?}");
    }
    // A clock that goes back destroys nothing and makes nothing.
    lab.run_ok("date -s '-2 hours'")?;
    lab.wait_for("hostctl care list | grep -q 'clock stands before'", Duration::from_secs(60))?;
    ensure!(snapshots(lab)? == left);
    restart(lab, HOST)?;
    lab.run_ok("zfs destroy -r tank/care && rm -f /var/lib/hostd/care.json")?;
    Ok(())
}

fn scrubs(lab: &Lab) -> Result<()> {
    lab.run_ok(&format!("echo 1 > {FREEZE}"))?;
    let says = |what: &str| {
        lab.wait_for(&format!("zpool status tank | grep -q '{what}'"), Duration::from_secs(30))
    };
    ensure!(json(lab, "pool scrub start tank")?["changed"] == true);
    says("scrub in progress")?;
    ensure!(json(lab, "pool scrub start tank")?["changed"] == false);
    ensure!(json(lab, "pool scrub pause tank")?["changed"] == true);
    says("scrub paused")?;
    let status = "hostctl pool scrub status | grep -q 'scrub tank'";
    lab.wait_for(status, Duration::from_secs(30))?;
    ensure!(json(lab, "pool scrub start tank")?["changed"] == true);
    says("scrub in progress")?;
    ensure!(json(lab, "pool scrub stop tank")?["changed"] == true);
    says("scrub canceled")?;
    ensure!(json(lab, "pool scrub stop tank")?["changed"] == false);
    let none = hostctl(lab, "pool scrub start nosuch")?;
    ensure!(none.status == 5 && none.stderr.contains("no pool nosuch"), "{none:?}");
    lab.run_ok(&format!("echo 0 > {FREEZE}"))?;
    Ok(())
}

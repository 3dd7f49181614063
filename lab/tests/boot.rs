//! Labs that really boot. Minutes under TCG: `cargo test -p hostd-lab
//! --features boot-tests`. At most two at once, whatever the test runner does.
#![cfg(feature = "boot-tests")]

use anyhow::{Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec};
use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

/// Places for labs; the machine has few cores.
struct Places(usize);
static FREE: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

fn places(wanted: usize) -> Places {
    let mut free = FREE.0.lock().unwrap();
    while *free < wanted {
        free = FREE.1.wait(free).unwrap();
    }
    *free -= wanted;
    Places(wanted)
}

impl Drop for Places {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap() += self.0;
        FREE.1.notify_all();
    }
}

/// `group address` lines, as the kernel has them.
fn groups(lab: &Lab) -> Result<Vec<(String, String)>> {
    let text = lab.run_ok(
        "cd /sys/kernel/iommu_groups 2>/dev/null || exit 0; for d in */devices/*; do [ -e $d ] && echo ${d%%/*} ${d##*/}; done; true",
    )?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(group, address)| (group.to_owned(), address.to_owned())).collect())
}

fn companions(groups: &[(String, String)], address: &str) -> Vec<String> {
    let of = groups.iter().find(|(_, other)| other == address).map(|(group, _)| group.clone());
    let mut all: Vec<_> = groups
        .iter()
        .filter(|(group, _)| Some(group) == of.as_ref())
        .map(|(_, address)| address.clone())
        .collect();
    all.sort();
    all
}

fn check_groups(iommu: Iommu) -> Result<()> {
    let _places = places(1);
    let lab = Lab::boot(
        LabSpec::fast()
            .iommu(iommu)
            .card(CardKind::Ati0300)
            .card(CardKind::Secondary0380)
            .shared_group(),
    )?;
    let groups = groups(&lab)?;
    assert_eq!(companions(&groups, "0000:01:00.0"), ["0000:01:00.0", "0000:01:00.1"]);
    assert_eq!(companions(&groups, "0000:02:00.0"), ["0000:02:00.0", "0000:02:00.1"]);
    // The bridge and what is behind it.
    assert_eq!(
        companions(&groups, "0000:06:01.0"),
        ["0000:05:00.0", "0000:06:01.0", "0000:06:02.0", "0000:06:03.0"]
    );
    lab.run_ok("test -d /sys/bus/pci/drivers/vfio-pci && test -c /dev/vfio/vfio")?;
    assert_eq!(lab.run_ok("cat /sys/bus/pci/devices/0000:01:00.0/vendor")?.trim(), "0x1002");

    lab.unplug_card(1)?;
    lab.wait_for("! test -e /sys/bus/pci/devices/0000:02:00.1", Duration::from_secs(20))?;
    lab.plug_card(1)?;
    lab.wait_for("test -e /sys/bus/pci/devices/0000:02:00.1", Duration::from_secs(20))?;
    lab.unplug_card(0)?;
    lab.wait_for("! test -e /sys/bus/pci/devices/0000:01:00.0", Duration::from_secs(20))?;
    lab.plug_card(0)?;
    lab.wait_for("test -e /sys/bus/pci/devices/0000:01:00.0", Duration::from_secs(20))?;
    Ok(())
}

#[test]
fn groups_with_an_intel_iommu() -> Result<()> {
    check_groups(Iommu::Intel)
}

#[test]
fn groups_with_an_amd_iommu() -> Result<()> {
    check_groups(Iommu::Amd)
}

#[test]
fn without_an_iommu_there_are_no_groups_and_two_labs_do_not_meet() -> Result<()> {
    let _places = places(2);
    let boot =
        || Lab::boot(LabSpec::fast().iommu(Iommu::None).card(CardKind::Ati0300).forward(5555));
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(boot);
        let two = boot();
        (one.join().expect("the first lab's thread"), two)
    });
    let (one, two) = (one?, two?);
    assert!(groups(&one)?.is_empty());
    one.run_ok("echo one > /tmp/who")?;
    two.run_ok("echo two > /tmp/who")?;
    assert_eq!(one.run_ok("cat /tmp/who")?, "one\n");
    assert_eq!(two.run_ok("cat /tmp/who")?, "two\n");
    assert_ne!(one.port(5555)?, two.port(5555)?);
    one.run_ok("busybox nc -l -p 5555 -e echo hello > /dev/null 2>&1 &")?;
    one.wait_for("busybox netstat -ltn | grep -q :5555", Duration::from_secs(10))?;
    let mut said = String::new();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", one.port(5555)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    std::io::Read::read_to_string(&mut stream, &mut said)?;
    assert_eq!(said, "hello\n");
    Ok(())
}

#[test]
fn commands_files_disks_and_power() -> Result<()> {
    let _places = places(1);
    let mut lab = Lab::boot(LabSpec::fast().disks(3).payload("/bin/true", "a-file").network())?;

    let output = lab.run("echo out; echo err >&2; exit 3")?;
    assert_eq!((output.status, &*output.stdout, &*output.stderr), (3, "out\n", "err\n"));
    let error = lab.run_ok("echo why >&2; false").unwrap_err().to_string();
    assert!(error.contains("status 1") && error.contains("why"), "{error}");
    lab.run_ok("test -r /payload/a-file")?;

    // A deadline ends the command and all its children.
    let start = Instant::now();
    let output = lab.run_for("sleep 1000 & sleep 1000; echo never", Duration::from_secs(2))?;
    assert!(output.expired && start.elapsed() < Duration::from_secs(15), "{output:?}");
    let left = lab.run("busybox pgrep -f 'sleep 1000' | grep -v $$")?.stdout;
    assert_eq!(left, "");

    // What goes on in the background does not hold the command up.
    let start = Instant::now();
    lab.run_ok("sleep 300 &")?;
    assert!(start.elapsed() < Duration::from_secs(10));

    // Several at once.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                (
                    n,
                    scope.spawn({
                        let lab = &lab;
                        move || lab.run_ok(&format!("sleep 1; echo {n}"))
                    }),
                )
            })
            .collect();
        for (n, thread) in threads {
            assert_eq!(thread.join().expect("a thread").unwrap(), format!("{n}\n"));
        }
    });

    // Files, through every byte value, and input.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    lab.push_bytes(&bytes, "/tmp/new/file", 0o750)?;
    assert_eq!(lab.run_ok("stat -c %a:%s /tmp/new/file")?, "750:3000000\n");
    ensure!(lab.pull_bytes("/tmp/new/file")? == bytes, "the file came back changed");
    assert!(lab.pull_bytes("/no/such").unwrap_err().to_string().contains("/no/such"));
    let output =
        lab.run_with("wc -c; echo $X", &[("X", "1")], &bytes[..100_000], Duration::from_secs(30))?;
    assert_eq!(output.stdout, "100000\n1\n");

    // A disk goes and comes back with its data.
    lab.run_ok("/lab/make-pool 3 raidz1")?;
    lab.unplug_disk(1)?;
    lab.run_ok("dd if=/dev/urandom of=/tank/x bs=1M count=1 2>/dev/null; zpool sync")?;
    lab.wait_for("zpool status tank | grep -q REMOVED", Duration::from_secs(30))?;
    lab.plug_disk(1)?;
    lab.wait_for("test -e /dev/disk/by-id/virtio-disk1-part1", Duration::from_secs(30))?;
    lab.run_ok("zpool online tank virtio-disk1")?;
    lab.wait_for("zpool status -x tank | grep -q healthy", Duration::from_secs(60))?;
    lab.run_ok("zpool export tank")?;

    // Pause, cable.
    lab.pause()?;
    assert_eq!(lab.qmp("query-status", serde_json::json!({}))?["status"], "paused");
    lab.resume()?;
    lab.network(false)?;
    lab.wait_for("grep -q 0 /sys/class/net/eth0/carrier", Duration::from_secs(20))?;
    lab.network(true)?;
    lab.wait_for("grep -q 1 /sys/class/net/eth0/carrier", Duration::from_secs(20))?;

    // The pool is on disks that survive both kinds of restart.
    lab.run_ok("touch /tmp/gone")?;
    lab.reboot()?;
    assert!(!lab.run("test -e /tmp/gone")?.ok());
    lab.power_loss();
    assert!(lab.run("true").unwrap_err().to_string().contains("not running"));
    lab.power_on()?;
    lab.run_ok("zpool import -d /dev/disk/by-id tank && test -s /tank/x")?;
    let (pid, dir) = (lab.pid().unwrap_or_default(), lab.dir().to_owned());
    drop(lab);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn the_full_tier_serves() -> Result<()> {
    let _places = places(2);
    let lab = Lab::boot(LabSpec::full().disks(1))?;
    lab.run_ok("systemctl is-active smbd netatalk zfs-zed dbus")?;
    lab.run_ok("busctl call org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority org.freedesktop.DBus.Peer Ping")?;
    lab.run_ok("smbclient -U media%media //localhost/media -c 'get film.txt /tmp/film' && grep -q film /tmp/film")?;
    assert_eq!(lab.run_ok("systemctl --failed --no-legend | wc -l")?, "0\n");
    Ok(())
}

#[test]
fn own_boot_survives_a_power_loss() -> Result<()> {
    let _places = places(2);
    let mut lab = Lab::boot(LabSpec::own_boot())?;
    assert!(lab.run_ok("cat /proc/cmdline")?.contains("BOOT_IMAGE="));
    lab.run_ok("sed -i 's/audit=0/audit=0 lab.mark=1/' /etc/default/grub && update-grub && sync && touch /unsynced")?;
    lab.power_loss();
    lab.power_on()?;
    assert!(lab.run_ok("cat /proc/cmdline")?.contains("lab.mark=1"));
    Ok(())
}

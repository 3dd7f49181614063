//! The gaming VM on a full host, from the package: UEFI, a TPM, both functions
//! of a card, USB, a bridge; as its own user, in its own scope. And the end of
//! the host, with a guest that hears no power button.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec};
use lab_common::*;
use serde_json::Value;

const CARD: &str = "0000:01:00.0";
const AUDIO: &str = "0000:01:00.1";
const SCOPE: &str = "hostd-vm-gaming.scope";
/// A way to QEMU beside hostd's own, which takes one at a time.
const ASIDE: &str = "/run/hostd/vms/gaming/q/aside.sock";

const HOST: &str = "\
host: {name: lab}
gpus:
  - {name: card, address: '0000:01:00.0', identity: '1002:5046'}
";

/// Firmware, and nothing that would boot: nobody hears the power button.
const UEFI: &str = "\
memory: 192M
cpus: 1
accel: tcg
machine: q35
firmware: ovmf
tpm: true
serial: true
display: off
gpu: card
disks: [/srv/win.img]
network: {bridge: br0}
usb: ['0627:0001']
stop: {deadline: 20s, then: ask}
resources: {cpu-weight: 200, memory-overhead: 768M}
qemu-args: [-qmp, 'unix:/run/hostd/vms/gaming/q/aside.sock,server=on,wait=off']
";

/// What the host keeps off for, and gives memory of ZFS's cache to: not all of
/// it fits, with what is kept for the host.
const QUIET: &str = "\
memory: 192M
cpus: 1
accel: tcg
machine: q35
network: none
pinning: auto
performance: {reserve: 512M}
stop: {deadline: 1s, then: quit}
";

fn boot() -> Lab {
    let deb = std::env::var_os("HOSTD_DEB").map(PathBuf::from);
    let deb = deb.expect("HOSTD_DEB names the package: ./test lab builds it and sets this");
    let spec = LabSpec::full().iommu(Iommu::Intel).card(CardKind::Ati0300).module("zfs");
    let spec = spec.cpus(2).usb().payload(deb, "hostd.deb");
    let lab = Lab::boot(spec).expect("the lab boots");
    println!("    booted in {:.1} s", lab.settled_after.as_secs_f64());
    lab
}

#[test]
fn the_gaming_vm() {
    let mut lab = boot();
    run(
        &lab,
        &[
            ("the package is installed", install),
            ("what runs, as whom and where", begin),
            ("UEFI gives both functions their addresses", firmware_sees_the_card),
            ("USB devices come and go", usb),
            ("stop gives everything back", given_back),
            ("what the host does while gaming, and undoes", while_gaming),
            ("once more, for the end of the host", start),
        ],
    );
    the_end(&mut lab, "the guest did not react to the power button within 20s");
}

#[test]
#[ignore = "another boot: three minutes and more"]
fn the_host_goes_down_without_hostd() {
    let mut lab = boot();
    run(
        &lab,
        &[
            ("the package is installed", install),
            ("start", start),
            ("a restart and an upgrade of hostd keep it", kept),
            ("hostd is killed, and stays dead", dead),
        ],
    );
    the_end(&mut lab, "it had 20 s");
}

fn install(lab: &Lab) -> Result<()> {
    lab.run_ok("ip link add br0 type bridge && ip link set br0 up; truncate -s 16M /srv/win.img")?;
    lab.run_ok("chmod 600 /srv/win.img; chmod 755 /srv")?;
    configure(lab, HOST, UEFI)?;
    lab.push_bytes(QUIET.as_bytes(), &format!("{ETC}/vms/quiet.yaml"), 0o644)?;
    package(lab)
}

fn package(lab: &Lab) -> Result<()> {
    let install = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /payload/hostd.deb";
    lab.run_ok_for(install, Duration::from_secs(180))?;
    lab.wait_for("systemctl is-active hostd.service", Duration::from_secs(30))?;
    Ok(())
}

fn start(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.ok(), "{out:?}\n{}", lab.run("hostctl vm log gaming")?.stdout);
    ensure!(vm(lab, "gaming")?["state"] == "running");
    Ok(())
}

fn pid(lab: &Lab) -> Result<u64> {
    vm(lab, "gaming")?["pid"].as_u64().context("no pid")
}

/// What a start touches, in words.
fn belongings(lab: &Lab) -> Result<String> {
    lab.run_ok(&format!(
        "stat -c '%n %U:%G %a' /srv/win.img /dev/vfio/vfio /dev/kvm /dev/bus/usb/*/* 2>/dev/null; \
         ls /dev/vfio; ip -br link | cut -d' ' -f1; ls -d /sys/fs/cgroup/hostd.slice/*/*.scope 2>/dev/null; \
         for f in {CARD} {AUDIO}; do echo $f; readlink /sys/bus/pci/devices/$f/driver; \
         cat /sys/bus/pci/devices/$f/driver_override; done"
    ))
}

fn begin(lab: &Lab) -> Result<()> {
    let before = belongings(lab)?;
    lab.push_bytes(before.as_bytes(), "/tmp/before", 0o644)?;
    start(lab)?;
    let pid = pid(lab)?;
    let cgroup = lab.run_ok(&format!("cat /proc/{pid}/cgroup"))?;
    let place = cgroup.trim().trim_start_matches("0::").to_owned();
    ensure!(place == format!("/hostd.slice/hostd-vms.slice/{SCOPE}"), "{cgroup}");
    let status = lab.run_ok(&format!("cat /proc/{pid}/status"))?;
    let has = |line: &str| {
        let mut words = status.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        words.any(|l| l == line)
    };
    let uid = lab.run_ok("id -u hostd-vm")?;
    let uid = uid.trim();
    ensure!(uid != "0" && has(&format!("Uid: {uid} {uid} {uid} {uid}")), "{status}");
    for line in ["NoNewPrivs: 1", "Seccomp: 2"] {
        ensure!(has(line), "{line}: {status}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        ensure!(has(&format!("{set}: 0000000000000000")), "{set}: {status}");
    }
    let shown = lab.run_ok(&format!(
        "systemctl show {SCOPE} -p Slice,DevicePolicy,DeviceAllow,MemoryMax,CPUWeight,Before"
    ))?;
    let most = (192 + 768) << 20;
    for line in ["DevicePolicy=closed", "Slice=hostd-vms.slice", "CPUWeight=200"] {
        ensure!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    ensure!(shown.contains(&format!("MemoryMax={most}")), "{shown}");
    ensure!(shown.contains("hostd-guests.service"), "{shown}");
    let group =
        lab.run_ok(&format!("basename $(readlink /sys/bus/pci/devices/{CARD}/iommu_group)"))?;
    let mut allowed: Vec<_> =
        shown.lines().filter_map(|line| line.strip_prefix("DeviceAllow=")).collect();
    allowed.sort_unstable();
    let own = format!("/dev/vfio/{} rw", group.trim());
    ensure!(allowed == ["/dev/net/tun rw", &own, "/dev/vfio/vfio rw"], "{shown}");
    let tpm =
        lab.run_ok(&format!("cat /sys/fs/cgroup{place}/cgroup.procs | xargs ps -o comm= -p"))?;
    ensure!(tpm.contains("swtpm") && tpm.contains("qemu"), "{tpm}");
    // Not even another VM of the same user could open them.
    let disk = lab.run_ok("stat -c %U /srv/win.img")?;
    ensure!(disk.trim() == "hostd-vm", "{disk}");
    ensure!(lab.run_ok("ls /sys/class/net/br0/brif")?.trim().starts_with("hd-"));
    Ok(())
}

fn kept(lab: &Lab) -> Result<()> {
    let before = pid(lab)?;
    lab.run_ok("systemctl restart hostd")?;
    ensure!(vm(lab, "gaming")?["state"] == "running" && pid(lab)? == before);
    // Halted, for its firmware takes half of this machine; and it stays so.
    ensure!(hostctl(lab, "vm pause gaming")?.ok());
    package(lab)?;
    lab.wait_for("hostctl vm list", Duration::from_secs(20))?;
    let after = vm(lab, "gaming")?;
    ensure!(after["state"] == "paused" && after["pid"] == before, "{after}");
    ensure!(hostctl(lab, "vm resume gaming")?.ok());
    Ok(())
}

/// A device of `usb list`, by a word of its name.
fn device(lab: &Lab, word: &str) -> Result<Option<Value>> {
    let view = json(lab, "usb list")?;
    let all = view["devices"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().find(|device| device["name"].as_str().is_some_and(|n| n.contains(word))))
}

/// Waits until the VM has it, or has it not.
fn used(lab: &Lab, word: &str, by: bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let device = device(lab, word)?.with_context(|| format!("no {word}"))?;
        if (device["used_by"] == "gaming") == by {
            return Ok(());
        }
        if Instant::now() > end {
            let said = lab.run("hostctl vm log gaming; ls -l /dev/bus/usb/*")?.stdout;
            anyhow::bail!("{device}\n{said}\n{}", log(lab));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn owner(lab: &Lab, word: &str) -> Result<String> {
    let port = device(lab, word)?.with_context(|| format!("no {word}"))?;
    let port = port["port"].as_str().context("a port")?.to_owned();
    let owner = lab.run_ok(&format!(
        "cd /sys/bus/usb/devices/{port}; \
         stat -c %U $(printf '/dev/bus/usb/%03d/%03d' $(cat busnum) $(cat devnum))"
    ))?;
    Ok(owner.trim().to_owned())
}

fn wait_for_device(lab: &Lab, word: &str) -> Result<()> {
    lab.wait_for(&format!("hostctl usb list | grep -q {word}"), Duration::from_secs(30)).map(drop)
}

fn usb(lab: &Lab) -> Result<()> {
    // Named in the VM's file, and plugged in while it runs.
    lab.plug_usb("usb-kbd", "keys", 1)?;
    wait_for_device(lab, "Keyboard")?;
    used(lab, "Keyboard", true)?;
    ensure!(owner(lab, "Keyboard")? == "hostd-vm");
    // Given by hand, taken back, given again.
    lab.plug_usb("usb-wacom-tablet", "pen", 2)?;
    wait_for_device(lab, "Wacom")?;
    used(lab, "Wacom", false)?;
    for again in [false, true] {
        let out = hostctl(lab, "vm attach gaming usb wacom")?;
        ensure!(out.ok(), "{out:?}\n{}", lab.run("hostctl vm log gaming")?.stdout);
        used(lab, "Wacom", true)?;
        ensure!(owner(lab, "Wacom")? == "hostd-vm");
        if !again {
            let out = hostctl(lab, "vm detach gaming usb wacom")?;
            ensure!(out.ok() && out.stderr.is_empty(), "{out:?}");
            used(lab, "Wacom", false)?;
            ensure!(owner(lab, "Wacom")? == "root");
        }
    }
    let seen = aside(lab, "x-query-usb")?;
    ensure!(seen["human-readable-text"].as_str().is_some_and(|t| t.contains("Device")), "{seen}");
    // Pulled out while the guest has it, and back.
    lab.unplug_usb("pen")?;
    lab.wait_for("! hostctl usb list | grep -q Wacom", Duration::from_secs(20))?;
    ensure!(vm(lab, "gaming")?["state"] == "running");
    lab.plug_usb("usb-wacom-tablet", "pen", 2)?;
    wait_for_device(lab, "Wacom")?;
    used(lab, "Wacom", true)?;
    lab.unplug_usb("pen")?;
    lab.wait_for("! hostctl usb list | grep -q Wacom", Duration::from_secs(20))?;
    let gone = hostctl(lab, "vm detach gaming usb 1-2")?;
    ensure!(gone.ok(), "{gone:?}");
    ensure!(vm(lab, "gaming")?["state"] == "running");
    Ok(())
}

/// A command for QEMU, past hostd.
fn aside(lab: &Lab, command: &str) -> Result<Value> {
    let said = lab.run_ok(&format!(
        "printf '%s\\n' '{{\"execute\":\"qmp_capabilities\"}}' '{{\"execute\":\"{command}\",\"id\":7}}' | \
         socat -t 20 - UNIX-CONNECT:{ASIDE},shut-none | sed '/\"id\": *7/q'"
    ))?;
    let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = lines.find(|line| line["id"] == 7).with_context(|| format!("QEMU says {said}"))?;
    Ok(answer["return"].clone())
}

/// All devices of the guest, those behind bridges too.
fn devices(buses: &Value, found: &mut Vec<Value>) {
    for device in buses.as_array().into_iter().flatten().filter_map(|bus| bus["devices"].as_array())
    {
        for device in device {
            devices(&serde_json::json!([device["pci_bridge"]]), found);
            found.push(device.clone());
        }
    }
}

/// QEMU says -1 or 0 for what the firmware has not placed.
fn placed(found: &[Value], vendor: u64, product: u64) -> bool {
    let is_it = |d: &&Value| d["id"]["vendor"] == vendor && d["id"]["device"] == product;
    found.iter().find(is_it).is_some_and(|device| {
        let regions = device["regions"].as_array().cloned().unwrap_or_default();
        let memory: Vec<_> = regions.iter().filter(|r| r["type"] == "memory").collect();
        !memory.is_empty()
            && memory
                .iter()
                .filter(|r| r["bar"] != 6)
                .all(|region| region["address"].as_i64().is_some_and(|address| address > 0))
    })
}

fn firmware_sees_the_card(lab: &Lab) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        let answer = aside(lab, "query-pci")?;
        let mut found = Vec::new();
        devices(&answer, &mut found);
        if placed(&found, 0x1002, 0x5046) && placed(&found, 0x8086, 0x2668) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "not yet: {answer:#}");
        std::thread::sleep(Duration::from_secs(3));
    }
}

fn dead(lab: &Lab) -> Result<()> {
    lab.run_ok("systemctl mask --runtime hostd; systemctl kill -s KILL hostd")?;
    lab.wait_for("! pidof hostd", Duration::from_secs(10))?;
    Ok(())
}

fn given_back(lab: &Lab) -> Result<()> {
    lab.unplug_usb("keys")?;
    let began = Instant::now();
    let out = hostctl(lab, "vm stop gaming --force")?;
    ensure!(out.ok() && out.stdout.contains("within 20s"), "{out:?}");
    ensure!(began.elapsed() >= Duration::from_secs(20), "it had only {:?}", began.elapsed());
    ensure!(vm(lab, "gaming")?["state"] == "off");
    let before = String::from_utf8(lab.pull_bytes("/tmp/before")?)?;
    let after = belongings(lab)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    ensure!(lab.run("pidof swtpm qemu-system-x86_64")?.status != 0, "a process stays");
    let scope = lab.run_ok(&format!("systemctl show -p LoadState,ActiveState {SCOPE}"))?;
    ensure!(scope.contains("not-found"), "{scope}");
    let left = lab.run_ok("ls /run/hostd/vms/gaming")?;
    ensure!(left.lines().all(|name| name.contains(".log")), "{left}");
    Ok(())
}

/// All that is set for a VM, of threads only those that stay.
fn knobs(lab: &Lab) -> Result<Vec<String>> {
    let said = lab.run_ok(
        "grep -H . /proc/irq/*/smp_affinity_list /proc/irq/default_smp_affinity \
         /sys/devices/virtual/workqueue/cpumask /sys/devices/virtual/workqueue/*/cpumask \
         /sys/module/zfs/parameters/zfs_arc_max /proc/sys/vm/nr_hugepages 2>/dev/null; \
         awk '$1 == \"c_max\" {print \"arc\", $3}' /proc/spl/kstat/zfs/arcstats; \
         for s in system user init hostd; do for u in slice scope; do \
         echo $s.$u $(systemctl show -p AllowedCPUs --value $s.$u); done; done; \
         cat /proc/[0-9]*/status 2>/dev/null | awk '/^Name:/ {n=$2} /^Pid:/ {p=$2} \
         /^Kthread:/ {k=$2} /^Cpus_allowed_list:/ && k {print \"thread\", p, n, $2}'",
    )?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn while_gaming(lab: &Lab) -> Result<()> {
    let before = knobs(lab)?;
    let out = hostctl(lab, "vm start quiet")?;
    ensure!(out.ok(), "{out:?}");
    let during = knobs(lab)?;
    let changed: Vec<_> = before.iter().filter(|line| !during.contains(line)).collect();
    println!("    {} things were changed", changed.len());
    for what in ["system.slice", "user.slice"] {
        ensure!(during.contains(&format!("{what} 0")), "{what}: {during:#?}");
    }
    for what in ["/sys/module/zfs/parameters/zfs_arc_max:", "arc "] {
        ensure!(changed.iter().any(|l| l.starts_with(what)), "{what} is as it was: {during:#?}");
    }
    let moved = changed.iter().filter(|line| line.starts_with("thread ")).count();
    ensure!(moved > 0, "no thread of the kernel was moved: {changed:#?}");
    let view = vm(lab, "quiet")?;
    ensure!(!view["performance"].is_null(), "{view}");
    let vcpu = lab.run_ok(&format!(
        "for t in /proc/{}/task/*; do echo $(cat $t/comm) $(grep Cpus_allowed_list $t/status); done",
        view["pid"]
    ))?;
    ensure!(vcpu.lines().any(|l| l.starts_with("CPU 0/TCG") && l.ends_with(" 1")), "{vcpu}");
    // A daemon that was killed meanwhile still knows what to undo.
    lab.run_ok("systemctl kill -s KILL hostd; sleep 1")?;
    lab.wait_for("hostctl vm list", Duration::from_secs(30))?;
    ensure!(hostctl(lab, "vm stop quiet")?.ok());
    let after = knobs(lab)?;
    // Threads that came or went meanwhile are nobody's doing.
    let same = |line: &&String| {
        let who: Vec<_> = line.split_whitespace().take(3).collect();
        line.starts_with("thread ")
            && !after.iter().any(|l| l.split_whitespace().take(3).collect::<Vec<_>>() == who)
    };
    let left: Vec<_> =
        before.iter().filter(|line| !after.contains(line)).filter(|line| !same(line)).collect();
    ensure!(left.is_empty(), "not as it was: {left:#?}\nnow: {after:#?}");
    Ok(())
}

/// The host is switched off, and what it says on the way is on its console.
fn the_end(lab: &mut Lab, said: &str) {
    lab.run_ok(
        "echo 'ForwardToConsole=yes\nTTYPath=/dev/ttyS0\nMaxLevelConsole=info' \
                >>/etc/systemd/journald.conf.d/lab.conf; systemctl restart systemd-journald",
    )
    .expect("a console");
    let began = Instant::now();
    lab.run_ok("systemctl --no-block poweroff").expect("it is told");
    let off = lab.off_within(Duration::from_secs(150));
    let took = began.elapsed();
    let console = lab.console_tail(200);
    assert!(off, "the host does not go down:\n{console}");
    println!("    the host was off after {:.1} s", took.as_secs_f64());
    assert!(took >= Duration::from_secs(20), "its guest had only {took:?}");
    assert!(console.contains("still there") && console.contains(said), "{console}");
}

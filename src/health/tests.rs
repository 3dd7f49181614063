//! Machines that people have, from their files to their readings.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Observer;
use crate::ask::view::{MachineView, ReadingView};
use crate::base::Severity;
use crate::config::Health;
use crate::host::Host;
use crate::host::fake::FakeHost;
use crate::host::space::Space;
use crate::host::sys::{SysRoot, WriteHook};

/// What the fake kernel refuses, and how full its file systems are.
#[derive(Default)]
struct Kernel(Mutex<BTreeSet<String>>);

impl Kernel {
    fn refuses(&self, path: &str) {
        self.0.lock().unwrap().insert(path.to_owned());
    }
}

impl WriteHook for Kernel {
    fn write(&self, _: &SysRoot, path: &Path, _: &[u8]) -> io::Result<()> {
        panic!("{} is written to", path.display());
    }

    fn may_read(&self, path: &Path) -> io::Result<()> {
        let refused = self.0.lock().unwrap().contains(path.to_str().unwrap());
        if refused { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn space(&self, path: &Path) -> Option<io::Result<Space>> {
        self.may_read(path).err().map(Err).or_else(|| {
            let free = if path == Path::new("/") { 4 } else { 50 };
            Some(Ok(Space { total: 100, free, available: free, files: 100, files_free: 60 }))
        })
    }
}

struct Machine {
    dir: tempfile::TempDir,
    fake: FakeHost,
    kernel: Arc<Kernel>,
    observer: Observer,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let kernel = Arc::new(Kernel::default());
        for (path, text) in files {
            fake.file(path, text).unwrap();
        }
        let mut host: Host = fake.host();
        host.sys = host.sys.with_hook(Arc::clone(&kernel) as Arc<dyn WriteHook>);
        let observer = Observer::new(host, Health::default());
        Self { dir, fake, kernel, observer }
    }

    fn set(&self, path: &str, text: &str) {
        self.fake.file(path, text).unwrap();
    }

    /// A round five seconds later.
    fn round(&mut self) -> MachineView {
        self.fake.clock.advance(Duration::from_secs(5));
        self.observer.round(None)
    }

    /// One at which it is looked anew at what there is.
    fn anew(&mut self) -> MachineView {
        self.fake.clock.advance(Duration::from_secs(60));
        self.observer.round(None)
    }
}

fn find<'a>(view: &'a MachineView, service: &str) -> &'a ReadingView {
    let found = view.readings.iter().find(|reading| reading.service == service);
    found.unwrap_or_else(|| panic!("no {service} in {:?}", services(view)))
}

fn services(view: &MachineView) -> Vec<&str> {
    view.readings.iter().map(|reading| reading.service.as_str()).collect()
}

fn told(view: &MachineView, service: &str) -> (Severity, Option<f64>) {
    let reading = find(view, service);
    (reading.health, reading.value)
}

/// What every Linux has in `/proc`.
const PROC: &[(&str, &str)] = &[
    ("/proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5\n"),
    ("/proc/loadavg", "2.00 1.00 0.50 1/400 11206\n"),
    ("/proc/sys/kernel/threads-max", "190000\n"),
    ("/proc/sys/kernel/pid_max", "4194304\n"),
    ("/proc/sys/kernel/osrelease", "6.1.0-31-amd64\n"),
    ("/proc/sys/fs/file-nr", "9344\t0\t9223372036854775807\n"),
    (
        "/proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 400 kB\nSwapTotal: 100 kB\nSwapFree: 100 kB\n",
    ),
    ("/proc/uptime", "41523.50 18566.55\n"),
    ("/proc/vmstat", "nr_free_pages 5\noom_kill 2\n"),
    ("/proc/net/dev", NET),
    ("/proc/diskstats", " 8 0 sda 1 0 8 1 1 0 8 1 0 10 2\n 8 1 sda1 1 0 8 1 1 0 8 1 0 10 2\n"),
    ("/proc/self/mountinfo", "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n"),
];
const NET: &str = "Inter-| Receive\n face |bytes\n\
    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
    eth0: 1000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n\
    veth7: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";

/// A desktop with a Ryzen, a Radeon, an NVMe and a pool.
fn desktop() -> Machine {
    let mut fake = Machine::new(PROC);
    let files = [
        ("/proc/pressure/cpu", "some avg10=2.00 avg60=0 avg300=0 total=1\n"),
        ("/proc/pressure/memory", "some avg10=1.00 total=1\nfull avg10=50.00 total=1\n"),
        ("/proc/pressure/io", "some avg10=0.00 total=1\nfull avg10=0.00 total=1\n"),
        ("/proc/spl/kstat/zfs/arcstats", "c_min 4 102400\nsize 4 307200\n"),
        ("/sys/block/sda/device/model", "disk\n"),
        ("/sys/block/loop0/size", "0\n"),
        ("/sys/class/net/eth0/operstate", "up\n"),
        ("/sys/class/net/eth0/flags", "0x1003\n"),
        ("/sys/class/net/eth0/speed", "1000\n"),
        ("/sys/class/hwmon/hwmon0/name", "k10temp\n"),
        ("/sys/class/hwmon/hwmon0/temp1_input", "61250\n"),
        ("/sys/class/hwmon/hwmon0/temp1_label", "Tctl\n"),
        ("/sys/class/hwmon/hwmon0/temp1_max", "70000\n"),
        ("/sys/class/hwmon/hwmon1/name", "nvme\n"),
        ("/sys/class/hwmon/hwmon1/temp1_input", "83000\n"),
        ("/sys/class/hwmon/hwmon1/temp1_label", "Composite\n"),
        ("/sys/class/hwmon/hwmon1/temp1_max", "81850\n"),
        ("/sys/class/hwmon/hwmon1/temp1_crit", "84850\n"),
        ("/sys/class/hwmon/hwmon2/name", "nct6798\n"),
        ("/sys/class/hwmon/hwmon2/fan1_input", "900\n"),
        ("/sys/class/hwmon/hwmon2/temp1_input", "-62000\n"),
        ("/sys/class/hwmon/hwmon3/name", "drivetemp\n"),
        ("/sys/class/hwmon/hwmon3/temp1_input", "30000\n"),
        ("/sys/class/drm/card0-DP-1/status", "connected\n"),
        ("/sys/class/drm/card0/device/gpu_busy_percent", "12\n"),
        ("/sys/class/drm/card0/device/mem_info_vram_used", "1024\n"),
        ("/sys/class/drm/card0/device/mem_info_vram_total", "4096\n"),
        ("/sys/class/drm/card0/device/power/runtime_status", "active\n"),
        ("/sys/class/drm/card0/gt_act_freq_mhz", "1200\n"),
        ("/sys/devices/system/edac/mc/mc0/ce_count", "4\n"),
        ("/sys/devices/system/edac/mc/mc0/ue_count", "0\n"),
        ("/boot/vmlinuz-6.1.0-31-amd64", ""),
    ];
    for (path, text) in files {
        fake.set(path, text);
    }
    fake.fake.link("/sys/class/drm/card0/device/driver", "/sys/bus/pci/drivers/amdgpu").unwrap();
    fake.round();
    fake
}

/// All that there can be, for the catalogue of events.
pub fn everything() -> MachineView {
    let mut fake = desktop();
    fake.fake.clock.advance(Duration::from_secs(5));
    fake.set("/proc/stat", "cpu  150 0 100 850 0 0 0 0 0 0\ncpu0 1\n");
    fake.set("/proc/diskstats", " 8 0 sda 2 0 16 2 1 0 8 1 0 20 3\n");
    let mut view = fake.observer.round(Some(&["smbd.service".to_owned()]));
    // Only of this machine.
    let host = Host::real("/".into(), fake.dir.path().into(), fake.dir.path().into());
    let real = Observer::new(host, Health::default()).round(None);
    view.readings.push(find(&real, "time sync").clone());
    view
}

#[test]
fn a_desktop() {
    let mut fake = desktop();
    fake.set("/proc/stat", "cpu  190 0 100 810 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n");
    fake.set("/proc/net/dev", &NET.replace("eth0: 1000 1 0", "eth0: 6000 9 1"));
    fake.set(
        "/proc/diskstats",
        " 8 0 sda 11 0 16 1 1 0 8 31 0 2510 2\n 8 1 sda1 9 9 9 9 9 9 9 9 9 9 9\n",
    );
    let view = fake.round();
    let (ok, warning, critical) = (Severity::Ok, Severity::Warning, Severity::Critical);
    assert_eq!(told(&view, "cpu"), (warning, Some(0.9)));
    assert_eq!(told(&view, "load"), (ok, Some(1.0)));
    assert_eq!(told(&view, "processes"), (ok, Some(400.0)));
    assert_eq!(told(&view, "memory"), (ok, Some(0.4)), "200 kB of ZFS's cache would be given back");
    assert_eq!(told(&view, "swap"), (ok, Some(0.0)));
    assert_eq!(told(&view, "disk /"), (critical, Some(0.96)));
    assert_eq!(told(&view, "inodes /"), (ok, Some(0.4)));
    assert_eq!(told(&view, "diskstats sda io util"), (ok, Some(0.5)));
    assert_eq!(find(&view, "diskstats sda io util").attributes["reads"], "2.0");
    assert_eq!(told(&view, "diskstats sda read bytes"), (ok, Some(819.2)));
    assert_eq!(told(&view, "eth0 rx bytes"), (ok, Some(1000.0)));
    assert_eq!(told(&view, "eth0 rx errs"), (warning, Some(0.2)));
    assert_eq!(find(&view, "eth0 link").message, "up at 1000 Mbit/s");
    assert_eq!(told(&view, "hwmon k10temp Tctl"), (ok, Some(61.25)));
    assert_eq!(told(&view, "hwmon nvme Composite"), (warning, Some(83.0)));
    assert_eq!(told(&view, "hwmon nct6798 fan1"), (ok, Some(900.0)));
    assert_eq!(told(&view, "pressure memory full"), (critical, Some(0.5)));
    assert_eq!(told(&view, "gpu card0 busy"), (ok, Some(0.12)));
    assert_eq!(told(&view, "gpu card0 memory"), (ok, Some(0.25)));
    assert_eq!(told(&view, "uptime"), (ok, Some(41523.5)));
    assert_eq!(told(&view, "oom kills"), (ok, Some(2.0)), "an old one");
    assert_eq!(told(&view, "memory errors mc0"), (ok, Some(4.0)));
    assert_eq!(told(&view, "pending reboot"), (ok, Some(0.0)));
    let all = services(&view);
    assert!(all.is_sorted(), "{all:?}");
    let never = ["lo ", "veth7", "sda1", "drivetemp", "loop0", "nct6798 temp1"];
    assert!(!all.iter().any(|service| never.iter().any(|no| service.contains(no))), "{all:?}");
    let notes = view.notes.join("\n");
    assert!(notes.contains("hwmon nct6798 temp1: says -62.0 °C; left out"), "{notes}");
    assert!(notes.contains("1 disks' own sensors"), "{notes}");
}

#[test]
fn what_becomes_worse_is_told() {
    let mut fake = desktop();
    fake.set("/proc/vmstat", "oom_kill 3\n");
    fake.set("/sys/devices/system/edac/mc/mc0/ce_count", "6\n");
    fake.set("/sys/class/net/eth0/operstate", "down\n");
    fake.set("/sys/class/hwmon/hwmon2/fan1_input", "0\n");
    fake.set("/sys/class/hwmon/hwmon2/temp1_input", "41000\n");
    fake.set("/sys/class/drm/card0/device/power/runtime_status", "suspended\n");
    let view = fake.round();
    assert_eq!(told(&view, "oom kills"), (Severity::Critical, Some(3.0)));
    let memory = find(&view, "memory errors mc0");
    assert_eq!(memory.health, Severity::Warning);
    assert!(memory.message.starts_with("2 errors of the memory corrected"), "{}", memory.message);
    assert_eq!(told(&view, "eth0 link"), (Severity::Warning, Some(0.0)));
    assert_eq!(find(&view, "hwmon nct6798 fan1").health, Severity::Ok, "perhaps a moment");
    assert!(!services(&view).contains(&"gpu card0 busy"), "it sleeps");
    fake.round();
    fake.set("/sys/devices/system/edac/mc/mc0/ue_count", "1\n");
    fake.set("/sys/class/net/eth0/operstate", "up\n");
    fake.set("/sys/class/net/eth0/speed", "100\n");
    fake.set("/sys/class/hwmon/hwmon2/temp1_input", "-62000\n");
    let view = fake.round();
    assert_eq!(find(&view, "hwmon nct6798 fan1").health, Severity::Warning);
    assert_eq!(find(&view, "hwmon nct6798 temp1").health, Severity::Unknown, "it was sane");
    assert_eq!(find(&view, "memory errors mc0").health, Severity::Critical);
    let link = find(&view, "eth0 link");
    assert_eq!(link.health, Severity::Warning, "slower than it was");
    assert!(link.message.contains("100 Mbit/s only, was 1000 Mbit/s"), "{}", link.message);
    // Down by the owner's will.
    fake.set("/sys/class/net/eth0/flags", "0x1002\n");
    assert_eq!(told(&fake.round(), "eth0 link"), (Severity::Ok, Some(0.0)));
    // A file system that the kernel has made read-only.
    fake.set("/proc/self/mountinfo", "27 1 8:1 / / rw - ext4 /dev/sda1 ro\n");
    fake.set("/run/reboot-required", "");
    fake.set("/run/reboot-required.pkgs", "dbus\nlibc6\ndbus\n");
    fake.set("/boot/vmlinuz-6.1.0-32-amd64", "");
    let view = fake.anew();
    let root = find(&view, "disk /");
    assert!(root.message.contains("it can only be read since a while"), "{}", root.message);
    let reboot = find(&view, "pending reboot");
    assert_eq!(
        reboot.message,
        "dbus, libc6 asks for it; kernel 6.1.0-32-amd64 is installed, 6.1.0-31-amd64 runs"
    );
    assert_eq!(reboot.health, Severity::Warning);
    // An hour later the old news is none.
    fake.fake.clock.advance(Duration::from_secs(3600));
    assert_eq!(told(&fake.round(), "oom kills"), (Severity::Ok, Some(3.0)));
}

#[test]
fn a_card_that_is_given_away_is_not_missed() {
    let mut fake = desktop();
    find(&fake.round(), "gpu card0 busy");
    fake.fake.remove("/sys/class/drm/card0").unwrap();
    fake.fake.remove("/sys/class/hwmon/hwmon1").unwrap();
    let view = fake.round();
    let all = services(&view);
    assert!(!all.iter().any(|one| one.contains("card0") || one.contains("nvme")), "{all:?}");
    find(&view, "hwmon k10temp Tctl");
    // Another chip may take its number.
    fake.set("/sys/class/hwmon/hwmon1/name", "acpitz\n");
    fake.set("/sys/class/hwmon/hwmon1/temp1_input", "27800\n");
    assert_eq!(told(&fake.anew(), "hwmon acpitz temp1"), (Severity::Ok, Some(27.8)));
}

#[test]
fn a_server_with_chips_of_one_name() {
    let mut fake = Machine::new(PROC);
    for (chip, device) in [(0, "coretemp.0"), (1, "coretemp.1")] {
        let path = format!("/sys/class/hwmon/hwmon{chip}");
        fake.set(&format!("{path}/name"), "coretemp\n");
        fake.set(&format!("{path}/temp1_label"), &format!("Package id {chip}\n"));
        fake.set(&format!("{path}/temp1_input"), "96000\n");
        fake.set(&format!("{path}/temp1_max"), "80000\n");
        fake.set(&format!("{path}/temp1_crit"), "100000\n");
        fake.fake
            .link(&format!("{path}/device"), &format!("/sys/devices/platform/{device}"))
            .unwrap();
    }
    let view = fake.round();
    assert_eq!(
        told(&view, "hwmon coretemp-coretemp.0 Package id 0"),
        (Severity::Warning, Some(96.0))
    );
    find(&view, "hwmon coretemp-coretemp.1 Package id 1");
}

#[test]
fn a_container_has_less_and_says_so() {
    let mut fake = Machine::new(PROC);
    fake.round();
    fake.set("/proc/stat", "cpu  150 0 100 850 0 0 0 0 0 0\ncpu0 1\n");
    let view = fake.round();
    let notes = view.notes.join("\n");
    for what in ["no sensors", "no pressure", "disks may be missing"] {
        assert!(notes.contains(what), "{what}: {notes}");
    }
    assert!(view.readings.iter().all(|one| one.health != Severity::Unknown), "{view:?}");
    for service in ["cpu", "memory", "load", "disk /", "eth0 rx bytes"] {
        find(&view, service);
    }
}

#[test]
fn nothing_at_all_is_a_note() {
    let mut fake = Machine::new(&[]);
    let view = fake.round();
    assert!(
        view.readings.is_empty() && view.notes[0].contains("nothing can be measured"),
        "{view:?}"
    );
    // It comes later.
    fake.set("/proc/uptime", "1.0 1.0\n");
    assert_eq!(services(&fake.round()), ["uptime"]);
}

#[test]
fn what_cannot_be_read_is_unknown_and_does_not_vanish() {
    let mut fake = desktop();
    let files = [
        ("/proc/meminfo", "memory"),
        ("/proc/loadavg", "load"),
        ("/proc/vmstat", "oom kills"),
        ("/proc/pressure/io", "pressure io full"),
        ("/sys/class/hwmon/hwmon0/temp1_input", "hwmon k10temp Tctl"),
        ("/sys/class/drm/card0/device/gpu_busy_percent", "gpu card0 busy"),
        ("/sys/devices/system/edac/mc/mc0/ce_count", "memory errors mc0"),
        ("/sys/class/net/eth0/operstate", "eth0 link"),
        ("/proc/uptime", "uptime"),
        ("/proc/stat", "cpu"),
        ("/proc/net/dev", "eth0 rx bytes"),
        ("/proc/diskstats", "diskstats sda io util"),
        ("/", "disk /"),
    ];
    for (file, service) in files {
        fake.kernel.refuses(file);
        let view = fake.round();
        assert_eq!(told(&view, service), (Severity::Unknown, None), "{file}");
    }
}

#[test]
fn rubbish_and_what_vanishes_is_unknown_too() {
    let mut fake = desktop();
    fake.set("/proc/meminfo", "MemTotal: lots\n");
    fake.set("/proc/stat", "cpu  a b c\n");
    fake.set("/sys/class/hwmon/hwmon0/temp1_input", "warm\n");
    fake.fake.remove("/proc/loadavg").unwrap();
    fake.set("/proc/uptime", [0xff; 3].map(char::from).iter().collect::<String>().as_str());
    let view = fake.round();
    for service in ["memory", "cpu", "hwmon k10temp Tctl", "load", "uptime"] {
        assert_eq!(told(&view, service), (Severity::Unknown, None), "{service}");
    }
    assert!(find(&view, "load").message.contains("/proc/loadavg does not exist"));
}

#[test]
fn a_machine_that_hangs_is_not_known() {
    let view = desktop().round();
    let lost = super::observer::lost(&view, "it hangs");
    assert_eq!(services(&lost), services(&view));
    assert!(lost.readings.iter().all(|one| one.health == Severity::Unknown && one.value.is_none()));
}

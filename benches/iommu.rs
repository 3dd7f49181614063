//! `hostctl iommu list` as a whole process, beside `lspci -nn` on the same
//! tree, which knows no groups, and beside the shell loop over the groups that
//! people use (one `lspci -nns` for each function).
//!
//!   cargo bench --bench iommu              the loop at 64 and 512 functions
//!   cargo bench --bench iommu -- --all     at 4,096 too: more than a minute
//!
//!   HOSTCTL=/usr/bin/hostctl cargo bench …  another hostctl than the one just built
//!
//! Prints milliseconds, medians of rounds that take turns: from start to end,
//! and in brackets on the processor, for machines that do something else as well.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a benchmark makes its tree and starts its peers"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostd::host::fake::FakeHost;
use hostd::pci::fake_config::FakeConfig;
use nix::sys::resource::{UsageWho, getrusage};

const SIZES: [u32; 3] = [64, 512, 4096];
const ROUNDS: usize = 9;

/// Functions of a usual machine: vendor, device, class, driver.
const FUNCTIONS: [(u16, u16, u32, &str); 8] = [
    (0x1002, 0x67df, 0x03_0000, "amdgpu"),
    (0x1002, 0xaaf0, 0x04_0300, "snd_hda_intel"),
    (0x8086, 0x1533, 0x02_0000, "igb"),
    (0x8086, 0xa12f, 0x0c_0330, "xhci_hcd"),
    (0x144d, 0xa804, 0x01_0802, "nvme"),
    (0x1000, 0x0072, 0x01_0700, "mpt3sas"),
    (0x8086, 0xa110, 0x06_0400, "pcieport"),
    (0x1b36, 0x000d, 0x0c_0330, "xhci_hcd"),
];

/// So many functions, each in a group of its own, with all that the kernel
/// shows and `lspci` asks for.
fn tree(root: &Path, count: u32) -> std::io::Result<()> {
    let fake = FakeHost::new(root);
    fake.file("/proc/cmdline", "quiet intel_iommu=on\n")?;
    // The names come from the machine's own list, as for lspci.
    if let Ok(list) = std::fs::read("/usr/share/misc/pci.ids") {
        fake.file("/usr/share/misc/pci.ids", list)?;
    }
    for (index, (vendor, device, class, driver)) in (0..count).zip(FUNCTIONS.iter().cycle()) {
        let address = format!("0000:{:02x}:{:02x}.0", index >> 5, index & 31);
        let place = format!("/sys/devices/pci0000:00/{address}");
        let file = |name: &str, text: String| fake.file(&format!("{place}/{name}"), text);
        file("vendor", format!("{vendor:#06x}\n"))?;
        file("device", format!("{device:#06x}\n"))?;
        file("class", format!("{class:#08x}\n"))?;
        file("subsystem_vendor", format!("{vendor:#06x}\n"))?;
        file("subsystem_device", "0x0001\n".to_owned())?;
        file("revision", "0x01\n".to_owned())?;
        file("irq", "16\n".to_owned())?;
        file("numa_node", "-1\n".to_owned())?;
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        file("resource", none.repeat(13))?;
        let [_, base, sub, interface] = class.to_be_bytes();
        file(
            "modalias",
            format!(
                "pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000001bc{base:02x}sc{sub:02x}i\
                 {interface:02x}\n"
            ),
        )?;
        if base == 3 {
            file("boot_vga", "0\n".to_owned())?;
        }
        let mut config = FakeConfig::endpoint().id(*vendor, *device).bytes();
        config[9..12].copy_from_slice(&[interface, sub, base]);
        fake.file(&format!("{place}/config"), config)?;
        fake.link(&format!("/sys/bus/pci/devices/{address}"), &place)?;
        fake.dir(&format!("/sys/bus/pci/drivers/{driver}"))?;
        fake.link(&format!("{place}/driver"), &format!("/sys/bus/pci/drivers/{driver}"))?;
        let group = format!("/sys/kernel/iommu_groups/{index}");
        fake.link(&format!("{place}/iommu_group"), &group)?;
        fake.link(&format!("{group}/devices/{address}"), &place)?;
    }
    Ok(())
}

/// The usual script, with the tree in place of `/sys`.
const LOOP: &str = r#"
for g in $(find "$1/sys/kernel/iommu_groups" -mindepth 1 -maxdepth 1 -type d | sort -V); do
    echo "IOMMU Group ${g##*/}:"
    for d in "$g"/devices/*; do
        printf '\t'; lspci -A linux-sysfs -O "sysfs.path=$1/sys/bus/pci" -nns "${d##*/}"
    done
done
"#;

fn hostctl(root: &Path) -> Command {
    let built = || env!("CARGO_BIN_EXE_hostctl").into();
    let mut command = Command::new(std::env::var_os("HOSTCTL").unwrap_or_else(built));
    command.args(["--quiet", "iommu", "list", "--sysroot"]).arg(root);
    // No daemon, so that the tree is read.
    command.args(["--socket", "/nonexistent", "--config"]).arg(root.join("host.yaml"));
    command
}

fn lspci(root: &Path) -> Command {
    let mut command = Command::new("lspci");
    let place = format!("sysfs.path={}/sys/bus/pci", root.display());
    command.args(["-A", "linux-sysfs", "-O", &place, "-nn"]);
    command
}

fn script(root: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", LOOP, "loop"]).arg(root);
    command
}

/// One run: the wall's time and the processor's. It has to print each function.
fn run(mut command: Command, functions: u32) -> (Duration, Duration) {
    let used = || {
        let all = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own use");
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default()
        };
        Duration::from_micros(micros(all.user_time()) + micros(all.system_time()))
    };
    let (before, started) = (used(), Instant::now());
    let output = command.stderr(Stdio::null()).output().expect("it is installed");
    let took = (started.elapsed(), used().saturating_sub(before));
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let seen = lines.filter(|line| line.windows(7).any(is_place)).count();
    assert_eq!(u32::try_from(seen).unwrap_or_default(), functions, "{command:?}");
    took
}

/// `1f:03.0`
fn is_place(part: &[u8]) -> bool {
    let hex = |at: usize| part.get(at).is_some_and(u8::is_ascii_hexdigit);
    part.get(2) == Some(&b':') && part.get(5) == Some(&b'.') && [0, 1, 3, 4, 6].into_iter().all(hex)
}

fn median(mut all: Vec<(Duration, Duration)>) -> (f64, f64) {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    all.sort_unstable();
    let wall = all.get(all.len() / 2).map_or(f64::NAN, |both| millis(both.0));
    all.sort_unstable_by_key(|both| both.1);
    (wall, all.get(all.len() / 2).map_or(f64::NAN, |both| millis(both.1)))
}

fn main() {
    let all = std::env::args().any(|word| word == "--all");
    println!("milliseconds (on the processor); how many times as long as hostctl");
    println!(
        "{:>9} {:>16} {:>16} {:>18} {:>10} {:>10}",
        "functions", "iommu list", "lspci -nn", "loop of lspci", "lspci", "loop"
    );
    for size in SIZES {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a folder");
        tree(dir.path(), size).expect("a tree");
        let root = dir.path().join("root");
        let (mut ours, mut plain, mut loops) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            ours.push(run(hostctl(&root), size));
            plain.push(run(lspci(&root), size));
            let few = if size == 64 { 3 } else { 1 };
            if round < few && (all || size < 4096) {
                loops.push(run(script(&root), size));
            }
        }
        let (ours, plain, loops) = (median(ours), median(plain), median(loops));
        let shown = |(wall, cpu): (f64, f64)| {
            if wall.is_nan() { "- (-)".to_owned() } else { format!("{wall:.1} ({cpu:.1})") }
        };
        let times = |other: f64| {
            if other.is_nan() { "-".to_owned() } else { format!("{:.1}", other / ours.0) }
        };
        println!(
            "{size:>9} {:>16} {:>16} {:>18} {:>10} {:>10}",
            shown(ours),
            shown(plain),
            shown(loops),
            times(plain.0),
            times(loops.0)
        );
    }
}

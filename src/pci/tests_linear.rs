//! The cost of the list grows with the number of functions, and not with its
//! square: what is asked of the machine is counted, not timed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Names, full, read, view};
use crate::host::SysRoot;
use crate::host::fake::FakeHost;
use crate::host::sys::WriteHook;

#[derive(Default)]
struct Count(AtomicUsize);

impl WriteHook for Count {
    fn write(&self, _sys: &SysRoot, path: &Path, _bytes: &[u8]) -> io::Result<()> {
        Err(io::Error::other(format!("{} is written", path.display())))
    }

    fn may_read(&self, _path: &Path) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A tree of so many functions, and the counter of what is read in it.
fn tree(count: u32, group: impl Fn(u32) -> u32) -> (tempfile::TempDir, SysRoot, Arc<Count>) {
    // Memory where there is some: the tree takes longer to make than to read.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fake = FakeHost::new(dir.path());
    fake.file("/proc/cmdline", "quiet\n").unwrap();
    for index in 0..count {
        let (bus, device) = (index >> 5, index & 31);
        let address = format!("0000:{bus:02x}:{device:02x}.0");
        let folder = format!("/sys/devices/pci0000:00/{address}");
        let line = "pci:v00008086d0000100Esv00000000sd00000000bc02sc00i00\n";
        fake.file(&format!("{folder}/modalias"), line).unwrap();
        fake.link(&format!("/sys/bus/pci/devices/{address}"), &folder).unwrap();
        let group = format!("/sys/kernel/iommu_groups/{}", group(index));
        fake.link(&format!("{folder}/iommu_group"), &group).unwrap();
        fake.link(&format!("{group}/devices/{address}"), &folder).unwrap();
    }
    let count = Arc::new(Count::default());
    let sys = fake.host().sys.with_hook(Arc::clone(&count) as Arc<dyn WriteHook>);
    (dir, sys, count)
}

#[test]
fn each_function_costs_four_reads_whatever_their_number() {
    let asked = |count: u32| {
        let (_dir, sys, counted) = tree(count, |index| index);
        let view = view(&read(&sys, &mut Names::default()));
        assert_eq!(view.groups.len(), count as usize);
        assert_eq!(view.notes, Vec::<String>::new());
        counted.0.load(Ordering::Relaxed)
    };
    let (small, large) = (asked(512), asked(4096));
    // Its ids, its driver, its group, and the group's folder.
    assert_eq!(large - small, (4096 - 512) * 4);
}

#[test]
fn one_large_group_costs_no_more_than_many_small_ones() {
    let (_dir, sys, counted) = tree(4096, |_| 7);
    let view = view(&read(&sys, &mut Names::default()));
    assert_eq!(view.groups[0].devices.len(), 4096);
    assert!(counted.0.load(Ordering::Relaxed) < 4096 * 3 + 20);
    // A reason is a sentence, not a book.
    assert!(view.groups[0].reason.len() < 4000, "{}", view.groups[0].reason.len());
}

#[test]
fn in_full_each_function_is_read_once_too() {
    let asked = |count: u32| {
        // Pairs, so that every group has a reason to be looked for.
        let (_dir, sys, counted) = tree(count, |index| index / 2);
        let facts = read(&sys, &mut Names::default());
        let before = counted.0.load(Ordering::Relaxed);
        let view = full(&sys, &facts, None);
        assert!(view.groups.iter().all(|group| group.detail.is_some()));
        counted.0.load(Ordering::Relaxed) - before
    };
    let (small, large) = (asked(64), asked(256));
    assert_eq!(large, small * 4);
}

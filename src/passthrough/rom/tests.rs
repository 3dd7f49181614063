//! Made ROMs for each case, and those that QEMU comes with.
#![allow(clippy::disallowed_methods, reason = "reads the ROMs that are installed")]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::parse::{Code, End, MAX, UNIT};
use super::synthetic::{Make, PCIR, add_up, image, rom};
use super::*;
use crate::host::SysRoot;
use crate::host::fake::FakeHost;
use crate::host::sys::WriteHook;
use crate::passthrough::{Owner, Passthrough, PassthroughError};
use crate::pci::fake::FakePci;
use crate::pci::read::folder;

fn card() -> Card {
    Card { name: "gaming".into(), id: Some((0x1002, 0x67df)), boot_vga: Some(false) }
}

fn codes(bytes: &[u8], card: Option<&Card>) -> Vec<String> {
    view("x.rom", bytes, card).findings.into_iter().map(|finding| finding.code).collect()
}

fn both() -> Vec<u8> {
    rom(&[Make::bios(), Make::efi()])
}

#[test]
fn a_whole_rom_is_good() {
    let view = view("x.rom", &both(), Some(&card()));
    assert!(view.usable && view.findings.is_empty() && view.notes.is_empty(), "{view:?}");
    let kinds: Vec<_> = view.images.iter().map(|image| image.kind.as_str()).collect();
    assert_eq!(kinds, ["x86", "efi"]);
    assert_eq!(view.images[0].checksum, Some(true));
    assert_eq!(view.images[1].machine.as_deref(), Some("x64"));
    assert!(view.images[1].last && !view.images[0].last);
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(codes(&rom(&[Make::bios()]), None), ["no-efi"]);
    let efi = view("x.rom", &rom(&[Make::efi()]), None);
    assert!(efi.findings.is_empty() && efi.notes[0].contains("no BIOS image"), "{efi:?}");
}

#[test]
fn another_cards_rom_is_refused() {
    let other = Card { id: Some((0x1002, 0x731f)), ..card() };
    assert_eq!(codes(&both(), Some(&other)), ["wrong-ids", "wrong-ids"]);
    // Unless it lists the card.
    let make = |make| Make { list: vec![0x67c0, 0x731f], ..make };
    let listed = rom(&[make(Make::bios()), make(Make::efi())]);
    assert_eq!(codes(&listed, Some(&other)), Vec::<String>::new());
    // The same device of another vendor is another device.
    let other = Card { id: Some((0x10de, 0x731f)), ..card() };
    assert_eq!(codes(&listed, Some(&other)).len(), 2);
    let unread = view("x.rom", &both(), Some(&Card { id: None, ..card() }));
    assert!(unread.notes[0].contains("unknown"), "{unread:?}");
}

#[test]
fn damage_is_noticed() {
    let mut bytes = both();
    bytes[0x100] ^= 1;
    assert_eq!(codes(&bytes, None), ["checksum"]);
    let cut = &both()[..4 * UNIT + 100];
    assert_eq!(codes(cut, None), ["truncated"]);
    assert_eq!(walk(cut).end, End::Truncated { at: 3 * UNIT, there: UNIT + 100 });
    let open = image(&Make::bios(), false);
    assert_eq!(codes(&open, None), ["no-last", "no-efi"]);
    let mut junk = open.clone();
    junk.extend([1; 600]);
    assert_eq!(codes(&junk, None), ["no-signature", "no-efi"]);
    let mut early = image(&Make::bios(), true);
    early.extend(image(&Make::efi(), true));
    assert_eq!(codes(&early, None), ["after-last", "no-efi"]);
    let mut efi = rom(&[Make::efi()]);
    efi[4] = 0;
    assert_eq!(codes(&efi, None), ["efi-signature"]);
    efi = rom(&[Make { machine: 0xaa64, ..Make::efi() }]);
    assert_eq!(codes(&efi, None), ["efi-machine"]);
    efi = rom(&[Make::efi()]);
    (efi[0x0c], efi[0x17]) = (2, 0xff);
    assert_eq!(codes(&efi, None), ["efi-compression", "efi-driver"]);
}

#[test]
fn what_is_no_rom_is_said() {
    assert_eq!(codes(b"", None), ["empty"]);
    assert_eq!(codes(&[0xff; 4096], None), ["blank"]);
    assert_eq!(codes(&[0; 4096], None), ["blank"]);
    assert_eq!(codes(b"hello, this is no ROM", None), ["no-image"]);
    assert_eq!(codes(&[0x55, 0xaa], None), ["no-structure"]);
    assert_eq!(codes(&vec![1; MAX + 1], None), ["too-large"]);
    let mut bytes = rom(&[Make::efi()]);
    bytes[PCIR + 0x10] = 0;
    assert_eq!(codes(&bytes, None), ["no-length"]);
}

#[test]
fn a_header_is_recognised_and_stripped() {
    let mut bytes = b"NVGI".to_vec();
    // A signature by chance is no image.
    bytes.extend([0x55, 0xaa]);
    bytes.resize(0x600, 3);
    bytes.extend(both());
    let walked = walk(&bytes);
    assert_eq!(walked.header, Some(parse::Header { length: 0x600, nvidia: true }));
    assert_eq!(codes(&bytes, Some(&card())), ["header"]);
    assert_eq!(strip(&bytes), both());
    assert_eq!(strip(&both()), both());
    bytes[0] = b'X';
    assert!(!walk(&bytes).header.unwrap().nvidia);
    assert_eq!(strip(b"no image at all"), b"no image at all");
}

#[test]
fn the_shadowed_copy_is_recognised() {
    let mut bytes = rom(&[Make::bios()]);
    bytes.resize(128 << 10, 0);
    let boot = Card { boot_vga: Some(true), ..card() };
    assert_eq!(codes(&bytes, Some(&boot)), ["no-efi", "shadow"]);
    assert_eq!(codes(&bytes, Some(&card())), ["no-efi"]);
}

#[test]
fn what_follows_is_counted_and_padding_is_not() {
    let mut bytes = both();
    bytes.extend([0xff; 1000]);
    assert_eq!(walk(&bytes).rest, 0);
    bytes.push(7);
    assert_eq!(walk(&bytes).rest, 1001);
    assert!(view("x", &bytes, None).findings.is_empty());
}

#[test]
fn the_longest_chain_is_walked_once() {
    let one = image(&Make { units: 1, code: 1, ..Make::bios() }, false);
    let bytes = one.repeat(MAX / UNIT);
    let walked = walk(&bytes);
    assert_eq!((walked.images.len(), walked.end), (MAX / UNIT, End::File));
    assert_eq!(unhex(&hex(&both())), Some(both()));
    assert_eq!((unhex("abc"), unhex("zz")), (None, None));
}

/// Those that come with QEMU: real ROMs by real tools.
#[test]
fn installed_roms_are_understood() {
    let read = |path: &str| std::fs::read(Path::new(path)).ok();
    let mut seen = 0;
    for (name, id) in [("stdvga", (0x1234, 0x1111)), ("ati", (0x1002, 0x5159))] {
        let Some(bytes) = read(&format!("/usr/share/seabios/vgabios-{name}.bin")) else { continue };
        let meant = Card { id: Some(id), ..card() };
        // An EFI part is all that they lack.
        assert_eq!(codes(&bytes, Some(&meant)), ["no-efi"], "{name}");
        assert_eq!(codes(&bytes, Some(&card()))[0], "wrong-ids", "{name}");
        seen += 1;
    }
    for (name, id) in [("e1000", (0x8086, 0x100e)), ("rtl8139", (0x10ec, 0x8139))] {
        let meant = Card { id: Some(id), ..card() };
        for folder in ["/usr/lib/ipxe/qemu", "/usr/share/qemu"] {
            if let Some(bytes) = read(&format!("{folder}/efi-{name}.rom")) {
                assert_eq!(codes(&bytes, Some(&meant)), Vec::<String>::new(), "{name}");
                let walked = walk(&bytes);
                let kinds: Vec<_> = walked.images.iter().map(|image| image.code).collect();
                assert_eq!((kinds, walked.rest), (vec![Code::X86, Code::Efi], 0));
                seen += 1;
            }
            if let Some(bytes) = read(&format!("{folder}/pxe-{name}.rom")) {
                assert_eq!(codes(&bytes, Some(&meant)), ["no-efi"], "{name}");
                seen += 1;
            }
        }
    }
    // Without a PCI part: for ISA cards, and for QEMU's own use.
    for path in ["/usr/share/seabios/vgabios-isavga.bin", "/usr/share/qemu/linuxboot.bin"] {
        if let Some(bytes) = read(path) {
            assert_eq!(codes(&bytes, None), ["no-structure"], "{path}");
            seen += 1;
        }
    }
    if seen == 0 {
        eprintln!("no ROMs of QEMU are installed: not tested");
    }
}

/// A ROM BAR with the kernel's manners: nothing is there until it is switched on.
struct Bar {
    bytes: Vec<u8>,
    wrote: Arc<Mutex<Vec<String>>>,
}

impl WriteHook for Bar {
    fn write(&self, sys: &SysRoot, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let on = bytes == b"1";
        self.wrote.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        std::fs::write(sys.path(path), if on { &self.bytes[..] } else { b"" })
    }
}

/// A fake machine with the lab's card, which has a ROM.
struct Rig {
    _dir: tempfile::TempDir,
    pci: FakePci,
    wrote: Arc<Mutex<Vec<String>>>,
    pass: Passthrough,
}

impl Rig {
    fn new(bytes: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap();
        pci.plug_lab_card().unwrap();
        let at = "01:00.0".parse().unwrap();
        pci.fake.file(&format!("{}/rom", folder(at)), "").unwrap();
        let mut host = pci.host();
        let wrote = Arc::<Mutex<Vec<String>>>::default();
        let bar = Bar { bytes, wrote: Arc::clone(&wrote) };
        host.sys = pci.fake.host().sys.with_hook(Arc::new(bar));
        Self { _dir: dir, pci, wrote, pass: Passthrough::new(host, Vec::new()) }
    }

    async fn dump(&self, strip: bool) -> Result<crate::passthrough::Dumped, PassthroughError> {
        let gpu = self.pass.resolve_gpu(Some("01:00.0")).unwrap();
        self.pass.rom_dump(&gpu, strip).await
    }

    fn wrote(&self) -> Vec<String> {
        std::mem::take(&mut self.wrote.lock().unwrap())
    }
}

fn lab() -> Vec<u8> {
    let id = (0x1002, 0x5046);
    rom(&[Make { id, ..Make::bios() }, Make { id, ..Make::efi() }])
}

#[tokio::test]
async fn a_rom_is_read_judged_and_switched_off_again() {
    let mut bytes = b"NVGI............".to_vec();
    bytes.extend(lab());
    let rig = Rig::new(bytes.clone());
    let dumped = rig.dump(false).await.unwrap();
    assert_eq!(dumped.bytes, bytes);
    assert_eq!(dumped.view.findings[0].code, "header");
    assert_eq!(rig.wrote(), ["1", "0"]);
    let dumped = rig.dump(true).await.unwrap();
    assert_eq!(dumped.bytes, lab());
    assert!(dumped.view.usable && dumped.view.findings.is_empty(), "{:?}", dumped.view);
    // Another card's is told apart.
    let rig = Rig::new(both());
    assert_eq!(rig.dump(false).await.unwrap().view.findings[0].code, "wrong-ids");
}

#[tokio::test]
async fn a_rom_too_large_is_switched_off_too() {
    let rig = Rig::new(vec![0; MAX + 1]);
    assert!(matches!(rig.dump(false).await, Err(PassthroughError::Rom { .. })));
    assert_eq!(rig.wrote(), ["1", "0"]);
}

#[tokio::test]
async fn a_card_in_use_is_not_read() {
    let rig = Rig::new(lab());
    let owner = Owner::Vm("win".parse().unwrap());
    let gpu = rig.pass.resolve_gpu(Some("01:00.0")).unwrap();
    let binder = Passthrough::new(rig.pci.host(), Vec::new());
    binder.bind(&gpu, owner.clone()).await.unwrap();
    assert!(matches!(rig.dump(false).await, Err(PassthroughError::Owned { .. })));
    binder.release(&gpu, owner).await.unwrap();
    // A process of somebody else has it open.
    rig.pci.fake.file("/dev/vfio/11", "").unwrap();
    rig.pci.fake.file("/proc/7/comm", "qemu\n").unwrap();
    rig.pci.fake.link("/proc/7/fd/3", "/dev/vfio/11").unwrap();
    assert!(matches!(rig.dump(false).await, Err(PassthroughError::InUse { .. })));
    assert_eq!(rig.wrote(), Vec::<String>::new());
    rig.pci.fake.remove("/proc/7").unwrap();
    rig.pci.fake.remove(&format!("{}/rom", folder("01:00.0".parse().unwrap()))).unwrap();
    assert!(matches!(rig.dump(false).await, Err(PassthroughError::NoRom { .. })));
}

fn makes() -> impl Strategy<Value = Vec<Make>> {
    let list = proptest::collection::vec(1u16.., 0..4);
    let one = (prop_oneof![Just(0u8), Just(3u8)], 1u8..12, list, any::<u8>());
    let one =
        one.prop_map(|(code, units, list, seed)| Make { code, units, list, seed, ..Make::bios() });
    proptest::collection::vec(one, 1..6)
}

/// What of an image decides whether a guest can use it.
fn decides(bytes: &[u8]) -> Vec<(usize, usize, Code, bool)> {
    let images = walk(bytes).images;
    images.iter().map(|i| (i.offset, i.length, i.code, i.last)).collect()
}

proptest! {
    #[test]
    fn made_roms_are_good(makes in makes(), padding in 0usize..2000) {
        let mut bytes = rom(&makes);
        let size = bytes.len();
        bytes.resize(size + padding, 0xff);
        let walked = walk(&bytes);
        prop_assert_eq!(walked.images.len(), makes.len());
        prop_assert_eq!((walked.end, walked.rest), (End::Last, 0));
        let (findings, _) = judge(&walked, Some(&card()));
        let efi = makes.iter().any(|make| make.code == 3);
        prop_assert!(findings.iter().all(|f| f.code == "no-efi"), "{:?}", findings);
        prop_assert_eq!(findings.is_empty(), efi);
    }

    /// Every byte of the headers, every value: it is noticed, or nothing that
    /// decides anything has changed.
    #[test]
    fn a_wrong_byte_is_noticed_or_harmless(makes in makes(), which: prop::sample::Index,
        at in prop_oneof![0usize..0x1a, PCIR..PCIR + 0x18], flip in 1u8..) {
        let bytes = rom(&makes);
        let starts: Vec<usize> = walk(&bytes).images.iter().map(|image| image.offset).collect();
        let mut broken = bytes.clone();
        broken[starts[which.index(starts.len())] + at] ^= flip;
        let said = |bytes: &[u8]| judge(&walk(bytes), Some(&card()));
        let (before, after) = (said(&bytes), said(&broken));
        // A BIOS that adds up over the length it now says is as good as before.
        prop_assert!(after != before || decides(&broken) == decides(&bytes), "{:?}", after);
    }

    #[test]
    fn a_cut_rom_is_noticed(makes in makes(), cut: prop::sample::Index) {
        let bytes = rom(&makes);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(!view("x", cut, None).usable);
    }

    #[test]
    fn anything_is_walked(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = (view("x", &bytes, Some(&card())), strip(&bytes).len());
    }

    #[test]
    fn broken_roms_are_walked_within_their_bounds(makes in makes(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12)) {
        let mut bytes = rom(&makes);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let walked = walk(&bytes);
        prop_assert!(walked.images.len() <= bytes.len() / UNIT + 1);
        let offsets: Vec<usize> = walked.images.iter().map(|image| image.offset).collect();
        prop_assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]));
        let _ = judge(&walked, Some(&card()));
    }

    #[test]
    fn a_bios_that_adds_up_is_taken(mut make in makes()) {
        make.truncate(1);
        make[0].code = 0;
        let mut bytes = rom(&make);
        let last = bytes.len() - 2;
        bytes[last] ^= 0x10;
        prop_assert_eq!(codes(&bytes, None), ["checksum", "no-efi"]);
        add_up(&mut bytes);
        prop_assert_eq!(codes(&bytes, None), ["no-efi"]);
    }
}

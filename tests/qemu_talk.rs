//! The serial port, the picture and the keyboard of a guest on the real QEMU of
//! this machine, in software.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostd::ask::view::{ScreenshotView, VmState};
use hostd::ask::{Caller, Code, Secret};
use hostd::base::Bytes;
use hostd::config::{Accel, AfterDeadline, Disk, Firmware, Network, Stop, Vm};
use hostd::host::Host;
use hostd::vm::devices::FakeDevices;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What nothing here should ever take.
const LONG: Duration = Duration::from_secs(60);

/// Says on the serial port what it hears there and from the keyboard.
const ECHOES: &[u8] = &[
    0xfa, // no interrupts: the firmware would take the keys
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x05, // is there a byte on COM1
    0xba, 0xf8, 0x03, 0xec, 0xee, // say it
    0xe4, 0x64, 0xa8, 0x01, 0x74, 0xed, // is there one from the keyboard
    0xe4, 0x60, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xe5, // say it
];

struct Guest {
    dir: tempfile::TempDir,
    handle: VmHandle,
    me: Caller,
}

impl Guest {
    /// One that has booted.
    async fn new(serial: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut sector = ECHOES.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1 << 20, 0);
        let disk: PathBuf = path("boot.img");
        std::fs::write(&disk, sector).unwrap();
        let vm = Vm {
            cpus: 1,
            accel: Accel::Tcg,
            firmware: Firmware::Seabios { log: true },
            network: Network::None,
            serial,
            disks: vec![Disk { readonly: true, ..Disk::plain(disk, 1) }],
            stop: Stop { deadline: Duration::from_secs(1), then: AfterDeadline::Quit },
            ..Vm::plain("test".parse().unwrap(), Bytes(64 << 20))
        };
        let (out, mut changes) = mpsc::channel(16);
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        let host = Host::real("/".into(), path("lib"), path("run"));
        let handle = spawn(Deps::new(host, Arc::<FakeDevices>::default(), out), vm);
        handle.start().await.unwrap();
        let booted = async {
            while !handle.log(true).await.is_ok_and(|log| log.text.contains("from 0000:7c00")) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, booted).await.unwrap();
        Self { dir, handle, me: Caller { uid: 7, label: "uid 7".into() } }
    }

    async fn open(&self) -> Secret {
        self.handle.console_open(&self.me, false).await.unwrap().session
    }

    /// Reads the serial port until these bytes have come.
    async fn hears(&self, session: &Secret, wanted: &[u8]) {
        let mut heard = Vec::new();
        let reading = async {
            while !heard.windows(wanted.len()).any(|part| part == wanted) {
                let read = self.handle.console_read(&self.me, session.clone()).await.unwrap();
                assert_eq!(read.ended, None);
                heard.extend(read.data.0);
            }
        };
        let read = timeout(LONG, reading).await;
        assert!(read.is_ok(), "no {wanted:02x?} in {heard:02x?}");
    }

    async fn end(self) {
        self.handle.kill().await.unwrap();
        assert_eq!(self.handle.view().state, VmState::Off);
    }
}

#[tokio::test]
async fn the_serial_port_goes_both_ways_is_logged_and_ends_with_the_vm() {
    let guest = Guest::new(true).await;
    let session = guest.open().await;
    for byte in b"Hi there" {
        // One after the other: the guest has no queue.
        let typed = guest.handle.console_write(&guest.me, session.clone(), &[*byte]).await;
        assert_eq!(typed.unwrap().taken, 1);
        guest.hears(&session, &[*byte]).await;
    }
    // QEMU writes it down a moment after it has said it.
    let logged = async {
        while !guest.handle.serial_log().await.is_ok_and(|log| log.text.contains("Hi there")) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, logged).await.unwrap();

    let other = Caller { uid: 8, label: "uid 8".into() };
    let busy = guest.handle.console_open(&other, false).await.unwrap_err();
    assert!(busy.message.contains("in use, by uid 7"), "{busy}");
    // QEMU lets the next one in when the one before has left.
    let taken = guest.handle.console_open(&other, true).await.unwrap().session;
    let typed = guest.handle.console_write(&other, taken.clone(), b"?").await.unwrap();
    assert_eq!(typed.taken, 1);
    let reading = async {
        loop {
            let read = guest.handle.console_read(&other, taken.clone()).await.unwrap();
            if read.data.0.contains(&b'?') {
                return;
            }
        }
    };
    timeout(LONG, reading).await.unwrap();
    let read = guest.handle.console_read(&guest.me, session).await.unwrap();
    assert_eq!(read.ended.as_deref(), Some("uid 8 has taken the serial port"));

    let (killed, read) =
        tokio::join!(guest.handle.kill(), guest.handle.console_read(&other, taken.clone()));
    killed.unwrap();
    let ended = match read.unwrap().ended {
        Some(ended) => ended,
        None => guest.handle.console_read(&other, taken).await.unwrap().ended.unwrap(),
    };
    assert_eq!(ended, "`test` is off: killed on request");
    let off = guest.handle.console_open(&guest.me, false).await.unwrap_err();
    assert!(off.message.starts_with("`test` is off"), "{off}");
    let left: Vec<_> = std::fs::read_dir(guest.dir.path().join("run/vms/test")).unwrap().collect();
    assert!(
        left.iter().flatten().all(|entry| !entry.file_name().to_string_lossy().ends_with("sock")),
        "{left:?}"
    );
}

#[tokio::test]
async fn keys_reach_the_guest() {
    let guest = Guest::new(true).await;
    let session = guest.open().await;
    let press = async |keys: &[&str], text: &str| {
        let keys: Vec<_> = keys.iter().map(|key| Secret::new(*key)).collect();
        guest.handle.send_key(&keys, &Secret::new(text), None).await
    };
    // Scan codes of set 1: pressed, and with the highest bit let go.
    assert_eq!(press(&["a"], "").await.unwrap().message, "`test`: 1 key was pressed");
    guest.hears(&session, &[0x1e, 0x9e]).await;
    press(&["ctrl-alt-x"], "").await.unwrap();
    guest.hears(&session, &[0x1d, 0x38, 0x2d]).await;
    assert_eq!(press(&[], "B!").await.unwrap().message, "`test`: 2 keys were pressed");
    guest.hears(&session, &[0x2a, 0x02]).await;
    assert_eq!(press(&["ctlr"], "").await.unwrap_err().code, Code::Usage);

    guest.handle.pause().await.unwrap();
    let paused = press(&["a"], "").await.unwrap_err();
    assert!(paused.message.starts_with("`test` is paused"), "{paused}");
    guest.end().await;
}

#[tokio::test]
async fn the_picture_is_a_png_of_the_text_screen() {
    let guest = Guest::new(false).await;
    let shown = async {
        loop {
            let taken = guest.handle.screenshot().await.unwrap();
            if taken.width == 720 {
                return taken;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let ScreenshotView { bytes, width, height, data, .. } = timeout(LONG, shown).await.unwrap();
    assert_eq!((width, height, bytes), (720, 400, data.0.len() as u64));
    assert!(data.0.starts_with(b"\x89PNG\r\n\x1a\n"));
    let left = guest.dir.path().join("run/vms/test/screen.png");
    assert!(!left.exists(), "nothing stays");
    let none = guest.handle.console_open(&guest.me, false).await.unwrap_err();
    assert_eq!(none.message, "`test` runs without a serial port");
    let none = guest.handle.serial_log().await.unwrap_err();
    assert_eq!(none.code, Code::NotFound);
    let handle = guest.handle.clone();
    guest.end().await;
    let off = handle.screenshot().await.unwrap_err();
    assert!(off.message.starts_with("`test` is off"), "{off}");
}

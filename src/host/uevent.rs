//! What the kernel says when a device appears, vanishes or changes driver.
//!
//! The messages come over netlink, group 1. Anybody with the right may send to
//! that group, so only those from port 0, the kernel, are heard. When we are
//! too slow the kernel drops messages and says so: then everything has to be
//! looked at again ([`Heard::Lost`]).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt,
    socket, sockopt::RcvBuf,
};
use tokio::io::unix::AsyncFd;

use crate::base::PciAddress;

/// The kernel's own group; udev repeats to group 2.
const KERNEL_GROUP: u32 = 1;
/// The kernel's messages are at most 2 KiB of variables and a path.
const MESSAGE_LIMIT: usize = 16 << 10;
/// A tree of devices that appears at once must fit.
const QUEUE: usize = 1 << 20;

/// What happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It appeared.
    Add,
    /// It vanished.
    Remove,
    /// Something about it changed: a disk's size, a screen's cable.
    Change,
    /// It was moved or renamed.
    Move,
    /// It came back.
    Online,
    /// It went away for a while.
    Offline,
    /// A driver took it.
    Bind,
    /// Its driver let it go.
    Unbind,
    /// A word of a newer kernel.
    Other(String),
}

impl From<&str> for Action {
    fn from(word: &str) -> Self {
        match word {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "change" => Self::Change,
            "move" => Self::Move,
            "online" => Self::Online,
            "offline" => Self::Offline,
            "bind" => Self::Bind,
            "unbind" => Self::Unbind,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// What happened.
    pub action: Action,
    /// The device's folder below `/sys`.
    pub devpath: String,
    /// `pci`, `block`, `drm`, …
    pub subsystem: String,
    /// Its driver, where the kernel says it.
    pub driver: Option<String>,
    /// Which PCI function, where it is one.
    pub pci_slot: Option<PciAddress>,
    /// Counts all messages since boot.
    pub seqnum: Option<u64>,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message from the kernel.
    Event(Uevent),
    /// Messages were lost, or one could not be read: look at everything again.
    Lost,
}

/// Reads one message: `add@/devices/…` and variables, each ended by a zero
/// byte. `None` when it is not the kernel's kind of message.
pub fn parse(message: &[u8]) -> Option<Uevent> {
    let mut words = message.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let head = words.next()?;
    let (action, devpath) = head.split_once('@')?;
    if !devpath.starts_with('/') {
        return None;
    }
    let mut event = Uevent {
        action: Action::from(action),
        devpath: devpath.to_owned(),
        subsystem: String::new(),
        driver: None,
        pci_slot: None,
        seqnum: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("SUBSYSTEM", value)) => value.clone_into(&mut event.subsystem),
            Some(("DRIVER", value)) => event.driver = Some(value.to_owned()),
            Some(("PCI_SLOT_NAME", value)) => event.pci_slot = value.parse().ok(),
            Some(("SEQNUM", value)) => event.seqnum = value.parse().ok(),
            _ => {}
        }
    }
    Some(event)
}

/// The kernel's messages as they come.
#[derive(Debug)]
pub struct Uevents {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Uevents {
    /// Starts to listen; within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        setsockopt(&socket, RcvBuf, &QUEUE)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        #[allow(deprecated, reason = "sound for an OwnedFd; its successor is unsafe to call")]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, buffer: vec![0; MESSAGE_LIMIT] })
    }

    /// The next message; may be dropped while it waits without losing any.
    pub async fn next(&mut self) -> io::Result<Heard> {
        loop {
            let mut ready = self.socket.readable().await?;
            let buffer = &mut self.buffer[..];
            let received = ready.try_io(|socket| {
                Ok(recvfrom::<NetlinkAddr>(socket.get_ref().as_raw_fd(), buffer)?)
            });
            match received {
                // Somebody else was quicker to read, or nothing was there.
                Err(_would_block) => {}
                Ok(Ok((length, from))) => {
                    if let Some(heard) = judge(buffer, length, from.map(|from| from.pid())) {
                        return Ok(heard);
                    }
                }
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(Heard::Lost);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// A message if the kernel sent it; a full buffer may have been cut off.
fn judge(buffer: &[u8], length: usize, port: Option<u32>) -> Option<Heard> {
    if port != Some(0) {
        return None;
    }
    let message = buffer.get(..length).filter(|message| message.len() < buffer.len());
    Some(message.and_then(parse).map_or(Heard::Lost, Heard::Event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BIND: &[u8] = b"bind@/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0ACTION=bind\0\
        DEVPATH=/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0\
        PCI_CLASS=30000\0PCI_ID=1002:5046\0PCI_SLOT_NAME=0000:01:00.0\0SEQNUM=1733\0";

    #[test]
    fn reads_a_bind() {
        let event = parse(BIND).unwrap();
        assert_eq!(event.action, Action::Bind);
        assert_eq!((event.subsystem.as_str(), event.driver.as_deref()), ("pci", Some("vfio-pci")));
        assert_eq!(event.pci_slot, Some("01:00.0".parse().unwrap()));
        assert_eq!(event.seqnum, Some(1733));
    }

    #[test]
    fn others_than_the_kernel_are_not_heard() {
        let mut buffer = BIND.to_vec();
        buffer.push(0);
        assert_eq!(judge(&buffer, BIND.len(), Some(4711)), None);
        assert_eq!(judge(&buffer, BIND.len(), None), None);
        assert!(matches!(judge(&buffer, BIND.len(), Some(0)), Some(Heard::Event(_))));
        // Cut off, and udev's kind of message.
        assert_eq!(judge(BIND, BIND.len(), Some(0)), Some(Heard::Lost));
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_variables_are_read(path in "/[a-z0-9:./]{0,40}", words in "([A-Z_]{1,12}=[ -~]{0,20}\0){0,8}") {
            let message = format!("change@{path}\0{words}");
            prop_assert_eq!(parse(message.as_bytes()).map(|event| event.devpath), Some(path));
        }
    }

    /// Where the kernel lets us listen and speak: its answer to a written
    /// `uevent` file arrives.
    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "a test of the real kernel")]
    async fn the_kernel_is_heard() {
        let Ok(mut uevents) = Uevents::listen() else { return };
        if std::fs::write("/sys/class/mem/null/uevent", "change").is_err() {
            return;
        }
        let wait = async {
            loop {
                match uevents.next().await.unwrap() {
                    Heard::Event(event) if event.devpath.ends_with("/mem/null") => return event,
                    Heard::Event(_) | Heard::Lost => {}
                }
            }
        };
        // In a namespace of its own the kernel does not answer.
        if let Ok(event) = tokio::time::timeout(std::time::Duration::from_secs(2), wait).await {
            assert_eq!((event.action, event.subsystem.as_str()), (Action::Change, "mem"));
        }
    }
}

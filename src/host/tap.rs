//! Taps: network interfaces whose other end is a process. One is made before
//! QEMU starts, belongs to its user, and is joined to a bridge; QEMU opens it
//! by name (`linux/if_tun.h`, `netdevice(7)`, `linux/sockios.h`).
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    unsafe_code,
    reason = "this is the door; ioctls, each given a number or a structure that \
              outlives the call; their flags are of 15 bits"
)]

use std::ffi::{CString, c_char, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The file that taps are made with.
pub const TUN: &str = "/dev/net/tun";

use ioctl::{
    bridge_add, get_flags, get_index, get_mtu, set_flags, set_mtu, tun_set_iff, tun_set_owner,
    tun_set_persist,
};

mod ioctl {
    use std::ffi::c_int;

    nix::ioctl_write_ptr_bad!(
        tun_set_iff,
        nix::request_code_write!(b'T', 202, size_of::<c_int>()),
        libc::ifreq
    );
    nix::ioctl_write_int_bad!(
        tun_set_persist,
        nix::request_code_write!(b'T', 203, size_of::<c_int>())
    );
    nix::ioctl_write_int_bad!(
        tun_set_owner,
        nix::request_code_write!(b'T', 204, size_of::<c_int>())
    );
    nix::ioctl_readwrite_bad!(get_flags, libc::SIOCGIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    nix::ioctl_readwrite_bad!(get_mtu, libc::SIOCGIFMTU, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
    nix::ioctl_readwrite_bad!(get_index, libc::SIOCGIFINDEX, libc::ifreq);
    nix::ioctl_write_ptr_bad!(bridge_add, 0x89a2, libc::ifreq);
}

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct TapError {
    /// What was tried.
    pub what: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// Turns an error into one that says what was tried.
fn trying<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> TapError {
    |error| TapError { what: what.into(), source: error.into() }
}

/// Makes a tap that `uid` may open, as a port of a bridge; one of this name
/// that is there is used. It stays until it is removed.
pub fn make(name: &str, uid: u32, bridge: &str) -> Result<(), TapError> {
    let socket = socket()?;
    let mut about_bridge = request(bridge)?;
    let looked = trying(format!("find the bridge {bridge}"));
    // SAFETY: the kernel fills the structure in.
    unsafe { get_mtu(socket.as_raw_fd(), &raw mut about_bridge) }.map_err(looked)?;
    let was_there = exists(&socket, name)?;
    let made = build(&socket, name, uid, bridge, &about_bridge);
    if made.is_err() && !was_there {
        // The reason why is the error to report.
        let _ = remove(name);
    }
    made
}

fn build(
    socket: &OwnedFd,
    name: &str,
    uid: u32,
    bridge: &str,
    about_bridge: &libc::ifreq,
) -> Result<(), TapError> {
    let tun = attach(name)?;
    let owner = c_int::try_from(uid).map_err(io::Error::other);
    let owner = owner.map_err(trying(format!("give {name} to user {uid}")))?;
    let gave = trying(format!("give {name} to user {uid}"));
    // SAFETY: a number.
    unsafe { tun_set_owner(tun.as_raw_fd(), owner) }.map_err(gave)?;
    // SAFETY: a number.
    unsafe { tun_set_persist(tun.as_raw_fd(), 1) }.map_err(trying(format!("keep {name}")))?;
    // A bridge takes the smallest of its ports: ours must not make it smaller.
    let mut mtu = request(name)?;
    mtu.ifr_ifru = about_bridge.ifr_ifru;
    let sized = trying(format!("set the MTU of {name} to that of {bridge}"));
    // SAFETY: the structure outlives the call; its union has the bridge's MTU.
    unsafe { set_mtu(socket.as_raw_fd(), &raw const mtu) }.map_err(sized)?;
    let mut flags = request(name)?;
    // SAFETY: the kernel fills the structure in.
    unsafe { get_flags(socket.as_raw_fd(), &raw mut flags) }
        .map_err(trying(format!("look at {name}")))?;
    // SAFETY: the flags are what the call above has filled in.
    unsafe { flags.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: the structure outlives the call.
    unsafe { set_flags(socket.as_raw_fd(), &raw const flags) }
        .map_err(trying(format!("switch {name} on")))?;
    let mut index = request(name)?;
    // SAFETY: the kernel fills the structure in.
    unsafe { get_index(socket.as_raw_fd(), &raw mut index) }
        .map_err(trying(format!("look at {name}")))?;
    let mut port = request(bridge)?;
    port.ifr_ifru = index.ifr_ifru;
    // SAFETY: the structure outlives the call; its union has the tap's index.
    match unsafe { bridge_add(socket.as_raw_fd(), &raw const port) } {
        // A port already: of this bridge, since nobody else has a tap of this name.
        Ok(_) | Err(nix::Error::EBUSY) => Ok(()),
        Err(error) => Err(trying(format!("join {name} to the bridge {bridge}"))(error)),
    }
}

/// Removes a tap; that it is not there is fine.
pub fn remove(name: &str) -> Result<(), TapError> {
    if !exists(&socket()?, name)? {
        return Ok(());
    }
    let tun = attach(name)?;
    let gone = trying(format!("remove {name}"));
    // SAFETY: a number.
    unsafe { tun_set_persist(tun.as_raw_fd(), 0) }.map(drop).map_err(gone)
}

/// Whether there is an interface of this name, whatever it is.
fn exists(socket: &OwnedFd, name: &str) -> Result<bool, TapError> {
    let mut index = request(name)?;
    // SAFETY: the kernel fills the structure in.
    match unsafe { get_index(socket.as_raw_fd(), &raw mut index) } {
        Ok(_) => Ok(true),
        Err(nix::Error::ENODEV) => Ok(false),
        Err(error) => Err(trying(format!("look for {name}"))(error)),
    }
}

/// The process's end of a tap, which is made if it is not there.
fn attach(name: &str) -> Result<File, TapError> {
    let tun = OpenOptions::new().read(true).write(true).open(TUN);
    let tun = tun.map_err(trying(format!("open {TUN}")))?;
    let mut this = request(name)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    this.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the structure outlives the call.
    unsafe { tun_set_iff(tun.as_raw_fd(), &raw const this) }
        .map_err(trying(format!("make the tap {name}")))?;
    Ok(tun)
}

/// Any socket: the kernel takes it for its network.
fn socket() -> Result<OwnedFd, TapError> {
    let made = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    made.map_err(trying("open a socket"))
}

/// What the ioctls take: a name, and nothing else yet.
fn request(name: &str) -> Result<libc::ifreq, TapError> {
    let fits =
        CString::new(name).ok().filter(|c| c.count_bytes() < libc::IFNAMSIZ && !name.is_empty());
    let Some(text) = fits else {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(TapError { what: format!("call an interface `{name}`"), source });
    };
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name.iter_mut().zip(text.as_bytes()) {
        *to = c_char::from_ne_bytes([*from]);
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 };
    Ok(libc::ifreq { ifr_name, ifr_ifru })
}

#[cfg(test)]
mod tests {
    use super::*;

    nix::ioctl_write_ptr_bad!(add_bridge, 0x89a0, c_char);

    /// Runs in a network of its own, which ends with its thread. The machine's
    /// own network is never touched.
    fn elsewhere<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(|| {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                assert_eq!(error, nix::Error::EPERM);
                eprintln!("skipped: only root has a network of its own");
                return None;
            }
            Some(run())
        });
        thread.join().unwrap()
    }

    fn bridge(name: &str) -> Result<(), TapError> {
        let name = CString::new(name).unwrap();
        // SAFETY: a string that outlives the call.
        let made = unsafe { add_bridge(socket()?.as_raw_fd(), name.as_ptr()) };
        made.map(drop).map_err(trying("make a bridge"))
    }

    #[test]
    fn is_made_twice_and_removed_twice() {
        elsewhere(|| {
            if let Err(error) = bridge("br0").and_then(|()| attach("probe").map(drop)) {
                eprintln!("skipped: this kernel has no bridges or no taps: {error}");
                return;
            }
            let there = || exists(&socket().unwrap(), "hd-1").unwrap();
            make("hd-1", 54_321, "br0").unwrap();
            make("hd-1", 54_321, "br0").unwrap();
            assert!(there());
            let mut flags = request("hd-1").unwrap();
            // SAFETY: the kernel fills the structure in.
            unsafe { get_flags(socket().unwrap().as_raw_fd(), &raw mut flags) }.unwrap();
            // SAFETY: as filled in.
            let flags = c_int::from(unsafe { flags.ifr_ifru.ifru_flags });
            assert_eq!(flags & libc::IFF_UP, libc::IFF_UP);
            remove("hd-1").unwrap();
            remove("hd-1").unwrap();
            assert!(!there());
        });
    }

    #[test]
    fn without_its_bridge_nothing_is_made() {
        elsewhere(|| {
            let error = make("hd-1", 0, "none").unwrap_err();
            assert_eq!(error.to_string(), "cannot find the bridge none");
            assert!(!exists(&socket().unwrap(), "hd-1").unwrap());
        });
    }

    #[test]
    fn names_are_what_the_kernel_takes() {
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert!(request(name).is_err(), "{name:?}");
        }
        assert!(request("fifteen-letters").is_ok());
    }
}

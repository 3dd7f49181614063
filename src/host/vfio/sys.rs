//! VFIO's ioctls, each behind a function that can be called with anything.
#![allow(
    unsafe_code,
    reason = "ioctls; each is given a number, a structure whose size it is told in `argsz`, or \
              bytes that outlive the call, and the kernel checks the kind of file itself"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_device_info, vfio_group_status, vfio_irq_info, vfio_region_info,
};

/// The number of an ioctl: VFIO's carry no size.
const fn number(offset: u32) -> nix::sys::ioctl::ioctl_num_type {
    nix::request_code_none!(VFIO_TYPE, VFIO_BASE + offset)
}

nix::ioctl_none_bad!(get_api_version, number(0));
nix::ioctl_write_int_bad!(check_extension, number(1));
nix::ioctl_write_int_bad!(iommu, number(2));
nix::ioctl_readwrite_bad!(group_get_status, number(3), vfio_group_status);
nix::ioctl_write_ptr_bad!(group_set_container, number(4), libc::c_int);
nix::ioctl_write_ptr_bad!(group_get_device_fd, number(6), libc::c_char);
nix::ioctl_readwrite_bad!(device_get_info, number(7), vfio_device_info);
nix::ioctl_readwrite_bad!(device_get_region_info, number(8), vfio_region_info);
nix::ioctl_readwrite_bad!(device_get_irq_info, number(9), vfio_irq_info);
nix::ioctl_readwrite_bad!(device_get_pci_hot_reset_info, number(12), u32);
nix::ioctl_write_ptr_bad!(device_pci_hot_reset, number(13), u32);

/// The size of a structure, as it says itself.
fn size<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

/// Version of the interface.
pub(super) fn api_version(container: &File) -> io::Result<i32> {
    // SAFETY: no argument.
    Ok(unsafe { get_api_version(container.as_raw_fd()) }?)
}

/// Whether a kind of IOMMU is there.
pub(super) fn has_extension(container: &File, kind: u32) -> io::Result<bool> {
    let kind = i32::try_from(kind).map_err(io::Error::other)?;
    // SAFETY: a number.
    Ok(unsafe { check_extension(container.as_raw_fd(), kind) }? > 0)
}

/// The flags of a group.
pub(super) fn group_flags(group: &File) -> io::Result<u32> {
    let mut status = vfio_group_status { argsz: size::<vfio_group_status>(), flags: 0 };
    // SAFETY: the structure knows its size.
    unsafe { group_get_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags)
}

/// Puts a group into a container.
pub(super) fn set_container(group: &File, container: &File) -> io::Result<()> {
    let container = container.as_raw_fd();
    // SAFETY: the number lives through the call.
    unsafe { group_set_container(group.as_raw_fd(), &raw const container) }?;
    Ok(())
}

/// Chooses a container's kind of IOMMU.
pub(super) fn set_iommu(container: &File, kind: u32) -> io::Result<()> {
    let kind = i32::try_from(kind).map_err(io::Error::other)?;
    // SAFETY: a number.
    unsafe { iommu(container.as_raw_fd(), kind) }?;
    Ok(())
}

/// Opens a device of a group; the kernel resets it.
pub(super) fn device(group: &File, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: a text with its end mark, which lives through the call.
    let fd = unsafe { group_get_device_fd(group.as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: a new file that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a device says of itself.
pub(super) fn device_info(device: &OwnedFd) -> io::Result<vfio_device_info> {
    let mut info =
        vfio_device_info { argsz: size::<vfio_device_info>(), ..vfio_device_info::default() };
    // SAFETY: the structure knows its size.
    unsafe { device_get_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// What a device says of a part of its memory.
pub(super) fn region_info(device: &OwnedFd, index: u32) -> io::Result<vfio_region_info> {
    let mut info = vfio_region_info {
        argsz: size::<vfio_region_info>(),
        index,
        ..vfio_region_info::default()
    };
    // SAFETY: the structure knows its size; what has no room is left out.
    unsafe { device_get_region_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// How many interrupts of a kind a device has.
pub(super) fn irq_count(device: &OwnedFd, index: u32) -> io::Result<u32> {
    let mut info =
        vfio_irq_info { argsz: size::<vfio_irq_info>(), index, ..vfio_irq_info::default() };
    // SAFETY: the structure knows its size.
    unsafe { device_get_irq_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info.count)
}

/// Fills `buffer`, whose first word is its size in bytes, with what a hot
/// reset would reset.
pub(super) fn hot_reset_info(device: &OwnedFd, buffer: &mut [u32]) -> io::Result<()> {
    let told = buffer.first().copied().unwrap_or_default();
    if u32::try_from(size_of_val(buffer)).ok() != Some(told) || buffer.len() < super::HEAD {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the kernel writes at most as many bytes as the first word says,
    // which is the length of the buffer.
    unsafe { device_get_pci_hot_reset_info(device.as_raw_fd(), buffer.as_mut_ptr()) }?;
    Ok(())
}

/// Resets the device with all that hangs on its bus. `groups` are the open
/// groups of all of them: the proof that nobody else has one.
pub(super) fn hot_reset(device: &OwnedFd, groups: &[File]) -> io::Result<()> {
    // `struct vfio_pci_hot_reset`: its size, flags, how many, and the files.
    let count = u32::try_from(groups.len()).map_err(io::Error::other)?;
    let told = (3 + count).checked_mul(4).ok_or(io::ErrorKind::InvalidInput)?;
    let mut buffer = vec![told, 0, count];
    for group in groups {
        buffer.push(u32::try_from(group.as_raw_fd()).map_err(io::Error::other)?);
    }
    // SAFETY: the buffer is as long as its first word says, and lives through the call.
    unsafe { device_pci_hot_reset(device.as_raw_fd(), buffer.as_ptr()) }?;
    Ok(())
}

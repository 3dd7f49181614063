//! `vm import`: a VM of libvirt or Proxmox as a VM file.

use std::path::Path;

use crate::ask::{Code, Refusal};
use crate::base::Name;
use crate::config::import::{Imported, import};

/// Makes a VM file of a file that a person names; nothing is written.
pub fn vm_import(file: &Path, name: Option<&Name>) -> Result<Imported, Refusal> {
    let bytes = super::bytes(file)?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    import(&bytes, name, &stem.unwrap_or_default()).map_err(|error| {
        let message = format!("cannot import {}: {error}", file.display());
        let hint = "of libvirt: `virsh dumpxml --inactive NAME`; of Proxmox: \
                    /etc/pve/qemu-server/NUMBER.conf";
        Refusal::new(Code::Usage, message, hint)
    })
}

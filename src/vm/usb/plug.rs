//! One USB device, given to a running QEMU or taken from it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::config::UsbRef;
pub use crate::vm::argv::usb_id as id;
use crate::vm::qmp::wire::Command;
use crate::vm::qmp::{Qmp, QmpError};

/// How long QEMU may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a device may take to come or go. QEMU looks for those that are not
/// there every two seconds (`hw/usb/host-libusb.c`).
const SETTLE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The controller's bus on every command line of hostd.
const BUS: &str = "usb.0";
/// Where QEMU keeps devices that have a name.
const NAMED: &str = "/machine/peripheral";

/// The device that a name of QEMU's stands for, if hostd has made that name.
pub fn reference(name: &str) -> Option<UsbRef> {
    let words = name.strip_prefix("usb-")?;
    let words = match words.strip_prefix("port-") {
        Some(port) => port.to_owned(),
        None => words.replacen('-', ":", 1),
    };
    super::choose::parse(&words).filter(|usb| id(usb) == name)
}

/// Why a device was not given.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// QEMU said no, or nothing.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// QEMU took it and could not open it, which it only tells its log.
    #[error("QEMU could not open the device")]
    NotOpened,
}

/// The names of the devices that QEMU was given.
pub async fn attached(qmp: &Qmp) -> Result<Vec<String>, QmpError> {
    let value = qmp.ask(Command::QomList { path: NAMED.to_owned() }, ANSWER).await?;
    let list = value.as_array().ok_or(QmpError::Strange { what: "qom-list" })?;
    let names = list.iter().filter_map(|entry| entry.get("name").and_then(Value::as_str));
    Ok(names.filter(|name| name.starts_with("usb-")).map(str::to_owned).collect())
}

/// Gives a device; false when QEMU had it. What cannot be opened is taken back.
pub async fn attach(qmp: &Qmp, usb: &UsbRef) -> Result<bool, Failure> {
    let id = id(usb);
    if attached(qmp).await?.contains(&id) {
        return if is_open(qmp, &id).await? { Ok(false) } else { Err(Failure::NotOpened) };
    }
    let options = match usb {
        UsbRef::Id(vendor, product) => json!({ "vendorid": vendor, "productid": product }),
        UsbRef::Port { bus, path } => json!({ "hostbus": bus, "hostport": path }),
    };
    let add = Command::DeviceAdd { driver: "usb-host", id: id.clone(), bus: BUS, options };
    qmp.ask(add, ANSWER).await?;
    let until = Instant::now() + SETTLE;
    while !is_open(qmp, &id).await? {
        if Instant::now() >= until {
            detach(qmp, &id).await?;
            return Err(Failure::NotOpened);
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}

async fn is_open(qmp: &Qmp, id: &str) -> Result<bool, QmpError> {
    let get = Command::QomGet { path: format!("{NAMED}/{id}"), property: "attached" };
    Ok(qmp.ask(get, ANSWER).await? == Value::Bool(true))
}

/// Takes a device back; returns when QEMU has let go of it.
pub async fn detach(qmp: &Qmp, id: &str) -> Result<(), QmpError> {
    qmp.ask(Command::DeviceDel { id: id.to_owned() }, ANSWER).await?;
    let until = Instant::now() + SETTLE;
    while attached(qmp).await?.iter().any(|name| name == id) {
        if Instant::now() >= until {
            return Err(QmpError::Silent { what: "device_del", within: SETTLE });
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

//! Which device a person means.

use super::read::{UsbDevice, parse_port};
use crate::ask::{Code, Refusal};
use crate::config::UsbRef;

const LIST: &str = "`hostctl usb list` shows what is plugged in";

/// An id (`046d:c52b`) or a port (`1-2.3`), whether anything is there or not.
pub fn parse(words: &str) -> Option<UsbRef> {
    if let Some((vendor, product)) = words.split_once(':') {
        let hex = |text: &str| {
            let good = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u16::from_str_radix(text, 16).ok().filter(|_| good)
        };
        return Some(UsbRef::Id(hex(vendor)?, hex(product)?));
    }
    parse_port(words).map(|(bus, path)| UsbRef::Port { bus, path })
}

/// The one device that these words mean: an id, a port, or a part of its name
/// or serial number. One that was named by its id is given by its id, in
/// whichever port it is; any other by its port.
pub fn choose<'a>(
    devices: &'a [UsbDevice],
    words: &str,
) -> Result<(UsbRef, &'a UsbDevice), Refusal> {
    let words = words.trim();
    let reference = parse(words);
    let wanted = words.to_lowercase();
    let fits = |device: &&UsbDevice| {
        if let Some(usb) = &reference {
            return device.is(usb);
        }
        let serial = device.serial.as_deref().unwrap_or_default();
        !wanted.is_empty() && format!("{} {serial}", device.name).to_lowercase().contains(&wanted)
    };
    let found: Vec<_> = devices.iter().filter(fits).collect();
    match found.as_slice() {
        [device] => {
            let by_id = matches!(reference, Some(UsbRef::Id(..)));
            let id = UsbRef::Id(device.vendor, device.product);
            Ok((if by_id { id } else { device.at_port() }, device))
        }
        [] => {
            let message = format!("no USB device is `{words}`, by its id, its port or its name");
            Err(Refusal::new(Code::NotFound, message, LIST))
        }
        several => {
            let list: Vec<_> = several.iter().map(|device| device.label()).collect();
            let message = format!("`{words}` may be any of: {}", list.join("; "));
            Err(Refusal::new(Code::Refused, message, "name it by its port"))
        }
    }
}

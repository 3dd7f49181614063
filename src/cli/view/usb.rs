//! `hostctl usb list`.

use super::table::{cell, table};
use super::{Look, printable};
use crate::ask::view::{UsbDeviceView, UsbView};

fn used_by(device: &UsbDeviceView) -> String {
    match &device.used_by {
        Some(vm) => format!("vm {vm}"),
        None if device.drivers.is_empty() => "-".to_owned(),
        None => cell(&device.drivers.join(" ")),
    }
}

pub fn list(view: &UsbView, look: Look) -> String {
    let mut text = if view.devices.is_empty() && view.notes.is_empty() {
        "no USB devices\n".to_owned()
    } else {
        let rows = view.devices.iter().map(|device| {
            let serial = device.serial.as_deref().map_or_else(|| "-".to_owned(), cell);
            [device.id.clone(), device.port.clone(), used_by(device), serial, cell(&device.name)]
        });
        table(["ID", "PORT", "USED BY", "SERIAL", "NAME"], rows, look)
    };
    for note in &view.notes {
        text += &printable(note);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::UsbView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn usb() {
        insta::assert_snapshot!("usb_list", shown(&Reply::Usb(samples::usb()), Detail::List));
        let none = Reply::Usb(UsbView::default());
        assert_eq!(shown(&none, Detail::List), "no USB devices\n");
        let unread =
            UsbView { notes: vec!["USB devices cannot be read".into()], ..UsbView::default() };
        assert!(shown(&Reply::Usb(unread), Detail::List).contains("cannot be read"));
    }
}

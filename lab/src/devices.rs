//! [`Lab`]: what comes, goes or stops under it: disks, cards, the network, the
//! processors; and QEMU's monitor, by which all that is done.

use crate::{
    argv,
    lab::{Lab, lock},
    qmp::Qmp,
    spec::CardKind,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// QEMU's own answers; the guest's cooperation where a device comes or goes.
const MONITOR: Duration = Duration::from_secs(10);
const HOTPLUG: Duration = Duration::from_secs(60);

impl Lab {
    /// A command of QEMU's monitor.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.with_qmp(|qmp| qmp.execute(command, arguments, MONITOR))
    }

    pub fn pause(&self) -> Result<()> {
        self.qmp("stop", json!({})).map(drop)
    }

    pub fn resume(&self) -> Result<()> {
        self.qmp("cont", json!({})).map(drop)
    }

    /// Plugs or unplugs the network cable.
    pub fn network(&self, on: bool) -> Result<()> {
        ensure!(self.spec.network, "this lab has no network: boot it with one");
        self.qmp("set_link", json!({"name": "net0", "up": on})).map(drop)
    }

    /// The port on 127.0.0.1 that leads to this TCP port of the guest.
    pub fn port(&self, guest: u16) -> Result<u16> {
        if let Some(forward) =
            self.spec.forwards.iter().find(|forward| forward.guest == guest && forward.host != 0)
        {
            return Ok(forward.host);
        }
        let table = self.qmp("human-monitor-command", json!({"command-line": "info usernet"}))?;
        // TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15 5555  0  0
        let table = table.as_str().unwrap_or_default();
        table
            .lines()
            .filter(|line| line.contains("HOST_FORWARD"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.get(5).is_some_and(|port| *port == guest.to_string()))
            .and_then(|words| words.get(3)?.parse().ok())
            .with_context(|| {
                format!("the lab forwards nothing to its port {guest}; QEMU says:\n{table}")
            })
    }

    /// Takes disk `number` away, data and all, as if pulled.
    pub fn unplug_disk(&self, number: usize) -> Result<()> {
        self.check_disk(number)?;
        self.unplug(&format!("disk{number}"))?;
        self.qmp("blockdev-del", json!({"node-name": format!("node-disk{number}")})).map(drop)
    }

    /// Puts disk `number` back, with the data it had.
    pub fn plug_disk(&self, number: usize) -> Result<()> {
        self.check_disk(number)?;
        self.qmp("blockdev-add", argv::disk_blockdev(&self.run, number))?;
        self.qmp("device_add", argv::disk_device(number)).map(drop)
    }

    /// What NVMe disk `number` warns of from now on: the bits of *critical
    /// warning* in its health log (NVM Express base specification, figure "SMART /
    /// Health Information Log Page").
    pub fn nvme_warns(&self, number: usize, bits: u8) -> Result<()> {
        ensure!(
            number < self.spec.nvme,
            "there is no nvme{number}: the lab has {}",
            self.spec.nvme
        );
        let set = json!({"path": format!("/machine/peripheral/nvme{number}"),
                         "property": "smart_critical_warning", "value": bits});
        self.qmp("qom-set", set).map(drop)
    }

    /// Takes card `index` (from 0) away, with its audio function. QEMU can
    /// unplug only `Secondary0380`; the others are removed by their own kernel,
    /// which to everything above the PCI bus looks the same.
    pub fn unplug_card(&self, index: usize) -> Result<()> {
        let devices = self.card(index)?;
        if !self.hotpluggable(index) {
            return self.run_ok(&removal(index, devices.len())).map(drop);
        }
        self.unplug(&format!("card{index}"))?;
        // QEMU announces only the function that was asked for.
        let end = Instant::now() + HOTPLUG;
        while self
            .qmp("qom-list", json!({"path": "/machine/peripheral"}))?
            .to_string()
            .contains(&format!("\"card{index}-audio\""))
        {
            ensure!(
                Instant::now() < end,
                "the guest does not let go of card{index}'s audio function"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn plug_card(&self, index: usize) -> Result<()> {
        let devices = self.card(index)?;
        if !self.hotpluggable(index) {
            return self.run_ok("echo 1 > /sys/bus/pci/rescan").map(drop);
        }
        for device in devices {
            self.qmp("device_add", device)?;
        }
        Ok(())
    }

    /// Plugs a USB device of QEMU's (`usb-kbd`, `usb-mouse`) into a port.
    pub fn plug_usb(&self, driver: &str, id: &str, port: u8) -> Result<()> {
        ensure!(self.spec.usb, "this lab has no USB controller: boot it with one");
        let device = json!({"driver": driver, "id": id, "bus": "usb.0", "port": port.to_string()});
        self.qmp("device_add", device).map(drop)
    }

    /// Pulls it out; the guest is not asked.
    pub fn unplug_usb(&self, id: &str) -> Result<()> {
        self.unplug(id)
    }

    fn hotpluggable(&self, index: usize) -> bool {
        self.spec.cards.get(index).is_some_and(|card| card.kind == CardKind::Secondary0380)
    }

    fn with_qmp<T>(&self, action: impl FnOnce(&mut Qmp) -> Result<T>) -> Result<T> {
        ensure!(self.running(), "the lab is not running");
        let mut qmp = lock(&self.qmp);
        if qmp.is_none() {
            *qmp = Some(Qmp::connect(&self.run.qmp(), MONITOR)?);
        }
        action(qmp.as_mut().context("no connection to QEMU's monitor")?)
    }

    fn unplug(&self, device: &str) -> Result<()> {
        let result = self.with_qmp(|qmp| {
            qmp.execute("device_del", json!({"id": device}), MONITOR)?;
            qmp.event(HOTPLUG, |name, data| name == "DEVICE_DELETED" && data["device"] == device)
                .with_context(|| format!("waiting for the guest to let go of {device}"))
        });
        result.map(drop).map_err(|error| self.explain(error, format!("unplugging {device}")))
    }

    fn check_disk(&self, number: usize) -> Result<()> {
        ensure!(
            number < self.spec.disks,
            "there is no disk{number}: the lab has {}",
            self.spec.disks
        );
        Ok(())
    }

    fn card(&self, index: usize) -> Result<Vec<Value>> {
        let devices = argv::card_devices(&self.spec, index);
        ensure!(
            !devices.is_empty(),
            "there is no card{index}: the lab has {}",
            self.spec.cards.len()
        );
        Ok(devices)
    }
}

/// The functions of a card, the last first, leave the bus.
fn removal(index: usize, functions: usize) -> String {
    let remove = |function| {
        format!("echo 1 > /sys/bus/pci/devices/0000:{:02x}:00.{function}/remove", index + 1)
    };
    (0..functions).rev().map(remove).collect::<Vec<_>>().join(" && ")
}

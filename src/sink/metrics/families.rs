//! Which of hostd's own services is which family of metrics.

/// A family, and the services that it is made of.
pub(super) struct Family {
    /// As in the catalogue of events; `<…>` is a label.
    pub(super) service: &'static str,
    /// Ends in the unit, if there is one.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
}

const fn family(
    service: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Family {
    Family { service, name, unit, help }
}

/// Labels that may hold spaces.
const SPACED: [&str; 2] = ["zpool", "mount"];

/// The first that fits counts.
pub(super) const FAMILIES: &[Family] = &[
    family("hostd", "hostd_unavailable", "", "Things that hostd cannot do here."),
    family(
        "zpool <zpool> health",
        "hostd_zpool_tolerated_failures",
        "",
        "Devices that may still fail without loss.",
    ),
    family("zpool <zpool> capacity", "hostd_zpool_used_ratio", "ratio", "Used part of the pool."),
    family(
        "zpool <zpool> errors",
        "hostd_zpool_errors",
        "",
        "Read, write and checksum errors counted by its disks.",
    ),
    family(
        "zpool <zpool> scan",
        "hostd_zpool_scan_done_ratio",
        "ratio",
        "How far the scrub or resilver is.",
    ),
    family(
        "zpool <zpool> scrub age",
        "hostd_zpool_scrub_age_days",
        "days",
        "Since the last scrub ended.",
    ),
    family("smart <disk>", "hostd_disk_temperature_celsius", "celsius", "The disk's temperature."),
    family("vm <vm> agent", "hostd_vm_agent_up", "", "Whether the guest agent speaks."),
    family("vm <vm> cpu", "hostd_vm_cpu_ratio", "ratio", "How busy the VM's processors were."),
    family(
        "vm <vm> memory",
        "hostd_vm_memory_bytes",
        "bytes",
        "The host's memory that the VM has.",
    ),
    family(
        "vm <vm> disk <disk>",
        "hostd_vm_disk_bytes_per_second",
        "bytes_per_second",
        "Read and written.",
    ),
    family("vm <vm>", "hostd_vm_running", "", "Whether the VM runs."),
    family("gpu <gpu> busy", "hostd_gpu_busy_ratio", "ratio", "How busy the card was."),
    family(
        "gpu <gpu> memory",
        "hostd_gpu_memory_used_ratio",
        "ratio",
        "Used part of the card's memory.",
    ),
    family("gpu <gpu> frequency", "hostd_gpu_frequency_hertz", "hertz", "The card's clock."),
    family("gpu <gpu>", "hostd_gpu_bound", "", "Whether the card is bound to vfio-pci."),
    family("service <name> sessions", "hostd_service_sessions", "", "Live sessions."),
    family(
        "service <name>",
        "hostd_service_probe_seconds",
        "seconds",
        "How long its protocol took.",
    ),
    family("sink <sink>", "hostd_sink_waiting_events", "events", "What waits to be sent."),
    family("cpu", "hostd_cpu_busy_ratio", "ratio", "How busy the processors were."),
    family(
        "load",
        "hostd_load_per_processor",
        "",
        "Waiting and running threads for each processor, over a minute.",
    ),
    family(
        "memory",
        "hostd_memory_used_ratio",
        "ratio",
        "Used part of the memory, without what could be freed.",
    ),
    family("swap", "hostd_swap_used_ratio", "ratio", "Used part of the swap."),
    family("disk <mount>", "hostd_filesystem_used_ratio", "ratio", "Used part of the file system."),
    family(
        "inodes <mount>",
        "hostd_filesystem_inodes_used_ratio",
        "ratio",
        "Used part of its inodes.",
    ),
    family(
        "diskstats <disk> read bytes",
        "hostd_disk_read_bytes_per_second",
        "bytes_per_second",
        "Read from the disk.",
    ),
    family(
        "diskstats <disk> write bytes",
        "hostd_disk_written_bytes_per_second",
        "bytes_per_second",
        "Written to the disk.",
    ),
    family("diskstats <disk> io util", "hostd_disk_busy_ratio", "ratio", "How busy the disk was."),
    family(
        "<interface> rx bytes",
        "hostd_network_received_bytes_per_second",
        "bytes_per_second",
        "Received.",
    ),
    family(
        "<interface> tx bytes",
        "hostd_network_sent_bytes_per_second",
        "bytes_per_second",
        "Sent.",
    ),
    family("<interface> link", "hostd_network_link_up", "", "Whether the interface is up."),
    family("uptime", "hostd_uptime_seconds", "seconds", "Since the machine started."),
    family(
        "time sync",
        "hostd_clock_error_seconds",
        "seconds",
        "What the clock is known to be off by.",
    ),
    family("failed units", "hostd_failed_units", "", "systemd's failed units."),
    family(
        "pending reboot",
        "hostd_pending_reboot",
        "",
        "Whether the machine waits for a restart.",
    ),
];

impl Family {
    /// The labels of a service, if it is of this family.
    pub(super) fn labels<'a>(&self, service: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
        let mut labels = Vec::new();
        let (mut pattern, mut rest) = (self.service, service);
        while let Some((before, after)) = pattern.split_once('<') {
            let (label, behind) = after.split_once('>')?;
            rest = rest.strip_prefix(before)?;
            // Up to the words that follow, or to the end.
            let literal = behind.split('<').next().unwrap_or_default();
            let last = literal.len() == behind.len();
            let value;
            (value, rest) = match (last, literal) {
                (true, "") => (rest, ""),
                (true, _) => (rest.strip_suffix(literal)?, literal),
                (false, _) => rest.split_at_checked(rest.find(literal)?)?,
            };
            let spaces = SPACED.contains(&label);
            if value.is_empty() || (value.contains(' ') && !spaces) {
                return None;
            }
            labels.push((label, value));
            pattern = behind;
        }
        (rest == pattern).then_some(labels)
    }
}

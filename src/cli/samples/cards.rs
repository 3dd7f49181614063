//! Groups, cards, the doctor and the boot setup.

use std::collections::BTreeMap;

use crate::ask::view::{
    AcsView, BarView, BootAction, BootFileView, BootFunctionView, BootGpuView, BootPlanView,
    BootStatusView, CardView, CheckView, DetailView, DeviceView, DoctorView, FindingView,
    GpuQuirksView, GpuView, GpusView, GroupDetailView, GroupView, HopView, IommuView, LinkView,
    PartView, PlanView, QuirkView, QuirksView, RegionView, RomBarView, RomImageView, RomView,
    Verdict,
};
use crate::base::Severity;

fn device(address: &str, driver: Option<&str>, class: &str, name: &str) -> DeviceView {
    DeviceView {
        address: address.parse().unwrap(),
        vendor: "1002".into(),
        device: "5046".into(),
        class: class.into(),
        name: name.into(),
        driver: driver.map(Into::into),
        boot_vga: class.starts_with("0300").then_some(false),
        class_name: String::new(),
        subsystem: None,
        subsystem_name: None,
        detail: None,
    }
}

pub fn iommu() -> IommuView {
    IommuView {
        groups: vec![
            GroupView {
                id: 0,
                verdict: Verdict::Blocked,
                reason: "00:02.0 drives the host's display".into(),
                devices: vec![DeviceView {
                    boot_vga: Some(true),
                    ..device("0000:00:02.0", Some("i915"), "030000", "Intel UHD Graphics 630")
                }],
                by_override: false,
                warnings: Vec::new(),
                detail: None,
            },
            GroupView {
                id: 11,
                verdict: Verdict::Shared,
                reason: "also holds 0000:02:00.0 (nvme), which would go along\nmove the card to another slot".into(),
                devices: vec![
                    device("0000:01:00.0", Some("vfio-pci"), "030000", "ATI Rage 128 Pro"),
                    device("0000:01:00.1", None, "040300", "ATI HDMI Audio"),
                    device("0000:02:00.0", Some("nvme"), "010802", "Samsung SSD 980"),
                ],
                by_override: false,
                warnings: Vec::new(),
                detail: None,
            },
        ],
        notes: Vec::new(),
    }
}

fn detail() -> DetailView {
    let link = |speed: &str, width| Some(LinkView { speed: speed.into(), width });
    let bar = |index, size, kind: &str, sizes: Option<Vec<u64>>| BarView {
        index,
        start: "0xe0000000".into(),
        size,
        kind: kind.into(),
        is_64_bit: kind == "memory",
        prefetchable: kind == "memory",
        sizes,
    };
    DetailView {
        reset_methods: Some(vec!["flr".into(), "bus".into()]),
        numa_node: Some(0),
        link: link("2.5 GT/s", 8),
        max_link: link("8.0 GT/s", 16),
        bars: Some(vec![
            bar(0, 256 << 20, "memory", Some(vec![256 << 20, 4 << 30])),
            bar(4, 256, "io", None),
        ]),
        rom: Some(RomBarView { size: 128 << 10, shadow: false }),
        power_state: Some("D0".into()),
        d3cold_allowed: Some(true),
        unknown: BTreeMap::new(),
    }
}

/// The same in full, and a group that is isolated on paper only.
pub fn iommu_full() -> IommuView {
    let mut view = iommu();
    let group = &mut view.groups[1];
    let picture = &mut group.devices[0];
    picture.class_name = "VGA compatible controller".into();
    picture.subsystem = Some("1da2:e353".into());
    picture.subsystem_name = Some("Sapphire Pulse".into());
    picture.detail = Some(detail());
    group.devices[1].detail = Some(DetailView {
        unknown: [("link", "needs root"), ("bars", "needs root"), ("bars[2].sizes", "needs root")]
            .map(|(key, why)| (key.to_owned(), why.to_owned()))
            .into(),
        ..DetailView::default()
    });
    let hop = |address: &str, kind: Option<&str>, acs| HopView {
        address: address.parse().unwrap(),
        kind: kind.map(Into::into),
        acs,
        offered: if acs == AcsView::On { vec!["source validation".into()] } else { Vec::new() },
        enabled: if acs == AcsView::On { vec!["source validation".into()] } else { Vec::new() },
        unknown: (acs == AcsView::Unknown).then(|| "needs root".into()),
    };
    group.warnings = vec!["firmware insists on 0x7b800000".into()];
    group.detail = Some(GroupDetailView {
        reserved_regions: Some(vec![RegionView {
            start: "0xfee00000".into(),
            end: "0xfeefffff".into(),
            kind: "msi".into(),
        }]),
        path: Some(vec![
            hop("0000:00:01.0", Some("root port"), AcsView::On),
            hop("0000:00:02.0", Some("root port"), AcsView::Missing),
            hop("0000:01:00.0", None, AcsView::Unknown),
        ]),
        explanation: vec!["0000:00:02.0 (root port): has no ACS".into()],
        unknown: BTreeMap::new(),
    });
    view.groups.push(GroupView {
        id: 12,
        verdict: Verdict::Isolated,
        reason: "isolated by override, not by hardware: 0000:03:00.0 can be given".into(),
        devices: vec![device("0000:03:00.0", None, "020000", "Intel 82574L")],
        by_override: true,
        warnings: Vec::new(),
        detail: Some(GroupDetailView {
            unknown: [("reserved_regions".to_owned(), "needs root".to_owned())].into(),
            ..GroupDetailView::default()
        }),
    });
    view
}

fn card() -> CardView {
    let part = |address: &str, class: &str, class_name: &str, name: &str| PartView {
        address: address.parse().unwrap(),
        class: class.into(),
        class_name: class_name.into(),
        name: name.into(),
        driver: Some("vfio-pci".into()),
        group: Some(11),
    };
    CardView {
        parts: vec![
            part("0000:01:00.0", "030000", "VGA compatible controller", "ATI Rage 128 Pro"),
            part("0000:01:00.1", "040300", "Audio device", "ATI HDMI Audio"),
        ],
        groups: vec![11],
        verdict: Some(Verdict::Isolated),
        reason: "0000:01:00.0, 0000:01:00.1 can be given to a guest alone".into(),
        boot_vga: Some(true),
        link: Some(LinkView { speed: "2.5 GT/s".into(), width: 8 }),
        max_link: Some(LinkView { speed: "8.0 GT/s".into(), width: 16 }),
        vram_bar: Some(256 << 20),
        rom: Some(true),
        vga_arbiter: Some("decodes io+mem, owns none, locks none".into()),
        warnings: vec!["the card is the boot display".into()],
    }
}

pub fn doctor() -> DoctorView {
    let check =
        |theme: &str, id: &str, object: &str, status, evidence: &str, fix: &str| CheckView {
            id: id.into(),
            status,
            evidence: evidence.into(),
            fix: fix.into(),
            title: id.replace('-', " "),
            object: object.into(),
            theme: theme.into(),
        };
    let kernel = "firmware and kernel";
    DoctorView {
        checks: vec![
            check(kernel, "iommu", "", Severity::Ok, "12 groups", ""),
            check(
                kernel,
                "cmdline",
                "",
                Severity::Warning,
                "/etc/default/grub says `iommu=pt`, and the running kernel has not got it",
                "update-grub, then restart",
            ),
            check(
                "KVM",
                "kvm-run",
                "",
                Severity::Critical,
                "it opens, and does not run a guest: the BMI2 guest: it died with \
                 KVM_EXIT_INTERNAL_ERROR, suberror 1",
                "look into `dmesg | grep -i kvm`",
            ),
            check("cards", "users", "radeon", Severity::Unknown, "needs root", "run it as root"),
        ],
        notes: vec!["no card is configured".into()],
    }
}

pub fn gpus() -> GpusView {
    let gpu = |name: &str, bound, problems: &[&str]| GpuView {
        name: name.into(),
        address: name.parse().unwrap_or_else(|_| "0000:01:00.0".parse().unwrap()),
        model: "ATI Rage 128 Pro".into(),
        functions: vec!["0000:01:00.0".parse().unwrap(), "0000:01:00.1".parse().unwrap()],
        driver: Some(if bound { "vfio-pci" } else { "amdgpu" }.into()),
        group: bound.then_some(11),
        bound,
        problems: problems.iter().map(|&problem| problem.into()).collect(),
        card: if bound { card() } else { CardView::default() },
    };
    GpusView {
        gpus: vec![
            gpu("radeon", true, &[]),
            gpu("0000:05:00.0", false, &["amdgpu did not take 0000:05:00.1 back: bind it by hand"]),
        ],
        notes: Vec::new(),
    }
}

pub fn quirks() -> QuirksView {
    let quirk = |function: &str, action: &str, source: &str, experimental| QuirkView {
        function: function.parse().unwrap(),
        id: "1002:67df".into(),
        action: action.into(),
        why: "It stays dead after a guest's end.".into(),
        source: source.into(),
        experimental,
    };
    let card = |name: &str, quirks| GpuQuirksView {
        name: name.into(),
        address: name.parse().unwrap_or_else(|_| "0000:01:00.0".parse().unwrap()),
        quirks,
    };
    QuirksView {
        gpus: vec![
            card(
                "radeon",
                vec![
                    quirk("0000:01:00.0", "reset: device-specific", "vendor-reset", false),
                    quirk("0000:01:00.1", "warn", "", true),
                ],
            ),
            card("0000:05:00.0", Vec::new()),
        ],
        notes: vec!["quirks.d/mine.yaml:1:1: unknown key `x`; the file is left out".into()],
    }
}

pub fn rom() -> RomView {
    let image = |offset, kind: &str, checksum, machine: Option<&str>| RomImageView {
        offset,
        length: 65_536,
        kind: kind.into(),
        vendor: "1002".into(),
        device: "67df".into(),
        devices: Vec::new(),
        last: machine.is_some(),
        checksum,
        machine: machine.map(str::to_owned),
    };
    RomView {
        file: "radeon.rom".into(),
        gpu: Some("radeon".into()),
        size: 131_072,
        usable: false,
        images: vec![image(0, "x86", Some(false), None), image(65_536, "efi", None, Some("x64"))],
        findings: vec![FindingView {
            severity: Severity::Critical,
            code: "checksum".into(),
            object: "image 0 at 0x0".into(),
            message: "its bytes do not add up to 0: it is damaged".into(),
            advice: "dump it again".into(),
        }],
        notes: vec!["12 bytes follow the last image".into()],
        ..RomView::default()
    }
}

pub fn plan() -> PlanView {
    PlanView {
        steps: vec![
            "write vfio-pci to driver_override of 0000:01:00.0".into(),
            "unbind 0000:01:00.0 from amdgpu".into(),
        ],
        warnings: vec!["the console on this card goes dark".into()],
    }
}

fn boot_gpus() -> Vec<BootGpuView> {
    let function = |address: &str, id: &str| BootFunctionView {
        address: address.parse().unwrap(),
        id: id.into(),
    };
    vec![BootGpuView {
        name: "radeon".into(),
        functions: vec![function("01:00.0", "1002:67df"), function("01:00.1", "1002:aaf0")],
    }]
}

pub fn boot_plan() -> BootPlanView {
    BootPlanView {
        gpus: boot_gpus(),
        words: vec!["iommu=pt".into()],
        files: vec![BootFileView {
            path: "/etc/kernel/cmdline".into(),
            action: BootAction::Change,
            diff: "--- /etc/kernel/cmdline\n+++ /etc/kernel/cmdline\n@@ -1 +1 @@\n-root=x ro\n+root=x \
                   ro iommu=pt\n"
                .into(),
        }],
        commands: vec!["update-initramfs -u -k all".into()],
        warnings: vec!["the host's own screen goes dark".into()],
    }
}

pub fn boot_status() -> BootStatusView {
    let check = |severity, code: &str, object: &str, message: &str, advice: &str| FindingView {
        severity,
        code: code.into(),
        object: object.into(),
        message: message.into(),
        advice: advice.into(),
    };
    BootStatusView {
        set_up: true,
        safe_mode: false,
        gpus: boot_gpus(),
        checks: vec![
            check(Severity::Ok, "card", "radeon", "is where it was", ""),
            check(
                Severity::Warning,
                "kernel-log",
                "0000:01:00.1",
                "snd_hda_intel had it first",
                "is that driver in the initramfs, and the rule not?",
            ),
        ],
    }
}

//! The whole room: files in, problems or a configuration out.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;

mod vm;

const HOST: &str = include_str!("../../etc/host.yaml");
const GAMING: &str = include_str!("../../vm-configs/gaming.yaml");
const TCG: &str = include_str!("../../vm-configs/tcg.yaml");
const CARD: &str = "gpus:\n  - {name: radeon, address: 0000:01:00.0}\n";

fn exists(path: &Path) -> Existence {
    match path.to_string_lossy().as_ref() {
        p if p.contains("missing") => Existence::Missing,
        p if p.ends_with("folder") || p == "/tank/media" => Existence::Folder,
        _ => Existence::File,
    }
}

fn two(host: &str, vm: &str) -> Vec<Source> {
    vec![Source::host("host.yaml", host), Source::vm("vms/gaming.yaml", vm)]
}

/// What a person sees.
fn said(sources: &[Source]) -> String {
    match load(sources, &exists) {
        Ok((_, warnings)) => format!("fine\n{warnings}"),
        Err(problems) => problems.to_string(),
    }
}

fn of_vm(text: &str) -> String {
    said(&two(CARD, text))
}

fn of_host(text: &str) -> String {
    said(&[Source::host("host.yaml", text)])
}

#[test]
fn a_misspelt_key_a_wrong_unit_and_a_missing_disk_in_one_message() {
    let text = "memroy: 16G\ncpus: 8\ngpu: radeon\n\ndisks:\n  - /dev/zvol/tank/missing\n\n\
                stop:\n  deadline: 60 seconds\n";
    insta::assert_snapshot!(of_vm(text));
    let problems = judge(&two(CARD, text), &exists).problems;
    insta::assert_json_snapshot!(problems.json());
}

#[test]
fn a_number_under_the_wrong_key_names_the_right_one() {
    let said = of_vm("memory: 1G\ncpu: 2\n");
    assert!(said.contains("did you mean `cpus: 2`?"), "{said}");
    let said = of_vm("memory: 1G\ncpus: 2\ncpu: 2\n");
    assert!(!said.contains("did you mean"), "{said}");
}

/// One file a mistake, so that each message can be read on its own.
#[test]
fn every_kind_of_mistake_in_a_vm_file() {
    let cases = [
        ("unknown key", "memory: 1G\ncolour: red\n"),
        ("nothing where a list may be", "memory: 1G\nusb:\n"),
        ("wrong indentation", "memory: 1G\ndeadline: 5s\n"),
        ("wrong indentation inwards", "memory: 1G\nstop:\n  cpus: 2\n"),
        ("missing key", "cpus: 2\n"),
        ("empty file", ""),
        ("no value", "memory:\n"),
        ("no unit", "memory: 4096\n"),
        ("wrong unit", "memory: 16GB\n"),
        ("fraction", "memory: 1.5G\n"),
        ("too little", "memory: 1M\n"),
        ("not whole megabytes", "memory: 20000K\n"),
        ("not a number", "memory: 1G\ncpus: many\n"),
        ("quoted number", "memory: 1G\ncpus: \"4\"\n"),
        ("out of range", "memory: 1G\ncpus: 0\n"),
        ("not a word known", "memory: 1G\naccel: kmv\n"),
        ("not a boolean", "memory: 1G\ndisks:\n  - {path: /a.raw, readonly: yes}\n"),
        ("not a list", "memory: 1G\ndisks: /a.raw\n"),
        ("not a mapping", "memory: 1G\nstop: 5s\n"),
        ("a list", "memory: [1G, 2G]\n"),
        ("a list for a word", "memory: 1G\naccel: [kvm]\n"),
        ("the whole file", "- memory: 1G\n"),
        ("one word for the file", "memory=1G\n"),
        ("neither word nor mapping", "memory: 1G\nnetwork: bridged\n"),
        ("unknown key in a mapping", "memory: 1G\nnetwork: {brige: br0}\n"),
        ("relative path", "memory: 1G\ndisks: [a.raw]\n"),
        ("missing key in an item", "memory: 1G\ndisks:\n  - format: raw\n"),
        ("folder", "memory: 1G\ndisks: [/a/folder]\n"),
        ("missing disks", "memory: 1G\ndisks: [/missing.qcow2, /missing.iso, /dev/missing]\n"),
        ("same disk twice", "memory: 1G\ndisks:\n  - /a.raw\n  - path: /a.raw\n"),
        ("missing firmware", "memory: 1G\nfirmware: {kind: ovmf, code: /missing.fd}\n"),
        ("log of ovmf", "memory: 1G\nfirmware: {kind: ovmf, log: true}\n"),
        ("code of seabios", "memory: 1G\nfirmware:\n  kind: seabios\n  code: /a\n"),
        ("unknown card", "memory: 1G\ngpu: radoen\n"),
        ("half an address", "memory: 1G\ngpu: \"01:00\"\n"),
        ("no PCI Express", "memory: 1G\ngpu: radeon\nmachine: pc\n"),
        ("host CPU in software", "memory: 1G\naccel: tcg\ncpu: host\n"),
        ("long bridge", "memory: 1G\nnetwork: {bridge: bridge-of-the-house}\n"),
        ("no time to stop", "memory: 1G\nstop: {deadline: 0s}\n"),
        ("endless stop", "memory: 1G\nstop: {deadline: 2d}\n"),
        ("another name", "memory: 1G\nname: games\n"),
        ("missing QEMU", "memory: 1G\nqemu: /missing/qemu\n"),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        let _ = writeln!(all, "## {what}\n{}\n", of_vm(text));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_kind_of_mistake_in_host_yaml() {
    let cases = [
        ("not in this version", "relay: {}\nnotify: []\n"),
        ("off loopback", "events: {tcp: \"0.0.0.0:5555\", udp: off}\n"),
        ("port alone", "events: {tcp: 5555}\n"),
        ("boolean for off", "events: {tcp: false}\n"),
        ("host name for address", "events: {udp: localhost:5555}\n"),
        (
            "ports for anybody",
            "events:\n  udp: 0.0.0.0:5555\n  graphite: 0.0.0.0:5555\n  websocket: \"[::]:5556\"\n",
        ),
        ("networks that are none", "events: {tcp: 0.0.0.0:5555, allow: [10.0.0.1/8, lan]}\n"),
        ("TLS without its files", "events: {tls: 0.0.0.0:5554, key: /missing/key}\n"),
        ("page for anybody", "web: {listen: 0.0.0.0:9555, origins: [HTTP://Grafana/x]}\n"),
        (
            "same card twice",
            "gpus:\n  - {name: a, address: 01:00.0}\n  - {name: a, address: 01:00.1}\n",
        ),
        ("libvirt's address", "gpus:\n  - {name: a, address: pci_0000_01_00_0}\n"),
        ("wrong ids", "gpus:\n  - {name: a, address: 01:00.0, identity: \"[0x1002:0x5046]\"}\n"),
        ("ids as a number", "gpus:\n  - {name: a, address: 01:00.0, identity: 1002}\n"),
        ("same pool twice", "pools: {expected: [tank, tank]}\n"),
        ("disks too often", "disks: {interval: 5s, ignore: [S1, S1]}\n"),
        ("pool that cannot be", "pools: {expected: [1tank]}\n"),
        ("same pool's scrub twice", "care: {scrub: [{pool: tank}, {pool: tank, on: monday}]}\n"),
        (
            "scrubs that cannot be",
            "care:\n  scrub:\n    - {pool: a, every: weekly, at: 2am}\n    \
          - {pool: b, every: week, day: 3}\n    - {pool: c, on: sunday, day: 3}\n    \
          - {pool: d, every: 10d, on: friday}\n    - {pool: e, until: \"02:00\"}\n    \
          - {pool: f, not-while: [games]}\n",
        ),
        (
            "snapshots that cannot be",
            "care:\n  snapshots:\n    \
          - {dataset: /tank, keep: {daily: 1}}\n    - {dataset: tank/a}\n    \
          - {dataset: tank/b, keep: {hourly: 0}}\n    \
          - {dataset: tank/c, recursive: true, keep: {daily: 1}}\n    \
          - {dataset: tank/c/d, keep: {daily: 1, yearly: 1}}\n",
        ),
        ("same service twice", "services:\n  - {name: s, probe: smb}\n  - {name: s, probe: afp}\n"),
        ("nothing to look at", "services:\n  - name: s\n"),
        ("tcp without port", "services:\n  - {name: s, probe: tcp}\n"),
        ("wrong port once", "services:\n  - {name: s, probe: tcp, address: plex}\n"),
        ("unused address", "services:\n  - {name: s, unit: a.service, address: \"127.0.0.1:1\"}\n"),
        ("keys of other probes", "services:\n  - {name: s, probe: smb, page: /, token-file: /t}\n"),
        ("no command", "services:\n  - {name: s, probe: command}\n"),
        ("tls without port", "services:\n  - {name: s, probe: tls}\n"),
        ("mount elsewhere", "services:\n  - {name: s, path: /tank/media, mount: /other}\n"),
        ("unit without kind", "services:\n  - {name: s, unit: smbd}\n"),
        ("fast probe", "services:\n  - {name: s, probe: smb, interval: 2s}\n"),
        ("slow deadline", "services:\n  - {name: s, probe: smb, interval: 2s, deadline: 5s}\n"),
        ("folder not there", "services:\n  - {name: s, path: /missing}\n"),
        ("folder is a file", "services:\n  - {name: s, path: /etc/passwd}\n"),
        ("critical first", "health: {cpu: {warning: 99}}\n"),
        ("more than all", "health: {disk: {critical: 101}}\n"),
        ("a fraction", "health: {memory: {warning: 0.8}}\n"),
        ("relative mount", "health: {mounts: {ignore: [mnt]}}\n"),
        ("keeps nothing readable", "history: {keep: 10s}\n"),
        ("coarse first", "history: {keep: \"1m:1h, 10s:1d\"}\n"),
        ("no multiple", "history: {keep: \"10s:1h, 25s:1d\"}\n"),
        ("too small a history", "history: {max-size: 1M}\n"),
        ("too seldom", "history: {flush: 2h}\n"),
        ("restart of nothing", "services:\n  - {name: s, probe: smb, restart: {}}\n"),
        (
            "restart without a look",
            "services:\n  - {name: s, unit: a.service, restart: {on: [failed, hung]}}\n",
        ),
        (
            "wrong restarts",
            "services:\n  - name: s\n    unit: a.service\n    restart: {after: 0s, at-most: 0, \
             within: 1s, on: [crashed]}\n",
        ),
        ("too often", "host: {interval: 100ms}\n"),
        ("name with a space", "host: {name: my nas}\n"),
        ("null item", "services:\n  -\n"),
        ("tab", "host:\n\tname: a\n"),
        ("colon", "host:\n  name: a: b\n"),
        ("unclosed bracket", "pools: {expected: [tank\n"),
        ("unclosed quotes", "host: {name: \"a\n"),
        ("twice", "pools:\nhost:\npools:\n"),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        let _ = writeln!(all, "## {what}\n{}\n", of_host(text));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn mistakes_between_files_and_of_files() {
    let mut files = vec![
        Source::host("host.yaml", vec![b'h', b'o', b'\n', b'a', 0xff]),
        Source::vm("vms/a b.yaml", TCG),
        Source::vm("vms/one.yaml", "memory: 1G\ndisks: [/shared.raw]\ngpu: any\n"),
        Source::vm("vms/one.yml", "memory: 1G\n"),
        Source::vm("vms/two.yaml", "memory: 1G\ndisks: [/shared.raw]\n"),
        Source::vm("vms/long.yaml", vec![b'#'; MAX_FILE + 1]),
    ];
    files.push(Source::new("vms/secret.yaml", Role::Vm, Err("permission denied".into())));
    insta::assert_snapshot!(said(&files));
}

#[test]
fn an_empty_file_is_valid_and_so_is_none() {
    for sources in [vec![], vec![Source::host("host.yaml", "")]] {
        let (config, warnings) = load(&sources, &exists).unwrap();
        assert_eq!(config, Config::default());
        assert!(warnings.is_empty());
    }
}

#[test]
fn shipped_files_are_valid() {
    let sources = [Source::host("host.yaml", HOST), Source::vm("tcg.yaml", TCG)];
    let (config, warnings) = load(&sources, &exists).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(config, Config { vms: config.vms.clone(), ..Config::default() });
    assert_eq!(config.vms[0].firmware, Firmware::Seabios { log: true });
    let uncommented: String =
        HOST.lines().skip(11).map(|l| l.replacen("  # ", "  ", 1) + "\n").collect();
    // What is written in comments is right too, with the card that the VM wants.
    let prose = ["Name of", "How often", "Whether", "Refuse"];
    let uncommented: String = uncommented
        .lines()
        .filter(|l| !prose.iter().any(|p| l.trim_start_matches([' ', '#']).starts_with(p)))
        .fold(String::new(), |text, line| text + line + "\n");
    let (config, warnings) = load(&two(&uncommented, GAMING), &exists).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!((config.gpus.len(), config.services.len(), config.vms.len()), (1, 3, 1));
    assert_eq!(config.pools.expected, ["tank"]);
    assert_eq!(config.health.mounts_ignore, ["/mnt/scratch"]);
    insta::assert_snapshot!(show(&config));
}

#[test]
fn what_is_shown_means_the_same() {
    let host = "host: {name: nas, interval: 90s, discover-services: false}\n\
                events: {tcp: off, udp: \"[::]:1\", allow: [10.0.0.0/8, \"fd00::/8\"], tls: 0.0.0.0:2,\n  \
                certificate: /c, key: /k, client-ca: /a, websocket: 0.0.0.0:3, websocket-tls: true,\n  \
                token-file: /t, read-token-file: /r, names: [nas.lan], graphite: 127.0.0.1:4,\n  \
                origins: [\"https://g:1\"]}\n\
                web: {listen: 0.0.0.0:5, token-file: /t, certificate: /c, key: /k, names: [n]}\n\
                disks: {interval: 1h, ignore: [S1, 'naa.5 x']}\n\
                pools: {expected: [a], scrub-overdue: off, capacity: {warning: 70}}\n\
                gpus: [{name: radeon, address: 01:00.0, identity: \"1002:5046\"}]\n\
                care:\n  scrub:\n    - {pool: all}\n    - {pool: a, every: 14d, on: friday, until: '06:00'}\n    \
                - {pool: b, day: 9, not-while: []}\n    - {pool: c, every: 5d, not-while: [vm]}\n  \
                snapshots: [{dataset: a/b, recursive: true, keep: {daily: 7}}]\n\
                services: [{name: a, probe: tcp, address: \"[::1]:80\", path: /tank/media, \
                unit: a.service, restart: {at-most: 2, on: [failed, hung]}}, \
                {name: b, probe: plex, token-file: /etc/plex.token, tls: true, server-name: n}, \
                {name: c, probe: http, page: /a, expect: 'x y', path: /tank/media, mount: /tank}, \
                {name: d, probe: command, command: [/bin/check, -H], user: nobody}, \
                {name: e, probe: tls, address: \"[::1]:993\", server-name: n}]\n";
    let vm = "memory: 1500M\ngpu: 02:00.0\ncpu: 'true'\ndisks: [/a.qcow2, /b.iso, '/c: # d']\n\
              firmware: {kind: ovmf}\nnetwork: {bridge: '1'}\n";
    let (config, _) = load(&two(host, vm), &exists).unwrap();
    let shown = show(&config);
    let (first, second) = shown.split_once("---\n").unwrap();
    let (again, _) = load(&two(first, second), &exists).unwrap();
    assert_eq!(again, config, "{shown}");
}

#[test]
fn pools_that_fill() {
    let text = "pools: {scrub-overdue: 10d, capacity: {warning: 70}}\n";
    let (config, _) = load(&[Source::host("host.yaml", text)], &exists).unwrap();
    assert_eq!(config.pools.scrub_overdue, Some(std::time::Duration::from_secs(10 * 86_400)));
    assert_eq!(config.pools.capacity, Levels::new(0.7, 0.95));
    let text = "pools: {capacity: {warning: 97}}\n";
    let problems = load(&[Source::host("host.yaml", text)], &exists).unwrap_err();
    assert!(problems.to_string().contains("critical before it is a warning"), "{problems}");
}

#[test]
fn levels_of_the_machine() {
    let text = "health:\n  cpu: {warning: 50, critical: 60}\n  load: {critical: 20}\n  \
                memory-pressure: {warning: 5}\n  mounts: {only: [/srv/], ignore: [/tmp]}\n  \
                interfaces: {ignore: [virbr0]}\n";
    let (config, _) = load(&[Source::host("host.yaml", text)], &exists).unwrap();
    let usual = Health::default();
    let health = Health {
        cpu: Levels::new(0.5, 0.6),
        load: Levels::new(3.0, 20.0),
        memory_pressure: Levels::new(0.05, 0.4),
        mounts_only: vec!["/srv".into()],
        mounts_ignore: vec!["/tmp".into()],
        interfaces_ignore: vec!["virbr0".into()],
        ..usual
    };
    assert_eq!(config.health, health);
    let again = [Source::host("host.yaml", show(&config))];
    assert_eq!(load(&again, &exists).unwrap().0, config);
}

#[test]
fn one_wrong_vm_does_not_keep_its_neighbours() {
    let sources = [
        Source::vm("broken.yaml", "memory: lots\n"),
        Source::vm("later.yaml", "memory: 1G\ndisks: [/missing.raw]\n"),
        Source::vm("tcg.yaml", TCG),
    ];
    let Judged { config, problems } = judge(&sources, &exists);
    let names: Vec<_> = config.unwrap().vms.iter().map(|vm| vm.name.to_string()).collect();
    assert_eq!(names, ["later", "tcg"]);
    assert_eq!(problems.errors().count(), 2);
    assert!(problems.in_text());
    let judged = judge(&[Source::host("host.yaml", "hots:\n")], &exists);
    assert_eq!(judged.config, None);
}

#[test]
fn a_file_name_of_any_bytes_is_still_json() {
    let path = Path::new(OsStr::from_bytes(b"vms/\xff\x1b[2J.yaml"));
    let problems = judge(&[Source::vm(path, TCG)], &exists).problems;
    assert!(!problems.to_string().contains('\u{1b}'));
    assert_eq!(problems.json()["problems"][0]["line"], 1);
}

#[test]
fn problems_are_bounded() {
    let text: String = (0..5_000).fold(String::new(), |t, i| t + &format!("k{i}: 1\n"));
    let problems = load(&[Source::host("host.yaml", text)], &exists).unwrap_err();
    assert_eq!((problems.problems.len(), problems.more), (100, 4900));
    assert!(problems.to_string().ends_with("100 problems, and 4900 more not shown"));
}

/// Whatever grows with the square of a file's length takes minutes here.
#[test]
fn a_hostile_megabyte_is_judged_at_once() {
    let keys = |n: usize| (0..n).fold(String::new(), |t, i| t + &format!("key{i}: 1\n"));
    for text in [
        format!("{{{}}}", "a,".repeat(MAX_FILE / 6)),
        keys(10_000),
        format!("services: [{}]", "1,".repeat(20_000)),
        format!("gpus: [{}]", "{name: a},".repeat(6_000)),
        "- ".repeat(MAX_FILE / 2),
        "\"".repeat(MAX_FILE),
    ] {
        let judged = judge(&[Source::host("host.yaml", text)], &exists);
        assert!(!judged.problems.is_empty() && judged.problems.to_string().len() < 64 << 10);
    }
}

/// Lines a problem may name: those of its file.
fn within(problems: &Problems, text: &str) -> Result<(), TestCaseError> {
    let lines = text.split(['\n', '\r']).count();
    for problem in &problems.problems {
        prop_assert!((1..=lines).contains(&problem.line), "{problem} in {text:?}");
        prop_assert!(problem.column >= 1);
        prop_assert!(!problem.message.contains("cannot be understood"), "{problem} in {text:?}");
    }
    let escapes = problems.to_string().contains('\u{1b}');
    prop_assert!(!escapes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let judged = judge(&two("", ""), &exists);
        prop_assert!(judged.problems.problems.len() == 1);
        let sources = [Source::host("h.yaml", bytes.clone()), Source::vm("v.yaml", text)];
        let _ = judge(&sources, &exists).problems.to_string();
    }

    #[test]
    fn arbitrary_text_names_lines_that_exist(text in "([a-z]{1,6}: |\\PC|\\s|[-\\[\\]{}&*'\"|>#%,:]){0,40}") {
        within(&judge(&[Source::host("h.yaml", text.clone())], &exists).problems, &text)?;
        within(&judge(&[Source::vm("v.yaml", text.clone())], &exists).problems, &text)?;
    }

    /// Valid files with a few bytes or lines changed.
    #[test]
    fn mutated_files_name_lines_that_exist(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..6, "[ -~\\n\\t]"), 1..6),
        which in 0usize..3,
    ) {
        let host = "host: {name: nas}\ngpus:\n  - name: a\n    address: 01:00.0\npools:\n  expected: [tank]\n\
                    services:\n  - {name: s, probe: tcp, address: 127.0.0.1:80}\nevents:\n  tcp: off\n";
        let mut text: Vec<char> = [host, GAMING, TCG][which].chars().collect();
        for (index, kind, with) in edits {
            let at = index.index(text.len().max(1));
            let with = with.chars().next().unwrap_or(' ');
            match kind {
                0 if at < text.len() => { text.remove(at); }
                1 => text.insert(at.min(text.len()), with),
                2 if at < text.len() => text[at] = with,
                3 => text.truncate(at),
                4 => { let tail = text[at.min(text.len())..].to_vec(); text.extend(tail); }
                _ => text.insert(at.min(text.len()), '\n'),
            }
        }
        let text: String = text.into_iter().collect();
        let source = if which == 0 { Source::host("f.yaml", text.clone()) } else { Source::vm("f.yaml", text.clone()) };
        within(&judge(&[source], &exists).problems, &text)?;
    }
}

//! Configurations as they lie on a disk.

use std::fs;
use std::path::Path;

use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn problems(file: &Path) -> String {
    let problems = read_config(Path::new("/"), file).err().expect("it cannot be used");
    assert_eq!(config_check(file).unwrap().problems.errors().count(), problems.errors().count());
    problems.to_string()
}

#[test]
fn only_what_is_missing_is_empty() {
    let dir = folder(&[("vms", "a file"), ("file", "")]);
    // Root may read everything, so other ways not to be readable are tried.
    let text = problems(&dir.path().join("host.yaml"));
    assert!(text.contains("vms:1:1: cannot be read: Not a directory"), "{text}");
    let text = problems(&dir.path().join("file/host.yaml"));
    assert!(text.contains("file/host.yaml:1:1: cannot be read: Not a directory"), "{text}");

    let dir = folder(&[]);
    let read = read_config(Path::new("/"), &dir.path().join("host.yaml")).ok().unwrap();
    assert_eq!(read.config, Config::default());
    std::os::unix::fs::symlink("nowhere", dir.path().join("host.yaml")).unwrap();
    let text = problems(&dir.path().join("host.yaml"));
    assert!(text.contains("cannot be read: it does not exist"), "{text}");
}

#[test]
fn why_a_file_cannot_be_read_is_told_once() {
    let dir = folder(&[]);
    fs::create_dir_all(dir.path().join("vms/dir.yaml")).unwrap();
    let text = config_check(&dir.path().join("host.yaml")).unwrap().problems.to_string();
    assert!(text.contains("vms/dir.yaml:1:1: cannot be read: is a directory\n"), "{text}");
    nix::unistd::mkfifo(&dir.path().join("host.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = problems(&dir.path().join("host.yaml"));
    assert!(text.contains("cannot be read: it is a pipe or a device, not a file"), "{text}");
}

#[tokio::test]
async fn the_machine_is_shown_without_a_daemon() {
    let files = [("proc/uptime", "60.5 1.0\n"), ("host.yaml", "health: {cpu: {warning: 0}}\n")];
    let dir = folder(&files);
    let local = Local { sysroot: dir.path().to_owned(), config: dir.path().join("host.yaml") };
    let Ok(Reply::Machine(view)) = answer(&local, &Ask::MachineStatus).await else {
        panic!("nothing is measured")
    };
    assert_eq!((view.readings.len(), view.readings[0].value), (1, Some(60.5)), "{view:?}");
    let notes = view.notes.join("\n");
    assert!(notes.contains("levels of your own are not known"), "{notes}");
}

#[tokio::test]
async fn a_wrong_configuration_is_said_where_it_matters() {
    let dir = folder(&[("host.yaml", "pools: {expcted: [tank]}\n"), ("sys/bus/x", "")]);
    let local = Local { sysroot: dir.path().to_owned(), config: dir.path().join("host.yaml") };
    let Ok(Reply::Pools(view)) = answer(&local, &Ask::PoolStatus { pool: None }).await else {
        panic!("no pools")
    };
    assert!(view.unread && view.notes[1].contains("expected is not known: 1 problem"), "{view:?}");
    let Ok(Reply::Gpus(view)) = answer(&local, &Ask::GpuList).await else { panic!("no cards") };
    let hint = format!("hostctl config check {}", local.config.display());
    assert!(view.notes[0].ends_with(&hint), "{view:?}");
    fs::write(&local.config, "").unwrap();
    let Ok(Reply::Gpus(view)) = answer(&local, &Ask::GpuList).await else { panic!("no cards") };
    assert!(view.notes.is_empty(), "{view:?}");
    fs::write(dir.path().join("sys/bus/pci"), "no folder").unwrap();
    let Ok(Reply::Gpus(view)) = answer(&local, &Ask::GpuList).await else { panic!("no cards") };
    assert!(view.notes[0].contains("/sys/bus/pci/devices: Not a directory"), "{view:?}");
}

#[test]
fn a_vm_file_is_checked_as_one_with_its_host() {
    let dir = folder(&[
        ("host.yaml", "gpus: [{name: card, address: '01:00.0'}]\n"),
        ("vms/gaming.yaml", "{memory: 1G, gpu: card, network: none}\n"),
        ("vms/other.yaml", "memroy: 1G\n"),
    ]);
    let at = |path: &str| config_check(&dir.path().join(path)).unwrap();
    let one = at("vms/gaming.yaml");
    assert_eq!(one.files.len(), 2, "{one:?}");
    assert!(one.problems.is_empty(), "{}", one.problems);
    for all in [at("vms"), at(""), at("host.yaml")] {
        assert_eq!(all.files.len(), 3, "{all:?}");
        assert!(all.problems.to_string().contains("did you mean `memory`?"), "{all:?}");
    }
    assert!(config_show(&dir.path().join("vms/gaming.yaml"), false).is_ok());
    let none = config_show(Path::new("/nonexistent"), false).unwrap_err();
    assert_eq!(none.code, Code::Usage, "{none:?}");

    let host = dir.path().join("host.yaml");
    let read = read_config(Path::new("/"), &host).ok().unwrap();
    let told = &read.wrong[&"other".parse().unwrap()];
    assert!(told.ends_with(&format!("hostctl config check {}", host.display())), "{told}");
    assert!(!read.missing);
}

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

//! The configuration from its files: for the daemon as far as it is sound, for a
//! person with everything that is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ask::{Code, Refusal};
use crate::base::Name;
use crate::config::{self, Config, Existence, Problems, Role, Source, quirks};
use crate::host::Host;
use crate::host::sys::{Kind, SysRoot};
use crate::passthrough::Passthrough;
use crate::vm::plan::preview;
use crate::vm::preflight::Problem;

/// The configuration as the daemon takes it.
pub struct ReadConfig {
    /// What can be used.
    pub config: Config,
    /// VMs whose file is wrong, with all its problems; the last line counts
    /// them and says how to see them again.
    pub wrong: BTreeMap<Name, String>,
    /// Warnings, and what is missing on the machine.
    pub notes: Vec<String>,
    /// Whether there is no `host.yaml`: what is found is watched.
    pub missing: bool,
}

/// Where the configuration is unless somebody says otherwise.
pub const CONFIG: &str = "/etc/hostd/host.yaml";

/// What lies at a path of the machine.
fn existence(sys: &SysRoot, path: &Path) -> Existence {
    match sys.kind(path) {
        Ok(Kind::File | Kind::Block | Kind::Char) => Existence::File,
        Ok(Kind::Folder) => Existence::Folder,
        Err(error) if error.is_missing() => Existence::Missing,
        Ok(Kind::Other) | Err(_) => Existence::Unknown,
    }
}

/// A file of the configuration, if it is there; one that cannot be read is a
/// problem in its place.
fn source(path: &Path, role: Role) -> Option<Source> {
    let folder = SysRoot::new(path.parent().unwrap_or(Path::new("")));
    let name = path.file_name().unwrap_or_default();
    match folder.bytes(name, config::MAX_FILE as u64 + 1) {
        Ok(bytes) => Some(Source::new(path, role, Ok(bytes))),
        // A link that leads nowhere is there.
        Err(error) if error.is_missing() && !folder.exists(name) => None,
        Err(error) => Some(Source::new(path, role, Err(error.why()))),
    }
}

/// `host.yaml`, and the VM files and quirk files beside it. A `host.yaml` that
/// does not exist is an empty one: the daemon then watches what it finds. A file
/// or folder that cannot be read is no such case.
fn sources(file: &Path) -> Vec<Source> {
    let inside = file.join("host.yaml");
    // A person may name the folder.
    let is_folder = matches!(SysRoot::new(file).kind(""), Ok(Kind::Folder));
    let file = if is_folder { &inside } else { file };
    let mut sources: Vec<Source> = source(file, Role::Host).into_iter().collect();
    let folders = [
        (config::vms_folder(file), Role::Vm, Role::Vms),
        (quirks::folder(file), Role::Quirks, Role::Quirks),
    ];
    for (folder, role, unread) in folders {
        match SysRoot::new(&folder).list("") {
            Ok(names) => {
                let files = names.iter().map(|name| folder.join(name));
                let files = files.filter(|path| config::is_vm_file(path));
                sources.extend(files.filter_map(|path| source(&path, role)));
            }
            Err(error) if error.is_missing() => {}
            Err(error) => sources.push(Source::new(folder, unread, Err(error.why()))),
        }
    }
    sources
}

/// How many problems, and the command that shows them.
pub(super) fn see(problems: &Problems, file: &Path) -> String {
    let text = problems.to_string();
    let count = text.lines().last().unwrap_or_default();
    format!("{count}; see them with: hostctl config check{}", argument(file))
}

/// The file as a person has to name it; nothing where it is the usual one.
fn argument(file: &Path) -> String {
    if file == Path::new(CONFIG) {
        return String::new();
    }
    // Who reads this may be in another folder.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    format!(" {}", file.display())
}

/// What the daemon runs on. A wrong VM file costs that VM, a wrong quirk file
/// itself; a wrong
/// `host.yaml` is an error with everything that is wrong in all files.
pub fn read_config(sysroot: &Path, file: &Path) -> Result<ReadConfig, Problems> {
    let (sys, sources) = (SysRoot::new(sysroot), sources(file));
    let exists = |path: &Path| existence(&sys, path);
    let judged = config::judge(&sources, &exists);
    let Some(config) = judged.config else { return Err(judged.problems) };
    let mut wrong: BTreeMap<Name, Problems> = BTreeMap::new();
    let mut notes = Vec::new();
    for problem in judged.problems.problems {
        let is_vm = sources.iter().any(|s| s.role == Role::Vm && s.path == problem.file);
        let name = problem.file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        match name.filter(|_| is_vm) {
            Some(name) if !config.vms.iter().any(|vm| vm.name == name) => {
                wrong.entry(name).or_default().problems.push(problem);
            }
            _ => notes.push(problem.to_string()),
        }
    }
    let hint = format!("; see them with: hostctl config check{}", argument(file));
    let wrong = wrong.into_iter().map(|(name, found)| (name, found.to_string() + &hint)).collect();
    let missing = !sources.iter().any(|source| source.role == Role::Host);
    Ok(ReadConfig { config, wrong, notes, missing })
}

/// What `config check` prints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Checked {
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is wrong in them.
    #[serde(flatten)]
    pub problems: Problems,
}

/// Checks `host.yaml` and the VM files beside it.
pub fn config_check(file: &Path) -> Result<Checked, Refusal> {
    let sources = named(file)?;
    let sys = SysRoot::new("/");
    let judged = config::judge(&sources, &|path| existence(&sys, path));
    let files = sources.into_iter().map(|source| source.path).collect();
    Ok(Checked { files, problems: judged.problems })
}

/// The same, and what of the VMs does not fit this machine: its processors and
/// memory, its QEMU, its cards. All at once, each with its place.
pub async fn config_check_here(file: &Path) -> Result<Checked, Refusal> {
    let mut checked = config_check(file)?;
    let sources = named(file)?;
    let sys = SysRoot::new("/");
    let Some(config) = config::judge(&sources, &|path| existence(&sys, path)).config else {
        return Ok(checked);
    };
    let host = Host::real("/".into(), "/var/lib/hostd".into(), "/run/hostd".into());
    let cards = Passthrough::with_quirks(host.clone(), config.gpus.clone(), config.quirks.clone());
    for vm in &config.vms {
        let of_vm = |source: &&Source| {
            source.role == Role::Vm
                && source.path.file_stem().is_some_and(|stem| stem == vm.name.as_str())
        };
        let Some(source) = sources.iter().find(of_vm) else { continue };
        let problems = match preview(&host, &cards, vm).await {
            Ok(plan) => plan.problems,
            Err(refusal) => vec![Problem::new(refusal.message, refusal.hint)],
        };
        for problem in problems {
            // What is not there was told when the text was checked.
            let end = problem.what.rsplit(": ").next().unwrap_or_default();
            let told =
                |one: &config::Problem| one.file == source.path && one.message.ends_with(end);
            if !checked.problems.problems.iter().any(told) {
                let (what, next) = (&problem.what, &problem.next);
                config::remark(source, problem.key, what, next, &mut checked.problems);
            }
        }
    }
    checked.problems.sort();
    Ok(checked)
}

/// Where a person names the `vms` folder or a file in it: the `host.yaml` that
/// belongs to it, and the file.
fn vm_files(named: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let file = std::path::absolute(named).ok()?;
    let is_vms = |folder: &Path| folder.file_name().is_some_and(|name| name == "vms");
    let beside = |folder: &Path| Some(folder.parent()?.join("host.yaml"));
    match SysRoot::new(file.parent()?).kind(file.file_name()?) {
        // A configuration may itself be kept in a folder of this name.
        Ok(Kind::Folder) if is_vms(&file) && !SysRoot::new(&file).exists("host.yaml") => {
            Some((beside(&file)?, None))
        }
        Ok(Kind::Folder) | Err(_) => None,
        Ok(_) if file.file_name().is_some_and(|name| name == "host.yaml") => None,
        Ok(_) => {
            let folder = file.parent().filter(|folder| is_vms(folder))?;
            Some((beside(folder)?, Some(file.clone())))
        }
    }
}

/// The sources of a file that a person has named: it must be there.
fn named(file: &Path) -> Result<Vec<Source>, Refusal> {
    let sources = match vm_files(file) {
        Some((host, vm)) => {
            let mut sources = sources(&host);
            sources.retain(|source| match &vm {
                Some(vm) => source.role == Role::Host || source.path == *vm,
                None => true,
            });
            sources
        }
        None => sources(file),
    };
    if sources.is_empty() {
        let message = format!("{} does not exist, and no VM files beside it", file.display());
        return Err(Refusal::new(Code::Usage, message, "name the host.yaml to check"));
    }
    Ok(sources)
}

/// The checked configuration with every default filled in, as YAML or JSON.
pub fn config_show(file: &Path, json: bool) -> Result<String, Refusal> {
    let sources = named(file)?;
    match config::load(&sources, &config::not_asked) {
        Ok((config, _)) if json => {
            let vms = config.vms.iter().map(|vm| (vm.name.to_string(), config::show::vm(vm)));
            let vms: serde_json::Map<_, _> = vms.collect();
            pretty(&serde_json::json!({ "host": config::show::host(&config), "vms": vms }))
        }
        Ok((config, _)) => Ok(config::show(&config)),
        Err(problems) => Err(Refusal::new(Code::Usage, problems.to_string(), "")),
    }
}

/// The JSON Schema of `host.yaml` and of VM files.
pub fn config_schema(vm: bool) -> Result<String, Refusal> {
    let schema = if vm { config::schema::vm() } else { config::schema::host() };
    pretty(schema)
}

fn pretty(document: &serde_json::Value) -> Result<String, Refusal> {
    serde_json::to_string_pretty(document)
        .map(|text| text + "\n")
        .map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))
}

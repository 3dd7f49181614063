//! All files together: each is read, checked and judged as far as it is sound.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::across::Shared;
use super::desk::Desk;
use super::page::Page;
use super::problem::{Problem, Problems};
use super::quirks::QuirkFiles;
use super::text::clip_path;
use super::tree::{Place, Trail};
use super::types::{Config, Gpu, Vm};
use super::world::{Exists, Role, Source};
use super::{host, quirks, schema, vm, yaml};
use crate::base::Name;

/// What came of the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What can be used: a VM whose text is wrong is left out, so that it does
    /// not keep its neighbours from running; one whose disk is missing is in,
    /// because the disk may come. `None` when `host.yaml` itself is wrong.
    pub config: Option<Config>,
    /// Everything that was found, warnings included.
    pub problems: Problems,
}

/// All or nothing: the configuration with its warnings, or every problem.
pub fn load(sources: &[Source], exists: Exists<'_>) -> Result<(Config, Problems), Problems> {
    let Judged { config, problems } = judge(sources, exists);
    match config {
        Some(config) if problems.more == 0 && problems.errors().next().is_none() => {
            Ok((config, problems))
        }
        Some(_) | None => Err(problems),
    }
}

/// As much as is sound, and every problem.
pub fn judge(sources: &[Source], exists: Exists<'_>) -> Judged {
    let mut problems = Problems::default();
    let (mut config, mut host_is_wrong, mut gpus) = (Config::default(), false, Some(Vec::new()));
    for (i, source) in sources.iter().filter(|s| s.role == Role::Host).enumerate() {
        let mut page = Page::open(source, &mut problems);
        if i > 0 {
            page.refuse("a second host.yaml", "give one");
        } else {
            let built = page.read(schema::host()).map(|(root, raw)| {
                host::build(raw, &mut Desk { root: &root, exists, page: &mut page })
            });
            gpus = built.as_ref().map(|config| config.gpus.clone());
            config = built.unwrap_or_default();
        }
        host_is_wrong |= page.wrong;
    }
    for source in sources.iter().filter(|s| s.role == Role::Vms) {
        // Nobody knows which VMs there are: this is no configuration.
        host_is_wrong |= Page::open(source, &mut problems).wrong;
    }
    let mut vms = Vms::default();
    for source in sources.iter().filter(|s| s.role == Role::Vm) {
        vms.take(source, gpus.as_deref(), exists, &mut problems);
    }
    for source in sources.iter().filter(|s| s.role == Role::Quirks) {
        config.quirks.take(source, &mut problems);
    }
    config.vms = vms.out;
    config.vms.sort_by(|a, b| a.name.cmp(&b.name));
    problems.sort();
    Judged { config: (!host_is_wrong).then_some(config), problems }
}

/// Adds what somebody who looked at the machine has found, at a key of a file.
pub fn remark(source: &Source, key: &str, message: &str, fix: &str, problems: &mut Problems) {
    let mut page = Page::open(source, problems);
    let trail = Trail::to(key);
    let text = source.content.as_deref().ok().and_then(|bytes| std::str::from_utf8(bytes).ok());
    // Its mistakes were told before.
    let root = text.and_then(|text| yaml::parse(text, &mut |_| {}));
    let place =
        root.filter(|root| root.has(&trail)).map_or(Place::START, |root| root.place(&trail));
    page.report(Problem::new(place, trail, message, fix).machine());
}

/// The VMs so far, and what two of them must not share.
#[derive(Default)]
struct Vms {
    out: Vec<Vm>,
    names: HashMap<Name, PathBuf>,
    shared: Shared,
}

impl Vms {
    fn take(
        &mut self,
        source: &Source,
        gpus: Option<&[Gpu]>,
        exists: Exists<'_>,
        problems: &mut Problems,
    ) {
        let mut page = Page::open(source, problems);
        let name = stem(&source.path);
        if name.is_none() {
            page.refuse(
                "a VM is named by its file, and this file's name cannot be one",
                "rename it: 1–64 letters, digits, `.`, `_`, `-`, then `.yaml`",
            );
        }
        if let Some(first) = name.as_ref().and_then(|name| self.names.get(name)) {
            let message = format!("another file describes this VM: {}", clip_path(first));
            page.refuse(&message, "remove one of them");
        } else if let Some(name) = &name {
            self.names.insert(name.clone(), source.path.clone());
        }
        let Some((root, raw)) = page.read(schema::vm()) else { return };
        let built = vm::build(raw, name, gpus, &mut Desk { root: &root, exists, page: &mut page });
        let Some(vm) = built.filter(|_| !page.wrong) else { return };
        self.shared.compare(&vm, gpus, &mut Desk { root: &root, exists, page: &mut page });
        if page.wrong {
            return;
        }
        self.out.push(vm);
    }
}

impl QuirkFiles {
    /// A wrong file costs only itself.
    fn take(&mut self, source: &Source, problems: &mut Problems) {
        match quirks::read(source) {
            Ok(found) => self.quirks.extend(found),
            Err(wrong) => {
                self.ignored.push(format!("{wrong}; the file is left out"));
                problems.more += wrong.more;
                for problem in wrong.problems {
                    problems.push(|| problem);
                }
            }
        }
    }
}

fn stem(path: &Path) -> Option<Name> {
    path.file_stem()?.to_str()?.parse().ok()
}

//! The boot setup without a daemon: everybody may look, root may change it.

use crate::ask::{Answer, Ask, Code, Refusal, Reply};
use crate::config::Config;
use crate::host::Host;
use crate::host::lock::{Lock, LockError};
use crate::passthrough::Boot;

/// Answers the asks about the boot setup; `wrong` is why the configuration is
/// not known.
pub(super) async fn answer(
    host: Host,
    config: &Config,
    wrong: Option<String>,
    ask: &Ask,
) -> Answer {
    let vms = wrong.is_none().then_some(config.vms.as_slice());
    let boot = Boot::new(host.clone(), config.gpus.clone(), vms);
    // Which cards are meant, and which guests they go to, stands in there.
    if let (Some(why), Ask::BootPlan { remove: false, .. } | Ask::BootSetup { .. }) = (wrong, ask) {
        let message = format!("which cards are configured is not known: {why}");
        return Err(Refusal::new(
            Code::Usage,
            message,
            "`hostctl config check` lists all problems",
        ));
    }
    match ask {
        Ask::BootPlan { gpus, remove } => Ok(Reply::BootPlan(boot.plan(gpus, *remove).await?)),
        Ask::BootSetup { gpus } => {
            let _lock = alone(&host)?;
            Ok(Reply::Done(boot.setup(gpus).await?))
        }
        Ask::BootRemove => {
            let _lock = alone(&host)?;
            Ok(Reply::Done(boot.remove().await?))
        }
        Ask::BootStatus => Ok(Reply::BootStatus(boot.status().await)),
        // The caller sends no others.
        other => Err(Refusal::new(Code::NoDaemon, format!("not about the boot: {other:?}"), "")),
    }
}

/// Only root, and only one: a daemon holds the same lock while it lives.
fn alone(host: &Host) -> Result<Lock, Refusal> {
    if host.sys.is_real() && !rustix::process::geteuid().is_root() {
        let hint = "run it as root, or start hostd: systemctl start hostd";
        return Err(Refusal::new(Code::Denied, "changing the boot setup needs root", hint));
    }
    let fail = |why: String| Refusal::new(Code::Failed, format!("nothing was touched: {why}"), "");
    let dir = host.state.make_dir("").map_err(|error| fail(error.to_string()))?;
    Lock::take(&dir.join("lock")).map_err(|error| match error {
        LockError::Held(path) => {
            let message = format!("another hostd has locked {}", path.display());
            Refusal::new(Code::Refused, message, "ask it, without --socket")
        }
        LockError::Io { .. } => fail(error.to_string()),
    })
}

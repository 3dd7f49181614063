//! One pool read with `zpool`: its status in whichever form this version
//! speaks, then how full it is. The commands run one after the other, so that
//! there is at most one child a pool.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::json::parse_json;
use super::judge::Doubt;
use super::keys::{self, Keys};
use super::list::{COLUMNS, COLUMNS_NEW, Usage, parse_list};
use super::model::Pool;
use super::text::parse_text;
use crate::host::run::{Command, Exit, Output, RunError, Runner};

/// How long one `zpool` may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a listing of all datasets may take.
const KEYS_DEADLINE: Duration = Duration::from_secs(60);

/// The forms of `zpool status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 2.3 and later.
    Json,
    /// Before.
    Text,
}

/// What was read of a pool.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its status.
    pub pool: Pool,
    /// How full it is, or why that is not known.
    pub usage: Result<Usage, String>,
}

/// What is asked of a pool. One part at a time costs one child.
#[derive(Debug, Clone)]
pub enum Want {
    /// Status, then how full it is.
    Both,
    /// Its status; how full it is as it was before.
    Status(Result<Usage, String>),
    /// How full it is; its status as it was before.
    Usage(Box<Pool>),
}

/// Reads `name`. Also returns the form that `zpool` speaks, once that is known.
pub async fn read(
    runner: Arc<dyn Runner>,
    zone: TimeZone,
    name: String,
    format: Option<Format>,
    want: Want,
) -> (Option<Format>, Result<Reading, Doubt>) {
    let before = match want {
        Want::Usage(pool) => {
            let usage = usage(&*runner, &name, format).await;
            return (format, usage.map(|usage| Reading { pool: *pool, usage }));
        }
        Want::Status(usage) => Some(usage),
        Want::Both => None,
    };
    let (format, pool) = status(&*runner, &zone, &name, format).await;
    let pool = match pool {
        Ok(pool) => pool,
        Err(doubt) => return (format, Err(doubt)),
    };
    let usage = match before {
        Some(usage) => Ok(usage),
        None => usage(&*runner, &name, format).await,
    };
    // That its status is known is more than how full it is.
    let usage = usage.unwrap_or_else(|_| Err(format!("`zpool list {name}` has not answered")));
    (format, Ok(Reading { pool, usage }))
}

fn zpool<const N: usize>(args: [&str; N]) -> Command {
    Command::new("zpool", args).deadline(DEADLINE)
}

async fn status(
    runner: &dyn Runner,
    zone: &TimeZone,
    name: &str,
    format: Option<Format>,
) -> (Option<Format>, Result<Pool, Doubt>) {
    let mut format = format;
    let mut broken = None;
    if format != Some(Format::Text) {
        let command = zpool(["status", "-j", "--json-int", name]);
        match runner.run(command.clone()).await {
            Err(error) => return (format, Err(doubt(&error))),
            Ok(output) if is_usage(&output) => format = Some(Format::Text),
            Ok(output) => match output.success(&command) {
                Err(error) => return (format, Err(doubt(&error))),
                Ok(stdout) => {
                    match parse_json(&String::from_utf8_lossy(&stdout), zone) {
                        Ok(pools) => return (Some(Format::Json), pick(pools, name)),
                        // Whole in the other form, perhaps.
                        Err(error) => broken = Some(error.to_string()),
                    }
                }
            },
        }
    }
    let command = zpool(["status", "-pPs", name]);
    let pool = match run(runner, command).await {
        Ok(text) => pick(parse_text(&text, zone), name),
        Err(error) => Err(doubt(&error)),
    };
    let pool = pool.map_err(|doubt| broken.map_or(doubt, Doubt::Unreadable));
    (format, pool)
}

/// The outer error: it hangs.
async fn usage(
    runner: &dyn Runner,
    name: &str,
    format: Option<Format>,
) -> Result<Result<Usage, String>, Doubt> {
    let list = |columns| run(runner, zpool(["list", "-Hp", "-o", columns, name]));
    let text = match format {
        Some(Format::Json) => match list(COLUMNS_NEW).await {
            // A version between: it knows JSON and not these columns.
            Err(RunError::Failed { .. }) => list(COLUMNS).await,
            other => other,
        },
        Some(Format::Text) | None => list(COLUMNS).await,
    };
    Ok(match text {
        Err(error @ RunError::Deadline { .. }) => return Err(doubt(&error)),
        Err(error) => Err(error.to_string()),
        Ok(text) => {
            parse_list(&text, name).ok_or_else(|| format!("`zpool list` has no line about {name}"))
        }
    })
}

/// Reads which keys of `name` are not loaded, which takes as long as it has
/// datasets.
pub async fn keys(runner: Arc<dyn Runner>, name: String) -> Result<Keys, String> {
    let args = ["list", "-Hp", "-r", "-t", "filesystem,volume", "-o", keys::COLUMNS, &name];
    let command = Command::new("zfs", args).deadline(KEYS_DEADLINE);
    keys::parse(&run(&*runner, command).await.map_err(|error| error.to_string())?)
}

async fn run(runner: &dyn Runner, command: Command) -> Result<String, RunError> {
    let stdout = runner.run(command.clone()).await?.success(&command)?;
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn pick(pools: Vec<Pool>, name: &str) -> Result<Pool, Doubt> {
    let found = pools.into_iter().find(|pool| pool.name == name);
    found.ok_or_else(|| Doubt::Unreadable(format!("`zpool status` does not mention {name}")))
}

/// Whether `zpool` did not understand its arguments.
fn is_usage(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    output.exit == Exit::Code(2)
        || output.exit != Exit::Code(0) && (said.contains("option") && said.contains("usage:"))
}

fn doubt(error: &RunError) -> Doubt {
    match error {
        _ if error.is_missing() => Doubt::Missing,
        RunError::Deadline { deadline, stuck, .. } => {
            Doubt::Hangs { waited: *deadline, stuck: *stuck }
        }
        RunError::Failed { stderr, .. }
            if stderr.to_lowercase().contains("permission denied")
                || stderr.contains("must be run as root") =>
        {
            Doubt::Denied(error.to_string())
        }
        RunError::Start { .. } | RunError::Failed { .. } | RunError::TooMuch { .. } => {
            Doubt::Unreadable(error.to_string())
        }
    }
}

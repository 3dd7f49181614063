//! The words of `hostctl event`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::base::span;

/// `hostctl event`.
#[derive(Debug, Subcommand)]
pub enum Event {
    /// The current events that match a query
    ///
    /// Examples:
    ///   hostctl event query 'service = "vm gaming"'
    ///   hostctl event query 'state != "ok" and tagged "hostd"'
    ///   hostctl event query true
    #[command(verbatim_doc_comment)]
    Query {
        /// In Riemann's query language; `true` for all
        query: String,
    },
    /// Events as they come, until Ctrl-C
    ///
    /// For example: hostctl event tail 'state = "critical"'
    ///
    /// With --json: one event a line, as `event query` has them.
    Tail {
        /// In Riemann's query language; all when left out
        #[arg(default_value = "true")]
        query: String,
    },
    /// Recorded events through the configured streams, on a simulated clock
    ///
    /// Works without a daemon and sends nothing anywhere: it prints what would have come
    /// out where. Another configuration is named with --config.
    ///
    /// Example:
    ///   hostctl event query true --json > events.json
    ///   hostctl --config new.yaml event test-stream events.json
    #[command(verbatim_doc_comment)]
    TestStream {
        /// Events as `event query --json` prints them, or one a line; `-` for standard input
        file: PathBuf,
        /// How long the clock goes on after the last event
        #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = span::parse)]
        after: Duration,
    },
    /// Send an event, or many from standard input
    ///
    /// Examples:
    ///   hostctl event send 'backup nas' --state ok --metric 12.5 --ttl 86400
    ///   hostctl event send --stdin <events.jsonl
    ///
    /// They count as another program's: hostd's own events keep their places.
    /// Exit code 5 when one was refused.
    #[command(verbatim_doc_comment)]
    Send(Sent),
}

/// One event.
#[derive(Debug, Args)]
pub struct Sent {
    /// What was measured
    #[arg(required_unless_present = "stdin")]
    pub service: Option<String>,
    /// Of which host [default: the one hostd runs on]
    #[arg(long = "of", value_name = "HOST")]
    pub of: Option<String>,
    /// `ok`, `warning`, `critical`, or a word of your own
    #[arg(long)]
    pub state: Option<String>,
    /// The value
    #[arg(long, allow_negative_numbers = true)]
    pub metric: Option<f64>,
    /// A sentence for people
    #[arg(long)]
    pub description: Option<String>,
    /// A free word; may be given several times
    #[arg(long = "tag")]
    pub tags: Vec<String>,
    /// For how many seconds it counts as current [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub ttl: Option<f32>,
    /// A further key; may be given several times
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = pair)]
    pub attributes: Vec<(String, String)>,
    /// Read events from standard input, one JSON object a line
    #[arg(long, conflicts_with_all = ["service", "of", "state", "metric", "description", "tags", "ttl", "attributes"])]
    pub stdin: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has to look like KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".into()) } else { Ok((key.into(), value.into())) }
}

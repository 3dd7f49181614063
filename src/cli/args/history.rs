//! The words of `hostctl history`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `hostctl history`.
#[derive(Debug, Subcommand)]
pub enum History {
    /// What is kept: hosts and services, and how the history itself goes
    List {
        /// Only those that match, in Riemann's query language
        #[arg(default_value = "true")]
        query: String,
    },
    /// Numbers and states of one service over time
    ///
    /// Examples:
    ///   hostctl history show cpu
    ///   hostctl history show "zpool tank health" --since 30d
    ///   hostctl history show load --since 2026-11-17 --until 2026-11-18T12:00 --csv
    ///
    /// A moment is how long ago (90m, 2d, 3w, 1y) or a date in the local time of
    /// hostd's machine. Percentiles are of all numbers, never of means.
    #[command(verbatim_doc_comment)]
    Show {
        /// What, when
        #[command(flatten)]
        span: Span,
        /// Print the points as comma-separated values
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// The same as a picture
    ///
    /// For example: hostctl history plot cpu --since 7d -o cpu.png
    Plot {
        /// What, when
        #[command(flatten)]
        span: Span,
        /// A file that ends in .svg or .png
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// What, and when.
#[derive(Debug, Clone, Args)]
pub struct Span {
    /// The service, as `hostctl history list` calls it
    pub service: String,
    /// The host in its events; hostd's own, or the only one, when left out
    #[arg(long, value_name = "HOST")]
    pub on: Option<String>,
    /// From when on
    #[arg(long, value_name = "WHEN", default_value = "1d")]
    pub since: String,
    /// Until when; now when left out
    #[arg(long, value_name = "WHEN", default_value = "", hide_default_value = true)]
    pub until: String,
    /// About so many points
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=5000))]
    pub points: u32,
}

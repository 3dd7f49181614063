//! What is remembered from one round to the next; all that matters outlives a
//! restart of hostd.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::ask::ScrubAct;
use crate::base::Timestamp;

/// What is remembered of all jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of scrubs, by pool.
    pub scrubs: BTreeMap<String, Scrub>,
    /// Of snapshots, by the policy's dataset.
    pub snapshots: BTreeMap<String, Kept>,
}

/// What is remembered of a pool's scrubs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrub {
    /// The policy in words: a changed one begins anew.
    pub policy: String,
    /// Since when it is in force; no date before it is made up for.
    pub since: Timestamp,
    /// When hostd has last started one.
    pub started: Option<Timestamp>,
    /// When hostd has paused the one that is under way.
    pub paused: Option<Timestamp>,
    /// Since when the one that is under way is a person's, for hostd to let alone.
    pub by_hand: Option<Timestamp>,
    /// When the last one has ended, whoever began it.
    pub ended: Option<Timestamp>,
    /// When the last one was given up, which a person has done.
    pub canceled: Option<Timestamp>,
    /// When something last kept it waiting.
    #[serde(skip)]
    pub blocked: Option<Timestamp>,
    /// Whether a VM's `performance` has claimed the pause too, and will end it.
    #[serde(skip)]
    pub shared: bool,
    /// When hostd has last done something to it.
    #[serde(skip)]
    pub acted: Option<Timestamp>,
    /// What went wrong with it last.
    #[serde(skip)]
    pub failed: Option<(Timestamp, String)>,
}

/// What is remembered of a dataset's snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Those that hostd has made.
    pub made: BTreeSet<Tag>,
    /// Those that it was about to make when it was last heard of; they may be there.
    pub maybe: BTreeSet<Tag>,
    /// When old ones were last destroyed.
    pub pruned: Option<Timestamp>,
    /// What is to be known of that.
    #[serde(skip)]
    pub told: Option<String>,
    /// What went wrong last.
    #[serde(skip)]
    pub failed: Option<(Timestamp, String)>,
}

impl Memory {
    /// A person has done something to a scrub through hostd.
    pub fn by_hand(&mut self, pool: &str, act: ScrubAct, now: Timestamp) {
        let scrub = self.scrubs.entry(pool.to_owned()).or_default();
        (scrub.paused, scrub.by_hand, scrub.acted) = (None, Some(now), Some(now));
        if act == ScrubAct::Stop {
            scrub.canceled = Some(now);
        }
    }

    /// What came of an act of ours on a scrub.
    pub fn scrubbed(
        &mut self,
        pool: &str,
        act: ScrubAct,
        result: Result<(), String>,
        now: Timestamp,
    ) {
        let scrub = self.scrubs.entry(pool.to_owned()).or_default();
        scrub.acted = Some(now);
        if let Err(why) = result {
            scrub.failed = Some((now, why));
            return;
        }
        scrub.failed = None;
        match act {
            ScrubAct::Start if scrub.paused.take().is_none() => {
                (scrub.started, scrub.by_hand) = (Some(now), None);
            }
            ScrubAct::Start => {}
            ScrubAct::Pause => (scrub.paused, scrub.shared) = (Some(now), false),
            ScrubAct::Stop => scrub.started = None,
        }
    }

    /// A snapshot is about to be made: this has to be kept before it is, for
    /// only what is known here is ever destroyed.
    pub fn making(&mut self, dataset: &str, tag: Tag) {
        self.snapshots.entry(dataset.to_owned()).or_default().maybe.insert(tag);
    }

    /// What came of it. `surely`: a failure left nothing behind.
    pub fn made(
        &mut self,
        dataset: &str,
        tag: Tag,
        result: Result<(), String>,
        surely: bool,
        now: Timestamp,
    ) {
        let kept = self.snapshots.entry(dataset.to_owned()).or_default();
        match result {
            Ok(()) => {
                kept.maybe.remove(&tag);
                kept.made.insert(tag);
                kept.failed = None;
            }
            Err(why) => {
                kept.failed = Some((now, why));
                if surely {
                    kept.maybe.remove(&tag);
                }
            }
        }
    }
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An hour.
    Hourly,
    /// A day.
    Daily,
    /// A week.
    Weekly,
    /// A month.
    Monthly,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly];

    /// As it stands in names and in the mark.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }
}

/// What a snapshot of hostd's policies is called:
/// `hostd-auto-daily-2026-11-23T0200Z`. Those of VMs never begin so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag {
    /// Which of the policy's.
    pub kind: Kind,
    /// Minutes since 1970.
    minute: i64,
}

/// How the names of all begin.
pub const PREFIX: &str = "hostd-auto-";

impl Tag {
    /// One that is made now; `None` beyond the years 1970 to 9999.
    pub fn new(kind: Kind, now: Timestamp) -> Option<Self> {
        let tag = Self { kind, minute: now.secs().div_euclid(60) };
        // What cannot be read back would never be destroyed.
        (tag.to_string().parse() == Ok(tag)).then_some(tag)
    }

    /// The minute in which it was made.
    pub fn at(self) -> Timestamp {
        Timestamp::from_secs(self.minute.saturating_mul(60))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_second(self.at().secs()).unwrap_or(jiff::Timestamp::MIN);
        write!(f, "{PREFIX}{}-{}", self.kind.as_str(), at.strftime("%Y-%m-%dT%H%MZ"))
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.to_string()
    }
}

impl TryFrom<String> for Tag {
    type Error = NotATag;

    fn try_from(text: String) -> Result<Self, NotATag> {
        text.parse()
    }
}

/// A name that hostd's policies never give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot's name as hostd makes it")]
pub struct NotATag;

impl FromStr for Tag {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let (kind, at) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or(NotATag)?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or(NotATag)?;
        let bytes = at.as_bytes();
        let form = b"dddd-dd-ddTddddZ";
        let fits = |(want, is): (&u8, &u8)| match want {
            b'd' => is.is_ascii_digit(),
            other => is == other,
        };
        if bytes.len() != form.len() || !form.iter().zip(bytes).all(fits) {
            return Err(NotATag);
        }
        let number = |from: usize, to: usize| {
            at.get(from..to).and_then(|digits| digits.parse::<i16>().ok()).ok_or(NotATag)
        };
        let small = |from, to| number(from, to).and_then(|n| i8::try_from(n).map_err(|_| NotATag));
        let civil = DateTime::new(
            number(0, 4)?,
            small(5, 7)?,
            small(8, 10)?,
            small(11, 13)?,
            small(13, 15)?,
            0,
            0,
        );
        let at = civil.and_then(|civil| TimeZone::UTC.to_timestamp(civil)).map_err(|_| NotATag)?;
        let minute = at.as_second().div_euclid(60);
        if minute < 0 { Err(NotATag) } else { Ok(Self { kind, minute }) }
    }
}

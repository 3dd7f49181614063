//! Makes the host as the claims want it, and puts back what no claim wants any
//! more. One way for both, so that a hostd that was killed anywhere in between
//! is followed by one that does the rest:
//!
//! 1. everything that is to change is noted with what it is now,
//! 2. the note is kept,
//! 3. what is ours is written and read back,
//! 4. what is as it was is struck from the note.
//!
//! What somebody else has set meanwhile is left alone, and told.

use super::journal::{Entry, Journal, JournalError};
use super::knob::{Hands, Knob, Spelling};
use crate::host::cpus::{self, Cpus};

/// What something should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// This.
    Word(String),
    /// What it was, as far as it is within these; these when nothing of it is.
    Within(Cpus),
    /// So many more than it was.
    More(u64),
}

/// Something that should be otherwise than it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub knob: Knob,
    /// How.
    pub want: Want,
    /// See [`Entry::first`].
    pub first: Option<String>,
}

impl Wanted {
    /// Without a first value on the way back.
    pub fn new(knob: Knob, want: Want) -> Self {
        Self { knob, want, first: None }
    }

    /// What it is set to, from what it was; `None` when that cannot be read.
    fn target(&self, was: &str) -> Option<String> {
        match (&self.want, &self.knob) {
            (Want::Word(word), _) => Some(word.clone()),
            (Want::More(more), _) => {
                Some((was.parse::<u64>().ok()?.checked_add(*more)?).to_string())
            }
            (Want::Within(within), Knob::Attribute { spelling: Spelling::Mask, .. }) => {
                Some(cpus::mask(&inside(&cpus::parse_mask(was)?, within)))
            }
            (Want::Within(within), _) => Some(cpus::list(&inside(&cpus::parse_list(was)?, within))),
        }
    }
}

fn inside(was: &Cpus, within: &Cpus) -> Cpus {
    let both: Cpus = was.intersection(within).copied().collect();
    if both.is_empty() { within.clone() } else { both }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// What could not be made as wanted.
    pub cannot: Vec<String>,
    /// What could not be put back: it stays on record.
    pub left: Vec<String>,
    /// What somebody else has changed.
    pub notes: Vec<String>,
}

/// Makes everything in `scope` as `wanted`. An error means that nothing was
/// touched for want of a note, or that the note could not be closed.
pub fn settle(
    hands: &Hands,
    journal: &mut Journal,
    wanted: &[Wanted],
    scope: fn(&Knob) -> bool,
) -> Result<Settled, JournalError> {
    let mut done = Settled::default();
    for wanted in wanted.iter().filter(|wanted| scope(&wanted.knob)) {
        note(hands, journal, wanted, &mut done);
    }
    let saved = journal.save(&hands.host);
    // Going back without a new line in the note is better than staying: what
    // is on disk leads here again.
    if saved.is_err() && wanted.iter().any(|wanted| scope(&wanted.knob)) {
        return saved.map(|()| done);
    }
    let goal = |entry: &Entry| {
        let found = wanted.iter().find(|wanted| wanted.knob == entry.knob);
        found.and_then(|wanted| wanted.target(&entry.was))
    };
    // Back first, the last change first; then what is new, in its order.
    let mut kept = vec![true; journal.entries.len()];
    for (at, entry) in journal.entries.iter_mut().enumerate().rev() {
        if scope(&entry.knob) && goal(entry).is_none_or(|goal| entry.knob.same(&goal, &entry.was)) {
            kept[at] = put_back(hands, entry, &mut done);
        }
    }
    for (at, entry) in journal.entries.iter_mut().enumerate() {
        if let Some(goal) = goal(entry).filter(|_| scope(&entry.knob))
            && !entry.knob.same(&goal, &entry.was)
        {
            kept[at] = set(hands, entry, &goal, &mut done);
        }
    }
    let mut kept = kept.into_iter();
    journal.entries.retain(|_| kept.next().unwrap_or(true));
    journal.save(&hands.host)?;
    Ok(done)
}

/// Notes what something is and what it will be.
fn note(hands: &Hands, journal: &mut Journal, wanted: &Wanted, done: &mut Settled) {
    let knob = &wanted.knob;
    let mut known = journal.entries.iter_mut();
    if let Some(entry) = known.find(|entry| entry.knob == *knob) {
        if let Some(goal) = wanted.target(&entry.was).filter(|goal| !entry.wrote.contains(goal)) {
            entry.wrote.push(goal);
        }
        return;
    }
    match hands.read(knob) {
        // Not there: nothing to do.
        Ok(None) => {}
        Ok(Some(was)) => match wanted.target(&was) {
            Some(goal) if knob.same(&goal, &was) => {}
            Some(goal) => {
                let (knob, first) = (knob.clone(), wanted.first.clone());
                journal.entries.push(Entry { knob, was, first, wrote: vec![goal], held: false });
            }
            None => done.cannot.push(format!("{}: it says `{}`", knob.words(), brief(&was))),
        },
        Err(error) => done.cannot.push(format!("{}: {error}", knob.words())),
    }
}

fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a value is what it was or what we have made of it.
fn is_ours(entry: &Entry, now: &str) -> bool {
    let mut all = entry.wrote.iter().chain([&entry.was]).chain(&entry.first);
    if all.any(|value| entry.knob.same(value, now)) {
        return true;
    }
    // The kernel may have found fewer pages than we asked for.
    let number = |text: &String| text.parse::<u64>().ok();
    let most = entry.wrote.iter().filter_map(number).max();
    let is_pages = matches!(&entry.knob, Knob::Attribute { spelling: Spelling::Pages, .. });
    let between = |now: u64| number(&entry.was) <= Some(now) && Some(now) <= most;
    is_pages && now.parse().is_ok_and(between)
}

/// Puts it back; whether it stays on record.
fn put_back(hands: &Hands, entry: &mut Entry, done: &mut Settled) -> bool {
    let knob = &entry.knob;
    let now = match hands.read(knob) {
        Ok(Some(now)) => now,
        Ok(None) => return false,
        Err(error) => {
            done.left.push(format!("{}: {error}", knob.words()));
            return true;
        }
    };
    if knob.same(&now, &entry.was) {
        return false;
    }
    if !is_ours(entry, &now) {
        let now = brief(&now);
        done.notes.push(format!("{} is `{now}` meanwhile: left alone", knob.words()));
        return false;
    }
    let written = entry.first.iter().chain([&entry.was]).try_for_each(|v| hands.write(knob, v));
    let after = hands.read(knob);
    let is_first = |after: &str| entry.first.as_ref().is_some_and(|first| knob.same(first, after));
    match (written, after) {
        (_, Ok(None)) => false,
        (_, Ok(Some(after))) if knob.same(&after, &entry.was) => false,
        // The kernel took the second and shows the first: that is in force.
        (Ok(()), Ok(Some(after))) if is_first(&after) => false,
        (Err(error), _) | (Ok(()), Err(error)) => {
            done.left.push(format!("{} is not `{}` again: {error}", knob.words(), entry.was));
            true
        }
        (Ok(()), Ok(Some(after))) => {
            let after = brief(&after);
            done.left.push(format!("{} is `{after}`, not `{}`", knob.words(), entry.was));
            true
        }
    }
}

/// Sets it; whether it stays on record.
fn set(hands: &Hands, entry: &mut Entry, goal: &str, done: &mut Settled) -> bool {
    let now = match hands.read(&entry.knob) {
        Ok(Some(now)) => now,
        Ok(None) => return false,
        Err(error) => {
            done.cannot.push(format!("{}: {error}", entry.knob.words()));
            return true;
        }
    };
    if entry.knob.same(&now, goal) {
        entry.held = true;
        return true;
    }
    // A person has started the service, or resumed the scrub: it is theirs.
    let by_hand = matches!(entry.knob, Knob::Service { .. } | Knob::Scrub { .. });
    if by_hand && entry.held {
        done.notes.push(format!(
            "{} is `{}` meanwhile: left alone",
            entry.knob.words(),
            brief(&now)
        ));
        return true;
    }
    if !is_ours(entry, &now) {
        let (words, now) = (entry.knob.words(), brief(&now));
        done.notes.push(format!("{words} is `{now}` meanwhile: left alone"));
        return false;
    }
    let written = hands.write(&entry.knob, goal);
    let after = hands.read(&entry.knob);
    let words = entry.knob.words();
    match (written, after) {
        (_, Ok(None)) => return false,
        (_, Ok(Some(after))) if entry.knob.same(&after, goal) => {
            entry.held = true;
            return true;
        }
        (Err(error), _) | (Ok(()), Err(error)) => done.cannot.push(format!("{words}: {error}")),
        (Ok(()), Ok(Some(after))) => {
            done.cannot.push(format!("{words}: the kernel made it `{}`", brief(&after)));
            // Whatever the kernel has made of it came from us.
            if !entry.wrote.contains(&after) {
                entry.wrote.push(after);
            }
        }
    }
    // On record as long as it may be otherwise than it was.
    !matches!(hands.read(&entry.knob), Ok(Some(now)) if entry.knob.same(&now, &entry.was))
}

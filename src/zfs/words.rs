//! The words that ZFS uses for vdevs: kinds, states, reasons, classes. A word
//! that is not known here is kept as it is.

use super::fields::clean;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A word that is not known here; empty when none was said.
            Other(String),
        }

        impl $name {
            /// From the word in the JSON form.
            pub fn of_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Other(clean(other)),
                }
            }

            /// The word in the JSON form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }
    };
}

words! {
    /// What a vdev is made of: `vdev_type`.
    Kind {
        /// A block device.
        Disk = "disk",
        /// A file.
        File = "file",
        /// Copies.
        Mirror = "mirror",
        /// Single to triple parity; how many is in the name.
        Raidz = "raidz",
        /// The same with distributed spares.
        Draid = "draid",
        /// An old device and its replacement.
        Replacing = "replacing",
        /// A failed device and the spares that stand in for it.
        Spare = "spare",
        /// A distributed spare.
        Dspare = "dspare",
        /// A top-level vdev that is not there at all.
        Missing = "missing",
        /// The place of a removed log device.
        Hole = "hole",
        /// The place of a removed vdev, whose data were moved.
        Indirect = "indirect",
    }
}

impl Kind {
    /// From the name that `zpool` gives a vdev.
    pub fn of_name(name: &str) -> Self {
        if name.starts_with("/dev/") {
            return Self::Disk;
        }
        if name.starts_with('/') {
            return Self::File;
        }
        let Some((kind, id)) = name.rsplit_once('-') else { return Self::Disk };
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Disk;
        }
        match kind {
            "mirror" | "replacing" | "spare" | "missing" | "hole" | "indirect" => {
                Self::of_word(kind)
            }
            "raidz" | "raidz1" | "raidz2" | "raidz3" => Self::Raidz,
            _ if kind.starts_with("draid") && kind.contains(':') => Self::Draid,
            _ if kind.starts_with("draid") => Self::Dspare,
            _ => Self::Disk,
        }
    }
}

words! {
    /// The state of a vdev, in the words of the JSON form.
    State {
        /// Works.
        Online = "ONLINE",
        /// Works with less than it should have; a leaf still serves.
        Degraded = "DEGRADED",
        /// Taken out of use by ZFS.
        Faulted = "FAULTED",
        /// Taken out of use by a person.
        Offline = "OFFLINE",
        /// Pulled.
        Removed = "REMOVED",
        /// Cannot be opened; `UNAVAIL` in the text form.
        CantOpen = "CANT_OPEN",
        /// Not opened.
        Closed = "CLOSED",
        /// A spare at work.
        InUse = "INUSE",
        /// A spare at rest.
        Avail = "AVAIL",
    }
}

impl State {
    /// The word that people know from `zpool status`.
    pub fn shown(&self) -> &str {
        match self {
            Self::CantOpen => "UNAVAIL",
            Self::Other(word) if word.is_empty() => "UNKNOWN",
            other => other.as_str(),
        }
    }
}

words! {
    /// Why a vdev is in its state: `aux`.
    Aux {
        /// The device does not open.
        OpenFailed = "OPEN_FAILED",
        /// What is on it is not what should be.
        CorruptData = "CORRUPT_DATA",
        /// Too many members are lost.
        NoReplicas = "NO_REPLICAS",
        /// Members are missing.
        BadGuidSum = "BAD_GUID_SUM",
        /// Its label is missing or invalid.
        BadLabel = "BAD_LABEL",
        /// A spare at work.
        Spared = "SPARED",
        /// Too many errors.
        ErrExceeded = "ERR_EXCEEDED",
        /// I/O failed.
        IoFailure = "IO_FAILURE",
        /// The intent log could not be read.
        BadLog = "BAD_LOG",
        /// Somebody said that it is broken: `zpool offline -f`, the event daemon.
        External = "EXTERNAL",
        /// All its children are offline.
        ChildrenOffline = "CHILDREN_OFFLINE",
    }
}

/// What a top-level vdev is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Data.
    Normal,
    /// Metadata and small blocks.
    Special,
    /// Tables of deduplication.
    Dedup,
    /// The intent log.
    Log,
    /// The second-level read cache.
    Cache,
    /// Hot spares.
    Spare,
}

impl Class {
    /// The word used in views.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Special => "special",
            Self::Dedup => "dedup",
            Self::Log => "log",
            Self::Cache => "cache",
            Self::Spare => "spare",
        }
    }

    /// Whether the pool is lost with it.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::Normal | Self::Special | Self::Dedup)
    }
}

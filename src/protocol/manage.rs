//! The vocabulary of managing a server: what is asked for by name, and the refusals that nothing
//! else has. Their texts follow no scheme; scripts compare them whole.

/// What a management command is about. Its arguments are few and rare, so they stay tokens until
/// the command looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// `watch`: events, told as they happen.
    Watch,
    /// `lru_crawler`: walks over everything that is stored.
    Crawler,
    /// `slabs`: how memcached moves memory between its size classes.
    Slabs,
    /// `lru`: how memcached divides its lists.
    Lru,
    /// `extstore`: how memcached uses its disk.
    Extstore,
    /// `refresh_certs`: read the TLS certificates again.
    RefreshCerts,
}

/// Why a management command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `watch` is switched off.
    WatchNotAllowed,
    /// As many watch as may.
    TooManyWatchers,
    /// A watch behind other requests.
    WatchPipelined,
    /// A list of items behind other requests.
    MetadumpPipelined,
    /// A list of keys behind other requests.
    KeyDumpPipelined,
    /// The crawler is enabled already.
    CrawlerEnabled,
    /// The crawler is disabled.
    CrawlerDisabled,
    /// Somebody else crawls.
    CrawlerBusy,
    /// No such size class.
    NoSuchClass,
    /// A list of classes that names none.
    NoClasses,
    /// What cannot be crawled that way.
    NotCrawlable,
    /// A pause of more than a second.
    SleepTooLong,
    /// Listing items is switched off.
    MetadumpNotAllowed,
    /// Listing keys is switched off.
    KeyDumpNotAllowed,
    /// Another crawl took the turn of one that did not get on.
    CrawlLost,
    /// Moving memory from or to a class that is none.
    NoSuchSlabClass,
    /// Moving memory from a class to itself.
    SameSlabClass,
    /// Moving memory from a class that has none to spare.
    NoSparePages,
    /// A window out of bounds.
    WindowOutOfBounds,
    /// Shares of the lists that are too much together.
    SharesTooLarge,
    /// A factor that is not above 0.
    FactorTooSmall,
    /// There are no certificates.
    TlsNotEnabled,
}

impl Area {
    /// The area of a command's name.
    #[must_use]
    pub fn named(command: &[u8]) -> Option<Self> {
        Some(match command {
            b"watch" => Self::Watch,
            b"lru_crawler" => Self::Crawler,
            b"slabs" => Self::Slabs,
            b"lru" => Self::Lru,
            b"extstore" => Self::Extstore,
            b"refresh_certs" => Self::RefreshCerts,
            _ => return None,
        })
    }

    /// Whether `noreply` means what it says.
    #[must_use]
    pub fn can_be_quiet(self) -> bool {
        !matches!(self, Self::Watch | Self::RefreshCerts)
    }
}

impl Refusal {
    /// The reply.
    #[must_use]
    pub fn line(self) -> &'static [u8] {
        match self {
            Self::WatchNotAllowed => b"CLIENT_ERROR watch commands not allowed\r\n",
            Self::TooManyWatchers => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
            Self::WatchPipelined => b"ERROR cannot pipeline other commands before watch\r\n",
            Self::MetadumpPipelined => b"ERROR cannot pipeline other commands before metadump\r\n",
            Self::KeyDumpPipelined => b"ERROR cannot pipeline other commands before mgdump\r\n",
            Self::CrawlerEnabled => b"ERROR failed to start lru crawler thread\r\n",
            Self::CrawlerDisabled => b"CLIENT_ERROR lru crawler disabled\r\n",
            Self::CrawlerBusy => b"BUSY currently processing crawler request\r\n",
            Self::NoSuchClass => b"BADCLASS invalid class id\r\n",
            Self::NoClasses => b"NOTSTARTED no items to crawl\r\n",
            Self::NotCrawlable => b"ERROR an unknown error happened\r\n",
            Self::SleepTooLong => b"CLIENT_ERROR sleep must be one second or less\r\n",
            Self::MetadumpNotAllowed => b"ERROR metadump not allowed\r\n",
            Self::KeyDumpNotAllowed => b"ERROR key dump not allowed\r\n",
            Self::CrawlLost => b"ERROR locked try again later\r\n",
            Self::NoSuchSlabClass => b"BADCLASS invalid src or dst class id\r\n",
            Self::SameSlabClass => b"SAME src and dst class are identical\r\n",
            Self::NoSparePages => b"NOSPARE source class has no spare pages\r\n",
            Self::WindowOutOfBounds => b"CLIENT_ERROR automove window too low or too high\r\n",
            Self::SharesTooLarge => b"ERROR hot and warm pcts must not exceed 80\r\n",
            Self::FactorTooSmall => b"ERROR hot/warm age factors must be greater than 0\r\n",
            Self::TlsNotEnabled => b"Error TLS not enabled\r\n",
        }
    }
}

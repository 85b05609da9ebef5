//! Where options come from, and which of them count: the command line before the environment before
//! the file of `--config` before the defaults.
//!
//! Every line of the file and every variable is a command line of its own, read by the same
//! grammar, so that a complaint can name its place and an option needs to be described once. What
//! is given twice counts where it is given last. Three options may be given several times: `-o`
//! adds up over all places, the strongest of which decide about a suboption in dispute; `-l` and
//! `-v` add up within the strongest place that has any, since who names an address or a verbosity
//! does not ask for another one's as well.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};

use super::args::{self, Args};
use super::words::quote;
use super::{Config, environment, file};
use crate::auth::Authentication;
use crate::failure::Failure;

/// All places that options come from.
#[derive(Debug)]
pub struct Sources {
    command_line: Source,
    file: Option<PathBuf>,
    /// The others, the stronger before the weaker: variables, then lines of the file.
    others: Vec<Source>,
    /// Given by variables, which are no options.
    users: Option<Arc<Authentication>>,
}

impl Sources {
    /// Reads the command line `words`, the program's name first, the variables that `variable`
    /// looks up, and the file that the command line names.
    ///
    /// # Errors
    ///
    /// The first complaint about the grammar, with its place; a file that cannot be read.
    pub fn read<W>(
        words: impl IntoIterator<Item = W>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure>
    where
        W: Into<OsString> + Clone,
    {
        let matches = args::matches(words).map_err(|error| Failure::usage(reason(&error)))?;
        let file: Option<PathBuf> = matches.get_one("config").cloned();
        let command_line =
            Source { layer: Layer::CommandLine, origin: None, settings: settings(&matches) };
        let users = environment::user(&variable)?.map(Arc::new);
        let mut others = environment::read(variable)?;
        if let Some(path) = &file {
            others.extend(file::read(path)?);
        }
        Ok(Self { command_line, file, others, users })
    }

    /// The names of the places besides the command line, the stronger before the weaker.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let variables = self.others.iter().filter(|source| source.layer == Layer::Environment);
        let variables = variables.filter_map(|source| source.origin.clone());
        variables.chain(self.file.iter().map(|path| path.display().to_string())).collect()
    }

    /// What all of it means.
    ///
    /// # Errors
    ///
    /// The first option that cannot be served, with its place where that is not the command line.
    pub fn config(&self) -> Result<Config, Failure> {
        self.config_of(&self.others).map_err(|failure| self.place(failure))
    }

    /// The configuration as a file that `--config` reads: what was given, then the defaults that
    /// `config` shows, as comments, for some follow from what a stronger place may yet give.
    ///
    /// # Errors
    ///
    /// None that [`Self::config`] does not have.
    pub fn render(&self, config: &Config) -> Result<String, Failure> {
        let given = settings(&self.matches(&self.others)?);
        let is_given = |name: &str| given.iter().any(|setting| setting.name == name);
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("# The effective configuration of larder {version}.\n");
        if self.users.is_some() {
            text.push_str(USERS_NOT_SHOWN);
        }
        for setting in given.iter().filter(|setting| !setting.name.is_empty()) {
            text.push_str(&setting.line());
        }
        text.push_str("\n# Defaults.\n");
        for (name, value) in config.defaults().into_iter().filter(|(name, _)| !is_given(name)) {
            let line = Setting::new(name, Some(OsStr::new(&value))).line();
            text.push_str(&format!("# {line}"));
        }
        Ok(text)
    }

    /// Names a place that `failure` comes from: one with which it appears when the others join the
    /// command line one after the other.
    fn place(&self, failure: Failure) -> Failure {
        let fails =
            |count: usize| self.config_of(&self.others[..count]).err().as_ref() == Some(&failure);
        if fails(0) {
            return failure;
        }
        let (mut sound, mut failing) = (0, self.others.len());
        while failing - sound > 1 {
            let middle = sound.midpoint(failing);
            if fails(middle) { failing = middle } else { sound = middle }
        }
        match self.others[..failing].last().and_then(|source| source.origin.as_deref()) {
            Some(origin) => failure.at(origin),
            None => failure,
        }
    }

    fn config_of(&self, others: &[Source]) -> Result<Config, Failure> {
        let args = Args::from_arg_matches(&self.matches(others)?);
        let args = args.map_err(|error| Failure::usage(reason(&error)))?;
        Config::new(&args, self.users.as_ref())
    }

    /// The command line and some of the others as one, the stronger last.
    fn matches(&self, others: &[Source]) -> Result<ArgMatches, Failure> {
        let mut sources: Vec<&Source> = others.iter().chain([&self.command_line]).collect();
        sources.sort_by_key(|source| source.layer);
        let strongest = |name| sources.iter().rev().find(|source| source.gives(name));
        let counts = |source: &Source, name| {
            !REPLACED.contains(&name)
                || strongest(name).is_some_and(|strongest| strongest.layer == source.layer)
        };
        let mut words = vec![OsString::from("larder")];
        for source in &sources {
            let settings = source.settings.iter();
            words.extend(
                settings.filter(|setting| counts(source, &setting.name)).flat_map(Setting::words),
            );
        }
        args::matches(words).map_err(|error| Failure::usage(reason(&error)))
    }
}

/// One place that options come from.
#[derive(Debug)]
pub(super) struct Source {
    layer: Layer,
    /// Its name in a complaint.
    origin: Option<String>,
    settings: Vec<Setting>,
}

/// The weaker before the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    Environment,
    CommandLine,
}

impl Source {
    /// Reads `words` by the grammar of the command line.
    ///
    /// # Errors
    ///
    /// A complaint that names `origin`.
    pub(super) fn new(layer: Layer, origin: String, words: &[String]) -> Result<Self, Failure> {
        let complaint = |reason: String| Failure::usage(reason).at(&origin);
        if words.iter().any(|word| word == "--") {
            return Err(complaint("\"--\" has no meaning here".to_owned()));
        }
        let matches = args::matches(["larder"].into_iter().chain(words.iter().map(String::as_str)))
            .map_err(|error| complaint(reason(&error)))?;
        let misplaced = COMMAND_LINE_ONLY.iter().find(|&&id| is_given(&matches, id));
        if let Some(id) = misplaced {
            let name = id.replace('_', "-");
            return Err(complaint(format!("--{name} belongs on the command line")));
        }
        Ok(Self { layer, settings: settings(&matches), origin: Some(origin) })
    }

    fn gives(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.name == name)
    }
}

/// One option as it was given.
#[derive(Debug)]
struct Setting {
    /// `--port`, or `-D` where that is all there is; nothing for a word that belongs to no option.
    name: String,
    value: Option<OsString>,
}

impl Setting {
    fn new(name: &str, value: Option<&OsStr>) -> Self {
        Self { name: name.to_owned(), value: value.map(OsStr::to_owned) }
    }

    fn words(&self) -> Vec<OsString> {
        let name = OsString::from(&self.name);
        match &self.value {
            None => vec![name],
            Some(value) if name.is_empty() => vec![value.clone()],
            Some(value) if self.name.starts_with("--") => {
                vec![[name.as_os_str(), value].join(OsStr::new("="))]
            }
            Some(value) => vec![name, value.clone()],
        }
    }

    fn line(&self) -> String {
        let value = self.value.as_ref().map(|value| value.to_string_lossy());
        let separator = if self.name.starts_with("--") { '=' } else { ' ' };
        match value {
            None => format!("{}\n", self.name),
            Some(value) => format!("{}{separator}{}\n", self.name, quote(&value)),
        }
    }
}

/// What was given, by the names that options have in the grammar.
fn settings(matches: &ArgMatches) -> Vec<Setting> {
    args::with_grammar(|grammar| {
        let given = grammar.get_arguments().filter(|arg| {
            let id = arg.get_id().as_str();
            !COMMAND_LINE_ONLY.contains(&id) && is_given(matches, id)
        });
        given.flat_map(|arg| settings_of(arg, matches)).collect()
    })
}

fn settings_of(arg: &Arg, matches: &ArgMatches) -> Vec<Setting> {
    let id = arg.get_id().as_str();
    let name = match (arg.get_long(), arg.get_short()) {
        _ if id == "verbose_long" => "-v".to_owned(),
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    };
    match arg.get_action() {
        ArgAction::SetTrue => vec![Setting::new(&name, None)],
        ArgAction::Count => (0..matches.get_count(id)).map(|_| Setting::new(&name, None)).collect(),
        _ => {
            let valued = id != "verbose_long";
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| Setting::new(&name, Some(value).filter(|_| valued))).collect()
        }
    }
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// clap's complaint without what it says about the usage, which is that of the command line.
fn reason(error: &clap::Error) -> String {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return "-h and -V belong on the command line".to_owned();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

const REPLACED: [&str; 2] = ["--listen", "-v"];

const USERS_NOT_SHOWN: &str =
    "# Clients authenticate by SASL, as a user from the environment (MEMCACHED_PASSWORD).\n";

// What is asked of the program rather than of the server.
const COMMAND_LINE_ONLY: [&str; 5] =
    ["config", "check_config", "print_config", "generate", "license"];

#[cfg(test)]
mod tests {
    use super::super::tests::CARRIED_OVER;
    use super::*;

    fn source(layer: Layer, origin: &str, line: &str) -> Source {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Source::new(layer, origin.to_owned(), &words).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The sources that these lines of a file, these flags in a variable, and this command line
    /// make.
    fn sources(file: &[&str], variable: &str, command_line: &str) -> Sources {
        let lines = (1..).zip(file);
        let lines = lines.map(|(number, line)| source(Layer::File, &format!("f:{number}"), line));
        Sources {
            command_line: source(Layer::CommandLine, "", command_line).anonymous(),
            file: None,
            others: [source(Layer::Environment, "FLAGS", variable)]
                .into_iter()
                .chain(lines)
                .collect(),
            users: None,
        }
    }

    impl Source {
        fn anonymous(self) -> Self {
            Self { origin: None, ..self }
        }
    }

    #[test]
    fn the_command_line_counts_before_the_environment_before_the_file() {
        let sources = sources(&["-t 5 -c 5 -m 5", "-t 6", "-I 1m -M"], "-t 7 -c 7", "-t 8");
        let config = sources.config().unwrap();
        assert_eq!((config.threads, config.connections_max), (8, 7));
        assert_eq!((config.memory_bytes, config.evict), (5 << 20, false));
    }

    #[test]
    fn addresses_and_verbosity_are_the_strongest_ones() {
        let file = ["-l 127.0.0.1:1 -v", "-l 127.0.0.2:2 -v -v"];
        let config = |variable, line| sources(&file, variable, line).config().unwrap();
        let listen = |config: &Config| config.listen_typed.clone().unwrap();
        let from_file = config("", "");
        assert_eq!(listen(&from_file), "127.0.0.1:1,127.0.0.2:2");
        assert_eq!(from_file.verbosity, 3);
        let from_line = config("-l 127.0.0.1:3 -v", "-l 127.0.0.1:4 --verbose -v -l 127.0.0.1:5");
        assert_eq!(listen(&from_line), "127.0.0.1:4,127.0.0.1:5");
        assert_eq!(from_line.verbosity, 2);
        assert_eq!(listen(&config("-l 127.0.0.1:3", "-v")), "127.0.0.1:3");
    }

    #[test]
    fn suboptions_add_up_and_the_strongest_decide() {
        let sources =
            sources(&["-o modern,idle_timeout=5"], "-o hashpower=20", "-o idle_timeout=9");
        let config = sources.config().unwrap();
        assert_eq!(config.idle_timeout_seconds, 9);
        assert_eq!(config.without_effect, ["-o modern", "-o hashpower"]);
    }

    #[test]
    fn a_complaint_names_its_place() {
        let table: [(&[&str], &str, &str, &str); 6] = [
            (&["-m 64", "-t 0", "-t 0"], "", "", "f:2: Number of threads"),
            (&["-m 1", "-I 512"], "", "-I 1k", "Item max size: never shown"),
            (&["-m 1", "-I 1m"], "", "", "f:1: Cannot set item size limit higher"),
            (&["-I 33m"], "", "-m 64", "f:1: Cannot set item size limit higher"),
            (&["-c 5"], "-R 0", "", "FLAGS: Number of requests"),
            (&["-c 5", "-t 1"], "", "-c 0", "Maximum connections"),
        ];
        for (file, variable, line, complaint) in table {
            match sources(file, variable, line).config() {
                Ok(_) => assert!(complaint.ends_with("never shown"), "{file:?}"),
                Err(failure) => {
                    assert!(failure.to_string().starts_with(complaint), "{file:?}: {failure}");
                }
            }
        }
    }

    #[test]
    fn what_belongs_to_the_command_line_is_refused_elsewhere() {
        for word in ["--config=x", "--print-config", "--check-config", "-i", "-V", "-h", "--"] {
            let source = Source::new(Layer::File, "f:1".to_owned(), &[word.to_owned()]);
            let failure = source.expect_err(word).to_string();
            assert!(failure.starts_with("f:1: "), "{failure}");
        }
    }

    #[test]
    fn what_is_printed_means_the_same_when_it_is_read() {
        let more = ["-P /a#b", "-D # -P '", "-D = -u \\", "-d -vvv --verbose=2"];
        for line in CARRIED_OVER.iter().chain(&more) {
            let given = sources(&[], "", line);
            let config = given.config().unwrap();
            let printed = given.render(&config).unwrap();
            let lines = printed.lines().map(|line| super::super::words::split(line).unwrap());
            let read: Vec<Source> = lines
                .filter(|words| !words.is_empty())
                .map(|words| Source::new(Layer::File, String::new(), &words).unwrap())
                .collect();
            let read = Sources {
                command_line: source(Layer::CommandLine, "", ""),
                file: None,
                others: read,
                users: None,
            };
            let again = read.config().unwrap();
            let stray = |name: &String| name.starts_with('"');
            let expected = Config {
                without_effect: config
                    .without_effect
                    .iter()
                    .filter(|name| !stray(name))
                    .cloned()
                    .collect(),
                ..config
            };
            assert_eq!(format!("{again:?}"), format!("{expected:?}"), "{line}\n{printed}");
        }
    }
}

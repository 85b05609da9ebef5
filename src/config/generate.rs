//! What packages ship beside the program, made from the command line's own description: the man
//! page and completions for shells.

use std::io;

use clap::ValueEnum;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::args::{self, EXAMPLES, EXIT_CODES, SIGNALS};

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Artifact {
    /// The man page, for section 1
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
}

impl Artifact {
    /// Its text.
    ///
    /// # Panics
    ///
    /// If memory cannot be written to.
    #[must_use]
    pub fn text(self) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Self::Man => man_page(&mut text).expect("writing to memory does not fail"),
            Self::Bash => completions(Shell::Bash, &mut text),
            Self::Zsh => completions(Shell::Zsh, &mut text),
            Self::Fish => completions(Shell::Fish, &mut text),
        }
        text
    }
}

fn completions(shell: Shell, text: &mut Vec<u8>) {
    clap_complete::generate(shell, &mut args::command(), "larder", text);
}

fn man_page(text: &mut Vec<u8>) -> io::Result<()> {
    let version = concat!("larder ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(args::command()).date(REVISED).source(version).manual("User Commands");
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    page.render_options_section(text)?;
    further_sections().to_writer(text)
}

fn further_sections() -> Roff {
    let mut page = Roff::new();
    let [format, precedence] = FILES;
    page.control("SH", ["FILES"]).text([roman(format)]);
    page.control("PP", []).text([roman(precedence)]);
    page.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in ENVIRONMENT {
        define(&mut page, bold(*name), meaning);
    }
    page.control("SH", ["SIGNALS"]).text([roman(SIGNALS)]);
    page.control("SH", ["EXIT STATUS"]).text([roman(EXIT_CODES)]);
    page.control("SH", ["EXAMPLES"]).control("nf", []).text([roman(EXAMPLES)]).control("fi", []);
    page.control("SH", ["SEE ALSO"]).text([
        bold("memcached"),
        roman("(1), "),
        bold("nc"),
        roman("(1)"),
    ]);
    page
}

fn define(page: &mut Roff, term: Inline, meaning: &str) {
    page.control("TP", []).text([term]).text([roman(meaning)]);
}

/// When what the page says changed last; a page without a date is malformed.
const REVISED: &str = "2026-11-23";

const FILES: [&str; 2] = [
    "The file of --config has an option on a line, written as on the command line; quotes and \
     backslashes mean what they mean to a shell, and # begins a comment. That is the form of \
     /etc/memcached.conf on Debian, whose directive \"logfile\" is passed over, as are lines that \
     begin with -d or -h: to run in the background, say --daemon. The variables PORT, USER, \
     MAXCONN, CACHESIZE and OPTIONS of /etc/sysconfig/memcached are understood too.",
    "The command line counts before the environment, the environment before the file. The lists of \
     -o add up. An -l or a -v replaces all those of weaker places.",
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("LARDER_USER", "As -u."),
    ("MEMCACHED_LISTEN_ADDRESS", "As -l."),
    ("MEMCACHED_PORT_NUMBER", "As -p."),
    ("MEMCACHED_CACHE_SIZE", "As -m."),
    ("MEMCACHED_MAX_CONNECTIONS", "As -c."),
    ("MEMCACHED_THREADS", "As -t."),
    ("MEMCACHED_MAX_ITEM_SIZE", "As -I."),
    ("MEMCACHED_SASL_PWDB", "As --sasl-pwdb."),
    (
        "MEMCACHED_PASSWORD",
        "As -S, with one user who has this password instead of a file of users.",
    ),
    ("MEMCACHED_USERNAME", "That user's name, if it is not \"root\"."),
    ("MEMCACHED_EXTRA_FLAGS", "Further options, written as on the command line."),
    ("name_FILE", "For any of the above: a file to read the value from."),
    (
        "MEMCACHED_PORT_FILENAME",
        "A file to write the ports to that the server listens on, one \"TCP INET: 11211\" a line.",
    ),
    ("NOTIFY_SOCKET", "Where a service manager listens for READY=1 and STOPPING=1."),
];

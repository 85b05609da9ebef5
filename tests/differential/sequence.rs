//! What is sent: commands for one connection or two, and how their bytes reach the kernel.

/// The kind of bytes on a connection. The first byte decides, and both text dialects share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Text,
    Binary,
    /// Text in datagrams.
    Datagrams,
    /// Text lines of a client that may be unknown, each of which is answered by one line.
    Login,
    /// Packets of a client that is unknown, who may ask for the version.
    Sasl,
}

impl Wire {
    /// What is sent and answered are packets.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Binary | Self::Sasl)
    }
}

/// Commands in their order, over both connections.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// What each connection speaks.
    pub(crate) wires: [Wire; 2],
    pub(crate) steps: Vec<Step>,
}

/// A command and its delivery.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Which connection it goes to.
    pub(crate) connection: usize,
    pub(crate) command: Command,
    /// Its answer is awaited before anything else is sent.
    pub(crate) awaited: bool,
    /// Its bytes are written by so many at a time, rather than in one write with its neighbours'.
    pub(crate) write_bytes: Option<usize>,
}

/// The bytes of a command, in the parts that shrinking may leave out.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) company: Company,
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// The unique number that this server sent last, or so many before it.
    Cas {
        back: usize,
    },
}

/// What may be under way together with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Any,
    /// Nothing: what came before is answered, and so is this before anything follows.
    Alone,
    /// Nothing before it, and nothing can follow: the server closes the connection.
    Closes,
    /// Nothing before it, and the client sends no more.
    HangsUp,
}

impl Command {
    /// A command whose pieces are literal.
    pub(crate) fn literal(pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let pieces = pieces.into_iter().map(|piece| Piece::Bytes(piece.into())).collect();
        Self { pieces, company: Company::Any }
    }

    pub(crate) fn with(self, company: Company) -> Self {
        Self { company, ..self }
    }

    /// Whether an earlier answer decides what is sent.
    pub(crate) fn depends_on_answers(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Cas { .. }))
    }
}

impl Sequence {
    /// The steps, cut where everything sent so far must be answered before the rest may follow.
    pub(crate) fn groups(&self) -> Vec<&[Step]> {
        let mut groups = Vec::new();
        let mut start = 0;
        for end in 1..=self.steps.len() {
            let last = &self.steps[end - 1];
            if self.steps.get(end).is_none_or(|next| must_await(last, next)) {
                groups.push(&self.steps[start..end]);
                start = end;
            }
        }
        groups
    }
}

fn must_await(step: &Step, next: &Step) -> bool {
    step.awaited
        || step.connection != next.connection
        || step.command.company != Company::Any
        || next.command.company != Company::Any
        || next.command.depends_on_answers()
}

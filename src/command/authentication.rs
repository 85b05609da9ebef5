//! Letting clients in.

use super::Context;
use crate::stats::Count;

/// Whether a client may come in that says this of itself: a user and a password, or nothing that
/// can be understood.
#[must_use]
pub fn authenticate(context: &Context<'_>, credentials: Option<(&[u8], &[u8])>) -> bool {
    context.counters.count(Count::AuthCmds);
    let users = context.shared.config.authentication.as_ref();
    let is_let_in =
        credentials.zip(users).is_some_and(|((user, password), users)| users.check(user, password));
    if !is_let_in {
        context.counters.count(Count::AuthErrors);
    }
    is_let_in
}

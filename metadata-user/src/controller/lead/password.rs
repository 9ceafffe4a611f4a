//! Passwords that guests post: passed on to Nova, and its answer back to the node.

use tracing::warn;

use super::Done;
use crate::api::Written;
use crate::controller::etcd::back_channel::{self, Request};
use crate::controller::etcd::election::Term;
use crate::controller::openstack::{AskError, Urgency};
use crate::controller::queue;
use crate::controller::shared::Shared;

/// Asks Nova to keep a password, and answers the node. A guest whose password Nova cannot be asked to keep is told so, and may try again.
pub(super) async fn pass_on(shared: &Shared, term: &Term, request: Request) -> Done {
    let id = request.instance;
    let written = match post(shared, &request).await {
        Ok(written) => {
            shared.shown.lock().passwords.passed_on += 1;
            written
        }
        Err(error) => {
            shared.shown.lock().passwords.failed += 1;
            warn!(instance = %id, "a guest's password is not kept: {error}");
            Written::Unavailable
        }
    };
    if let Err(error) = back_channel::answer(term, &request, written).await {
        warn!(instance = %id, "the answer to a guest's password cannot be written: {error}");
    }
    if written == Written::Kept {
        shared.push([id], queue::Urgency::Change);
    }
    Done::Nothing
}

async fn post(shared: &Shared, request: &Request) -> Result<Written, AskError> {
    match shared.openstack.server(request.instance, Urgency::Change).await? {
        Some(server) => shared.openstack.post_password(&server, &request.path, &request.password).await,
        None => Ok(Written::Unavailable),
    }
}

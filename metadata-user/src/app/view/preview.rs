//! What a guest would read, for the admin API: which instance is meant, and whether the answer may hold a secret.

use super::{View, named};
use crate::admin::preview::{GuestAnswer, GuestRequest, PreviewError};
use crate::api;
use crate::http::{NoPreview, Preview};

impl View {
    /// Asks in a guest's name. Returns the answer, and whether its body may hold a secret.
    pub(super) async fn read_as_guest(&self, asked: GuestRequest) -> Result<(GuestAnswer, bool), PreviewError> {
        if !asked.has_target() {
            return Err(PreviewError::Target(asked.path));
        }
        let ports: Vec<_> = self.kernel.ports().into_iter().map(|(_, port)| port).collect();
        let instance = named::instance(&asked.instance, &ports, || self.store.all())?;
        let preview = Preview {
            target: &asked.path,
            head: asked.head,
            over_ipv6: asked.over_ipv6,
            unprivileged: asked.unprivileged,
            with_token: !asked.without_token,
        };
        let message = self.guests.preview(instance, &preview).await;
        let message = message.map_err(|error| match error {
            NoPreview::Signed => PreviewError::Signed(asked.path.clone()),
            NoPreview::Broken(error) => PreviewError::Broken(error.to_string()),
        })?;
        let answer = GuestAnswer::parse(&message);
        let answer = answer.ok_or_else(|| PreviewError::Broken("its answer is not HTTP".to_owned()))?;
        // An error tells no secret.
        let may_be_secret = answer.status() == Some(200) && !api::is_public(&asked.path);
        Ok((answer, may_be_secret))
    }
}
